"""A spike, not a design: the least a Python relay can cost while it decodes every event. Run: spike_relay.py PORT (upstream at 127.0.0.1:9001).

asyncio protocols on both sides, httptools for parsing, uvloop for I/O, everything pushed from data_received. No limits, no errors, no endings,
no back-pressure: what remains when those are added is what relay_cost should say of the real thing.
"""
import asyncio
import sys

import httptools
import msgspec
import uvloop

idle = []  # upstream connections that may be used again


class Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Delta(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    choices: list[Choice] = []
    usage: Usage | None = None


decode = msgspec.json.Decoder(Chunk).decode


class Observer:
    __slots__ = ("done", "rest", "usage")

    def __init__(self):
        self.rest, self.done, self.usage = b"", False, None

    def feed(self, data):
        if self.rest:
            data = self.rest + data
        start = 0
        while (end := data.find(b"\n\n", start)) >= 0:
            if data.startswith(b"data: ", start):
                payload = data[start + 6 : end]
                if payload == b"[DONE]":
                    self.done = True
                elif (usage := decode(payload).usage) is not None:
                    self.usage = usage
            start = end + 2
        self.rest = data[start:]


class Upstream(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def ask(self, client, path, body):
        self.client, self.observer, self.out, self.ended = client, Observer(), [], False
        self.parser = httptools.HttpResponseParser(self)
        head = b"POST %b HTTP/1.1\r\nHost: upstream\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (path, len(body))
        self.transport.write(head + body)

    def data_received(self, data):
        self.parser.feed_data(data)
        if self.ended:
            self.out.append(b"0\r\n\r\n")
        if self.out:
            self.client.transport.write(b"".join(self.out))
            self.out.clear()
        if self.ended:
            self.client = None
            idle.append(self)

    def on_headers_complete(self):
        self.out.append(b"HTTP/1.1 %d OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" % self.parser.get_status_code())

    def on_body(self, body):
        self.observer.feed(body)
        self.out += (b"%x\r\n" % len(body), body, b"\r\n")

    def on_message_complete(self):
        self.ended = True

    def connection_lost(self, exc):
        if self in idle:
            idle.remove(self)


class Client(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_message_begin(self):
        self.body = b""

    def on_url(self, url):
        self.url = url

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        if idle:
            idle.pop().ask(self, self.url, self.body)
        else:
            self.dialing = asyncio.ensure_future(self.dial())

    async def dial(self):
        _, upstream = await asyncio.get_running_loop().create_connection(Upstream, "127.0.0.1", 9001)
        upstream.ask(self, self.url, self.body)


async def main():
    server = await asyncio.get_running_loop().create_server(Client, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


uvloop.run(main())
