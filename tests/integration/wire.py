"""A gateway on a loop and a thread of its own, and a client that sends any bytes."""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

TIMEOUT_S = 20
API_KEY = "k" * 40
UPLOADED = b'{"type": "uploaded", "occurred_at": "2026-01-02T03:04:05Z"}'
SSE = {"Accept": "text/event-stream"}

T = TypeVar("T")


@dataclass
class Answer:
    """One response head and its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Wire:
    """A socket that speaks bytes."""

    def __init__(
        self,
        port: int,
        *,
        receive_buffer_bytes: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        plain = socket.socket()
        plain.settimeout(TIMEOUT_S)
        if receive_buffer_bytes:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        plain.connect(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = plain if tls is None else tls.wrap_socket(plain, False, True, True)
        self._unread = b""

    def send(self, data: bytes) -> None:
        """Send everything."""
        self.sock.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """Send every byte by itself."""
        for n in range(len(data)):
            self.sock.sendall(data[n : n + 1])

    def answer(self, *, to_head: bool = False) -> Answer:
        """Read one answer of known length."""
        status, headers = self.head()
        length = int(headers.get("content-length", "0"))
        if to_head or status in {204, 304} or status < 200:
            length = 0
        return Answer(status, headers, self._take(length))

    def head(self) -> tuple[int, dict[str, str]]:
        """Read one head."""
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in lines if line)
        return int(first.split()[1]), {key.lower(): value for key, _, value in pairs}

    def until(self, marker: bytes) -> bytes:
        """Read up to and with `marker`."""
        while marker not in self._unread:
            more = self.sock.recv(65536)
            assert more, f"closed after {self._unread[-2000:]!r}"
            self._unread += more
        return self._take(self._unread.index(marker) + len(marker))

    def rest(self) -> bytes:
        """Read to the end of the connection."""
        while more := self.sock.recv(65536):
            self._unread += more
        return self._take(len(self._unread))

    def rest_or_reset(self) -> bytes:
        """Read to the end of the connection, however it ends."""
        with contextlib.suppress(ConnectionError):
            return self.rest()
        return self._take(len(self._unread))

    def is_silent(self, for_s: float = 0.1) -> bool:
        """Whether nothing comes and nothing ends for a while."""
        self.sock.settimeout(for_s)
        try:
            self._unread += self.sock.recv(65536)
        except TimeoutError:
            return not self._unread
        finally:
            self.sock.settimeout(TIMEOUT_S)
        return False

    def half_close(self) -> None:
        """Send no more, but listen."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Go without a goodbye."""
        linger = struct.pack("ii", 1, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def _take(self, count: int) -> bytes:
        while len(self._unread) < count:
            more = self.sock.recv(65536)
            assert more, f"closed within {self._unread[-2000:]!r}"
            self._unread += more
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken


def request(
    method: str,
    target: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    *,
    version: str = "HTTP/1.1",
) -> bytes:
    """Write a request with the API key on it; a body brings its length."""
    fields = {"Host": "h", "Authorization": f"Bearer {API_KEY}"} | (headers or {})
    if body and "Transfer-Encoding" not in fields:
        fields["Content-Length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"{method} {target} {version}\r\n{lines}\r\n".encode("latin-1") + body


class Served:
    """
    A gateway that listens, seen from outside its loop.

    Attributes:
        gateway: What `make` made; use it through `run`.
        port: Where it listens.
    """

    def __init__(self, gateway: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.gateway = gateway
        self.port = int(gateway.url.rpartition(":")[2])
        self.door = gateway.built._door
        self._loop = loop
        # Its idle connections would be clients that nobody asked for.
        gateway.http.connector._force_close = True

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the gateway's loop."""
        return self.start(work).result(TIMEOUT_S)

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the gateway's loop, beside the test."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def ask(self, question: Callable[[], T]) -> T:
        """Call something on the gateway's loop."""

        async def answer() -> T:
            return question()

        return self.run(answer())

    def until(self, question: Callable[[], object]) -> None:
        """Ask until it is so; the test's timeout is the bound."""
        while not self.ask(question):
            pass

    def wire(self, **how: Any) -> Wire:
        """Connect."""
        return Wire(self.port, **how)

    def new_file(self, **body: Any) -> str:
        """Register a file; returns its id."""
        file_id: str = self.run(self.gateway.new_file(**body))
        return file_id

    def report(self, file_id: str, kind: str = "uploaded", **fields: Any) -> None:
        """Report something that must be accepted."""
        self.run(self.gateway.report(file_id, kind, **fields))

    def events(self, file_id: str) -> int:
        """Count what is stored of a file."""
        sql = "select count(*) from events where file_id = $1"
        ((count,),) = self.run(self.gateway.fetch(sql, file_id))
        return int(count)

    def metrics(self) -> str:
        """Read every metric; counted as a request of its own."""
        with self.wire() as wire:
            wire.send(request("GET", "/metrics"))
            return wire.answer().body.decode()

    def is_base(self) -> bool:
        """Whether nobody is here; call it through `ask`."""
        return not (self.door.connections or len(self.gateway.built.hub))

    def tasks(self) -> int:
        """Count tasks; call it through `ask`."""
        return len(asyncio.all_tasks(self._loop))


def open_files() -> int:
    """Count the file descriptors of this process."""
    return sum(1 for _ in Path("/dev/fd").iterdir())


@contextlib.contextmanager
def served(
    make: Callable[[], AbstractAsyncContextManager[Any]],
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> Iterator[Served]:
    """Serve in a thread for as long as a block runs."""
    ready: Future[tuple[Any, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def live() -> None:
        try:
            async with make() as gateway:
                stop = asyncio.Event()
                ready.set_result((gateway, asyncio.get_running_loop(), stop))
                await stop.wait()
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    def run() -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(live())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        gateway, loop, stop = ready.result(TIMEOUT_S)
        try:
            yield Served(gateway, loop)
        finally:
            loop.call_soon_threadsafe(stop.set)
    finally:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive(), "the gateway does not come to an end"
