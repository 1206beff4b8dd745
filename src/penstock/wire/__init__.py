"""Frames without meaning: bytes in, bounded pieces of bytes out. No protocol is known here.

- `sse`: server-sent events, any chunking, any line ending. `array`: the elements of a streamed JSON array.
- `json`: the byte spans of top-level fields, so that one can be changed and no other byte. `encoding`: gzip, incrementally.
- `chunked`: HTTP's chunks as far as they are plain. `budget`: what all of them may hold together. `secrets`: what must never be shown.

Laws: 1 (lossless: frames + tail = input), 2 (chunk-blind), 3 (prompt), 4 (bounded, linear in the input).
Not here: sockets, time, names of protocols.
"""
