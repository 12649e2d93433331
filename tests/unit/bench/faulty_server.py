"""
A tiny server of events on one loop, that does wrong what it is told to.

A publication says in its path what is to go wrong with it:
`/publish/<file>/<seq>/<fault>`.
"""

import asyncio
import re
import struct
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.document import document
from bench.server import Kind, post

_HEADS = {
    Kind.SSE: b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
    Kind.WEBSOCKET: b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
}
_CONTENT_LENGTH = re.compile(rb"Content-Length: (\d+)")


def publication(file: int, seq: int, fault: str = "none") -> bytes:
    return post(f"/publish/{file}/{seq}/{fault}", b"{}")


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (
        status.encode(),
        len(body),
        body,
    )


class FaultyServer:
    """
    Serves subscribers of one kind, and whoever publishes.

    Attributes:
        states: What is shown on connect, by file; nothing if it is empty.
        heads: Every head that a subscriber sent, in order.
        pongs: Frames that came back from WebSocket clients.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.states: dict[int, int] = {}
        self.heads: list[bytes] = []
        self.pongs: list[bytes] = []
        self.port = 0
        self._waiting: defaultdict[int, list[asyncio.StreamWriter]] = defaultdict(list)
        self._held_back: list[tuple[int, int]] = []
        self._rows: dict[int, int] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FaultyServer"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writers in self._waiting.values():
                for writer in writers:
                    writer.close()

    def send_all(self, bytes_: bytes) -> None:
        for writers in self._waiting.values():
            for writer in writers:
                writer.write(bytes_)

    def drop(self, file: int) -> None:
        for writer in self._waiting.pop(file):
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while head := await _head(reader):
                method, path, *_ = head.decode().split()
                if method == "POST":
                    length = _CONTENT_LENGTH.search(head)
                    await reader.readexactly(int(length[1]) if length else 0)
                    writer.write(self._publish(path))
                elif path == "/healthz":
                    writer.write(answer(b"well"))
                else:
                    self.heads.append(head)
                    self._subscribe(int(path.rpartition("/")[2]), writer)
                    if self.kind is Kind.WEBSOCKET:
                        await self._listen(reader)
        finally:
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while said := await reader.read(100):
            self.pongs.append(said)

    def _subscribe(self, file: int, writer: asyncio.StreamWriter) -> None:
        if self.kind is Kind.POLLING:
            seq = self._rows.get(file)
            writer.write(answer(document(file, seq) if seq else b"{}"))
            return
        self._waiting[file].append(writer)
        writer.write(_HEADS.get(self.kind, b""))
        if file in self.states:
            writer.write(self._framed(file, self.states[file]))

    def _publish(self, path: str) -> bytes:
        file, seq, fault = re.findall(r"[^/]+", path)[1:]
        if fault == "refused":
            return answer(b'{"title": "too many"}', "503 Service Unavailable")
        if fault == "stale":
            return answer(b'{"outcome": "stale"}')
        for one in self._held_back:
            self._deliver(*one)
        self._held_back.clear()
        times = {"lost": 0, "late": 0, "doubled": 2}.get(fault, 1)
        if fault == "late":
            self._held_back.append((int(file), int(seq)))
        for _ in range(times):
            self._deliver(int(file), int(seq), wrong=fault == "misrouted")
        return answer(b'{"outcome": "applied"}')

    def _deliver(self, file: int, seq: int, *, wrong: bool = False) -> None:
        self._rows[file] = seq
        bytes_ = self._framed(file + wrong, seq)
        writers = self._waiting[file]
        if self.kind is Kind.LONG_POLL:
            self._waiting[file] = []
        for writer in writers:
            writer.write(bytes_)

    def _framed(self, file: int, seq: int) -> bytes:
        event = document(file, seq)
        if self.kind is Kind.SSE:
            return b"id: %d\ndata: %b\n\n" % (seq, event)
        if self.kind is Kind.WEBSOCKET:
            return b"\x81\x7e" + struct.pack(">H", len(event)) + event
        return answer(b'{"events":[%b],"after":%d,"final":false}' % (event, seq))


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
