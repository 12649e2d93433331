"""The other end of a connection: takes what is written, or has no room for it."""

import asyncio
from typing import Any


class Transport(asyncio.Transport):
    """
    What a client's socket is to the gateway.

    Attributes:
        full: Whether the client has stopped reading.
        waiting: What it was written since, write by write.
        pressed: What of that was written though it was said to be full.
        closing: Whether the gateway has closed it.
        gone: Whether either side is away for good.
    """

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.full = self.closing = self.gone = False
        self.waiting: list[bytes] = []
        self.pressed: list[bytes] = []
        self.protocol: Any = None
        self._arrived: list[bytes] = []
        self._high = 65536
        self._paused = False

    def take(self) -> bytes:
        """Give the client what arrived since it last looked."""
        arrived = b"".join(self._arrived)
        self._arrived.clear()
        return arrived

    def make_room(self) -> None:
        """Let the client read on."""
        self.full = False
        self._arrived += self.waiting
        self.waiting.clear()
        if self._paused:
            self._paused = False
            self.protocol.resume_writing()
        if self.closing:
            self.lose()

    def lose(self) -> None:
        """Let the connection end, and its protocol hear of it, once."""
        if not self.gone:
            self.gone = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def write(self, data: bytes) -> None:  # type: ignore[override]
        if self.gone:
            return
        if self.closing:
            raise AssertionError("written after the close")
        if not self.full:
            self._arrived.append(data)
            return
        self.waiting.append(data)
        if self._paused:
            self.pressed.append(data)
        if not self._paused and self.get_write_buffer_size() > self._high:
            self._paused = True
            self.protocol.pause_writing()

    def set_write_buffer_limits(
        self,
        high: int | None = None,
        low: int | None = None,  # noqa: ARG002 - it drains at once
    ) -> None:
        self._high = 65536 if high is None else high

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.waiting))

    def is_closing(self) -> bool:
        return self.closing or self.gone

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closing = True
        if not self.waiting:
            self.lose()

    def abort(self) -> None:
        self.closing = True
        self.waiting.clear()
        self.lose()
