"""
What must always be answered, whoever else crowds in: each time on a connection of
its own, and from a thread of its own, which the crowd does not hold up.
"""

import asyncio
import re
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from bench.server import get, post
from bench.soak.stage import Stage
from local.environment import LOOPBACK

PATHS = ("/healthz", "/readyz", "/metrics")
LIMIT_S = 10.0

_PAUSE_S = 0.05
_SUBSCRIBERS = re.compile(rb"^reelready_subscribers\{[^}]*\} ([0-9.]+)$", re.MULTILINE)


class Probe:
    """
    Asks for health, the database, the metrics and an ingest, in turns.

    Attributes:
        lags_s: From connecting to the end of the answer.
        happened: Answers and failures, by what was asked.
    """

    def __init__(self, stage: Stage, file_id: str) -> None:
        self.lags_s: list[float] = []
        self.happened: Counter[str] = Counter()
        self._stage = stage
        self._file_id = file_id

    @property
    def failed(self) -> int:
        """How often there was anything but a 200."""
        good = sum(n for what, n in self.happened.items() if what.endswith(" 200"))
        return self.happened.total() - good

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Ask again and again for as long as a block runs."""
        stop = threading.Event()
        work = asyncio.ensure_future(asyncio.to_thread(self._ask_on, stop))
        try:
            yield
        finally:
            stop.set()
            await work

    async def ask(self, what: str, raw: bytes) -> bytes:
        """Send one request, from a thread, and read its answer."""
        return await asyncio.to_thread(self._ask, what, raw)

    async def look(self) -> int:
        """Ask how many clients wait now."""
        answer = await self.ask("/metrics", _get("/metrics"))
        return sum(int(float(one)) for one in _SUBSCRIBERS.findall(answer))

    def report(self) -> bytes:
        """Write a report that is known already; it is read and signed as any."""
        now = datetime.now(UTC).isoformat()
        body = msgspec.json.encode({"type": "uploaded", "occurred_at": now})
        signed = self._stage.known.signed(f"probe-{secrets.token_hex(8)}", body)
        path = f"/v1/files/{self._file_id}/reports"
        return post(path, body, "Connection: close", *signed)

    def _ask_on(self, stop: threading.Event) -> None:
        while not stop.wait(_PAUSE_S):
            for path in PATHS:
                self._ask(path, _get(path))
            self._ask("ingest", self.report())

    def _ask(self, what: str, raw: bytes) -> bytes:
        began_s = time.monotonic()
        answer = b""
        try:
            with socket.create_connection(
                (LOOPBACK, self._stage.port), timeout=LIMIT_S
            ) as sock:
                sock.sendall(raw)
                while more := sock.recv(65536):
                    answer += more
            said = answer[9:12].decode() or "nothing"
        except OSError as error:
            said = type(error).__name__
        self.lags_s.append(time.monotonic() - began_s)
        self.happened[f"{what} {said}"] += 1
        return answer


def _get(path: str) -> bytes:
    return get(path, "Connection: close") + b"\r\n"
