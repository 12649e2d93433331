"""
What the door relies on in aiohttp, so that an upgrade that changes it says so.

`gateway.web.connection.Connection._hand_over` gives a transport that has been read
from to a protocol of `AppRunner.server`, and counts on the connection being
closed after one answer (`gateway.web.middleware.counted`).
"""

import asyncio
from collections.abc import Callable
from typing import Self

import pytest
import uvloop
from aiohttp import web

LOOK = "aiohttp has changed: see gateway/web/connection.py, _hand_over"
LOOK_AT_CLOSING = "aiohttp has changed: see gateway/web/middleware.py, counted"
GET = b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n"


class Front(asyncio.Protocol):
    """Takes the first bytes, then gives the transport away as the door does."""

    def __init__(self, factory: Callable[[], asyncio.Protocol]) -> None:
        self._factory = factory

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        protocol = self._factory()
        assert isinstance(protocol, asyncio.Protocol), LOOK
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)


class Behind:
    """An application behind a front, and what has been asked of it."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.hanging = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.served.append(request.path)
        response = web.Response(body=await request.read() or b"well")
        response.force_close()
        return response

    async def hang(self, request: web.Request) -> web.Response:
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return web.Response()

    async def exchange(self, *pieces: bytes) -> bytes:
        """Send pieces on one connection; returns all that came back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        return answer

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/hang", self.hang)
        app.router.add_route("*", "/{any:.*}", self.answer)
        self.runner = web.AppRunner(
            app, handler_cancellation=True, shutdown_timeout=0.2
        )
        await self.runner.setup()
        factory = self.runner.server
        assert callable(factory), f"AppRunner.server is no factory; {LOOK}"
        self.server = await asyncio.get_running_loop().create_server(
            lambda: Front(factory), "127.0.0.1", 0
        )
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.runner.cleanup()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def runner(request):
    """Both kinds of loop that the gateway runs on."""
    with asyncio.Runner(loop_factory=request.param) as one:
        yield one


def test_a_protocol_takes_a_transport_that_was_read_from(runner):
    async def ask():
        async with Behind() as behind:
            whole = await behind.exchange(GET % b"a")
            head, _, body = (
                b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n|abc".partition(
                    b"|"
                )
            )
            later = await behind.exchange(head, body[:1], body[1:])
            return whole, later, behind.served

    whole, later, seen = runner.run(ask())

    assert whole.startswith(b"HTTP/1.1 200 OK\r\n"), LOOK
    assert whole.endswith(b"\r\n\r\nwell"), LOOK
    assert later.endswith(b"\r\n\r\nabc"), LOOK
    assert ["/a", "/b"] == seen, LOOK


def test_force_close_ends_the_connection_after_one_answer(runner):
    async def ask():
        async with Behind() as behind:
            answer = await behind.exchange(GET % b"a" + GET % b"b", GET % b"c")
            return answer, behind.served

    answer, seen = runner.run(ask())

    assert 1 == answer.count(b"HTTP/1.1 "), LOOK_AT_CLOSING
    assert b"\r\nConnection: close\r\n" in answer, LOOK_AT_CLOSING
    assert ["/a"] == seen, LOOK_AT_CLOSING


@pytest.mark.parametrize(
    "broken",
    [
        b"GET / HTTP/9\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_broken_bytes_get_a_400_and_a_close(runner, broken):
    async def ask():
        async with Behind() as behind:
            return await behind.exchange(broken), behind.served

    answer, seen = runner.run(ask())

    assert b" 400 " in answer.partition(b"\r\n")[0], LOOK
    assert [] == seen, LOOK


def test_a_handler_is_cancelled_when_its_client_goes(runner):
    async def leave():
        async with Behind() as behind:
            _, writer = await asyncio.open_connection("127.0.0.1", behind.port)
            writer.write(GET % b"hang")
            await behind.hanging.wait()
            writer.transport.abort()
            async with asyncio.timeout(10):
                await behind.cancelled.wait()

    runner.run(leave())


def test_cleanup_ends_connections_that_were_handed_over(runner):
    async def end():
        async with Behind() as behind:
            reader, writer = await asyncio.open_connection("127.0.0.1", behind.port)
            writer.write(GET % b"hang")
            await behind.hanging.wait()
            await behind.runner.cleanup()
            async with asyncio.timeout(10):
                rest = await reader.read()
            writer.close()
            return rest

    assert b"" == runner.run(end()), LOOK
