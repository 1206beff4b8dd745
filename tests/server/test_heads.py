"""Which heads are taken, and which are not: smuggling above all."""

from __future__ import annotations

import pytest

from penstock.server.heads import KnownHeads
from tests.support.guests import GuestRim
from tests.support.rim import Rim, get, on_loop

POST = "POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + "Transfer-Encoding: chunked\r\n\r\n"

REFUSED: dict[str, tuple[int, str]] = {
    # framing
    "length and chunked": (400, POST + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunked and length": (400, POST + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
    "two lengths": (400, POST + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    "two same lengths": (400, POST + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    "list of lengths": (400, POST + "Content-Length: 3, 3\r\n\r\nabc"),
    "signed length": (400, POST + "Content-Length: +3\r\n\r\nabc"),
    "negative length": (400, POST + "Content-Length: -3\r\n\r\nabc"),
    "hex length": (400, POST + "Content-Length: 0x3\r\n\r\nabc"),
    "empty length": (400, POST + "Content-Length:\r\n\r\n"),
    "length with a blank in it": (400, POST + "Content-Length: 3 3\r\n\r\nabc"),
    "length over 64 bit": (400, POST + "Content-Length: 99999999999999999999\r\n\r\nabc"),
    "chunked on 1.0": (400, "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "kept chunked on 1.0": (400, "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "coding before chunked": (400, POST + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "coding after chunked": (400, POST + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    "identity": (400, POST + "Transfer-Encoding: identity\r\n\r\n"),
    "chunked twice": (400, POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunked twice in one": (400, POST + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "no coding": (400, POST + "Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
    "coding with a control": (400, POST + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    "quoted coding": (400, POST + 'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n'),
    "coding with a parameter": (400, POST + "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n"),
    "no chunk size": (400, CHUNKED + "\r\nabc\r\n0\r\n\r\n"),
    "word for a chunk size": (400, CHUNKED + "xyz\r\n"),
    "negative chunk size": (400, CHUNKED + "-1\r\n"),
    "prefixed chunk size": (400, CHUNKED + "0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk size and a blank": (400, CHUNKED + "3 \r\nabc\r\n0\r\n\r\n"),
    "chunk size over 64 bit": (400, CHUNKED + "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    "chunk size and LF": (400, CHUNKED + "3\nabc\r\n0\r\n\r\n"),
    "extension and LF": (400, CHUNKED + "3;a=b\nabc\r\n0\r\n\r\n"),
    "bare CR in an extension": (400, CHUNKED + "3;a\rb\r\nabc\r\n0\r\n\r\n"),
    "chunk longer than its size": (400, CHUNKED + "3\r\nabcXX0\r\n\r\n"),
    "length in a trailer": (400, CHUNKED + "3\r\nabc\r\n0\r\nContent-Length: 10\r\n\r\n"),
    # lines and fields
    "folded value": (400, POST + "X: a\r\n b\r\n\r\n"),
    "bare CR in a value": (400, POST + "X: a\rb\r\n\r\n"),
    "CR CR LF": (400, POST + "X: a\r\r\n\r\n"),
    "NUL in a value": (400, POST + "X: a\0b\r\n\r\n"),
    "control in a value": (400, POST + "X: a\x01b\r\n\r\n"),
    "LF alone": (400, POST + "X: a\n\n"),
    "LF alone in the first line": (400, "GET / HTTP/1.1\nHost: x\n\n"),
    "blank before the colon": (400, POST + "Content-Length : 3\r\n\r\nabc"),
    "blank in a name": (400, POST + "X Y: a\r\n\r\n"),
    "blank before a name": (400, "GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
    "NUL in a name": (400, POST + "X\0: a\r\n\r\n"),
    "no name": (400, POST + ": a\r\n\r\n"),
    "no colon": (400, POST + "Xabc\r\n\r\n"),
    # Host
    "no host": (400, "GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
    "two hosts in HTTP/1.0": (400, "GET / HTTP/1.0\r\nHost: x\r\nhOsT: y\r\n\r\n"),
    # first lines
    "HTTP/0.9": (505, "GET /\r\n\r\n"),
    "HTTP/2.0": (505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
    "HTTP/1.2": (400, "GET / HTTP/1.2\r\nHost: x\r\n\r\n"),
    "HTTP/2 without a question": (400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "no method of HTTP": (405, "FOO / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no method of HTTP, and a length": (405, "FOO / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"),
    "longer than a method": (405, "POSTS / HTTP/1.0\r\nHost: x\r\n\r\n"),
    "shorter than a method": (405, "\r\n\r\nGE http://x/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    "all that a method may have": (405, "!#$%&'*+-.^_`|~09Az / HTTP/1.1\r\n\r\n"),
    "no token for a method": (400, "F(O / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no method": (400, " / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a method alone": (400, "FOO\r\nHost: x\r\n\r\n"),
    "no method of HTTP, and no version": (400, "FOO /\r\nHost: x\r\n\r\n"),
    "no method of HTTP, and HTTP/2.0": (400, "FOO / HTTP/2.0\r\nHost: x\r\n\r\n"),
    "no method of HTTP, and LF alone": (400, "FOO / HTTP/1.1\nHost: x\n\n"),
    "no method of HTTP, and a blank in the target": (400, "FOO /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no method of HTTP, and a relative target": (400, "FOO a HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no method of HTTP, and a fragment": (400, "FOO /a#b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no method of HTTP, and a raw byte in the target": (400, "FOO /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a method of RTSP's": (405, "TEARDOWN / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a method of RTSP's, and a relative target": (400, "TEARDOWN a HTTP/1.1\r\nHost: x\r\n\r\n"),
    "small letters": (405, "get / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "TLS": (400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "blank in the target": (400, "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "NUL in the target": (400, "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "raw byte in the target": (400, "GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "relative target": (400, "GET a HTTP/1.1\r\nHost: x\r\n\r\n"),
    "fragment": (400, "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "fragment of an absolute target": (400, "GET http://x/a#b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "asterisk without OPTIONS": (400, "GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    "other scheme": (400, "GET ftp://x/a HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no authority": (400, "GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n"),
    "kept and closed": (400, "POST / HTTP/1.0\r\nConnection: keep-alive, close\r\nContent-Length: 3\r\n\r\nabc"),
    "closed and kept": (400, "GET / HTTP/1.0\r\nConnection: Close\r\nConnection: foo, Keep-Alive\r\n\r\n"),
    "CONNECT of a path": (405, "CONNECT /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"),
    "CONNECT": (405, "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\nrest"),
    # sizes
    "too many fields": (431, POST + "X: 1\r\n" * 100 + "\r\n"),
    "long value": (431, POST + f"X: {'a' * 40000}\r\n\r\n"),
    "long name": (431, POST + f"{'X' * 40000}: a\r\n\r\n"),
    "long target behind no method of HTTP": (431, f"FOO /{'a' * 40000} HTTP/1.1\r\nHost: x\r\n\r\n"),
    "long target": (431, f"GET /{'a' * 40000} HTTP/1.1\r\nHost: x\r\n\r\n"),
    "many long values": (431, POST + f"X: {'a' * 4000}\r\n" * 10 + "\r\n"),
}


@pytest.mark.parametrize("case", REFUSED)
@on_loop
async def test_refused_once_and_closed(case: str) -> None:
    status, text = REFUSED[case]
    data = text.encode("latin-1")
    follower = b"GET /follower HTTP/1.1\r\nHost: x\r\n\r\n"
    middle = len(data) // 2
    for pieces in ([data + follower], [data[:middle], data[middle:], follower], [*(data[i: i + 1] for i in range(len(data))), follower]):
        rim = Rim().feed(*pieces)
        await rim.turns()
        (answer,) = rim.answers()
        assert answer.status == status, (case, answer)
        assert answer.header(b"connection") == b"close"
        assert answer.whole
        assert rim.wire.eof
        assert all(t.request.path == "/" and t.events[-1] == "gone" for t in rim.talks), case


@pytest.mark.parametrize(("case", "words"), [
    ("TLS", "it is TLS, which this listener does not speak; its URL begins with http://."),
    ("HTTP/2 without a question", "this gateway does not speak HTTP/2."),
])
@on_loop
async def test_of_another_protocol_it_is_said_which(case: str, words: str) -> None:
    """It stands in the log and the ledger, where people look for it whose client says `wrong version number`."""
    data = REFUSED[case][1].encode("latin-1")
    for pieces in ([data], [data[i: i + 1] for i in range(len(data))]):
        (answer,) = (await Rim().feed(*pieces).turns()).answers()
        assert f"The request is not valid HTTP/1.1: {words}" in answer.body.decode()


@on_loop
async def test_a_refusal_of_head_has_no_body() -> None:
    answer = Rim().feed(b"HEAD /a HTTP/1.1\r\n\r\n").answers("HEAD")[0]
    assert answer.status == 400
    assert int(answer.header(b"content-length") or 0) > 0


TAKEN: dict[str, tuple[str, tuple[str, str, bytes | None]]] = {
    "origin form": ("GET /a?b=c?d HTTP/1.1\r\nHost: x\r\n\r\n", ("/a", "b=c?d", b"x")),
    "percent stays": ("GET /%2e%2E/%00?%20 HTTP/1.1\r\nHost: x\r\n\r\n", ("/%2e%2E/%00", "%20", b"x")),
    "two slashes": ("GET //evil/x HTTP/1.1\r\nHost: x\r\n\r\n", ("//evil/x", "", b"x")),
    "a target in the path": ("GET /http://evil/x HTTP/1.1\r\nHost: x\r\n\r\n", ("/http://evil/x", "", b"x")),
    "absolute form": ("GET http://y:8/a?b HTTP/1.1\r\nHost: x\r\n\r\n", ("/a", "b", b"y:8")),
    "absolute form with a user": ("GET https://u:p@y/a HTTP/1.1\r\nHost: x\r\n\r\n", ("/a", "", b"y")),
    "absolute form without a path": ("GET http://y HTTP/1.1\r\nHost: x\r\n\r\n", ("/", "", b"y")),
    "absolute form with a query alone": ("GET http://y?a=/b HTTP/1.1\r\nHost: x\r\n\r\n", ("/", "a=/b", b"y")),
    "asterisk": ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", ("*", "", b"x")),
    "blanks around values": ("GET / HTTP/1.1\r\nHost: \t x \t\r\nContent-Length: 0 \r\n\r\n", ("/", "", b"x")),
    "names of any case": ("GET / HTTP/1.1\r\nhOST: x\r\ncontent-LENGTH: 0\r\n\r\n", ("/", "", b"x")),
    "bytes above ASCII in a value": ("GET / HTTP/1.1\r\nHost: x\r\nX: \xe9\r\n\r\n", ("/", "", b"x")),
    "chunked in capitals": ("POST / HTTP/1.1\r\nHost: x\r\nTRANSFER-ENCODING: CHUNKED \r\n\r\n0\r\n\r\n", ("/", "", b"x")),
    "as many fields as may be": ("GET / HTTP/1.1\r\nHost: x\r\n" + "X: 1\r\n" * 99 + "\r\n", ("/", "", b"x")),
    "as long a head as may be": (f"GET / HTTP/1.1\r\nHost: x\r\nX: {'a' * 32600}\r\n\r\n", ("/", "", b"x")),
}


@pytest.mark.parametrize("case", TAKEN)
@on_loop
async def test_taken(case: str) -> None:
    text, (path, query, host) = TAKEN[case]
    data = text.encode("latin-1")
    for rim in (Rim().feed(data), Rim().feed(*(data[i: i + 1] for i in range(len(data))))):
        (talk,) = rim.talks
        assert (talk.request.path, talk.request.query, talk.request.header(b"host")) == (path, query, host)
        assert talk.events[-1] == "end"
        assert [a.status for a in rim.answers()] == [200]


@on_loop
async def test_headers_and_lengths_come_as_they_are() -> None:
    rim = Rim().feed(b"POST / HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a:2\r\nContent-Length: 003\r\n\r\nabc" + get("/2"))
    first, second = rim.talks
    assert first.request.headers == [(b"Host", b"x"), (b"X-A", b"1"), (b"x-a", b"2")]
    assert (first.request.content_length, first.request.chunked, first.request.local) == (3, False, True)
    assert (second.request.content_length, second.request.chunked) == (None, False)


@on_loop
async def test_a_head_that_is_known_by_its_bytes_is_read_as_it_was() -> None:
    def told(rim: Rim) -> list[tuple[str, str, str, object, int | None, bytes]]:
        return [(t.request.method, t.request.path, t.request.query, t.request.headers, t.request.content_length, t.body) for t in rim.talks]

    known, fresh = KnownHeads(), KnownHeads()
    for body in (b"{}", b"", b"x" * 1000, b"GET / HTTP/1.1\r\nHost: y\r\n\r\n"):
        for length in ("Content-Length", "content-length", "CONTENT-LENGTH"):
            request = f"POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Content-Length: 3\r\n{length}: {len(body)}\r\nX: y\r\n\r\n".encode() + body
            rims = [Rim(heads=heads) for heads in (known, fresh)]
            rims[0].feed(request, request)
            rims[1].feed(*(bytes([byte]) for byte in request + request))
            assert told(rims[0]) == told(rims[1])
            assert len(rims[0].talks) == 2
            assert rims[0].wire.out == rims[1].wire.out


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST"])
@pytest.mark.parametrize("length", ["", "Content-Length: 0\r\n"])
@on_loop
async def test_a_known_head_states_a_length_where_it_does(method: str, length: str) -> None:
    """What states none is sent on without one."""
    request = f"{method} / HTTP/1.1\r\nHost: x\r\n{length}\r\n".encode()
    rim = Rim(heads=KnownHeads()).feed(request, request, request)
    assert [talk.request.content_length for talk in rim.talks] == [0 if length else None] * 3


@pytest.mark.parametrize("spoilt", [
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\nabc", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3 3\r\n\r\nabc", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\nX: y\r\n\r\nabc",
])  # fmt: skip
@on_loop
async def test_a_known_head_lends_nothing_to_one_that_is_bad(spoilt: bytes) -> None:
    heads = KnownHeads()
    good = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    Rim(heads=heads).feed(good, good)
    rim = Rim(heads=heads).feed(good, spoilt)
    assert [answer.status for answer in rim.answers()] == [200, 400]


@on_loop
async def test_a_body_that_is_not_all_there_is_waited_for() -> None:
    heads = KnownHeads()
    good = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    rim = Rim(heads=heads).feed(good, good[:-1], good[-1:], good + good, good)
    await rim.turns()
    assert [talk.body for talk in rim.talks] == [b"abc"] * 5


@on_loop
async def test_what_is_known_of_a_head_is_not_shared_between_this_machine_and_others() -> None:
    """What is decided by a head may depend on who sent it: without a credential the address stands for the identity."""
    heads = KnownHeads()
    good = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    addresses = ("::1", "192.0.2.1", "192.0.2.2", "127.0.0.2")
    near, far, far_too, near_too = (GuestRim(address=address, local=False, heads=heads).feed(good) for address in addresses)
    for one, other, alike in ((near, near_too, True), (far, far_too, True), (near, far, False)):
        assert (one.talks[0].request.memo is other.talks[0].request.memo) is alike
    assert [rim.talks[0].request.local for rim in (near, far, far_too, near_too)] == [True, False, False, True]
