"""
What systemd is told, where it asks to be: that we serve, live, and leave.

Source: systemd, sd_notify(3), sd_watchdog_enabled(3).
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from gateway.errors import ConfigError

TELL_LIMIT_S = 1.0
"""It takes what it is told at once; a systemd that is stuck holds up nobody."""

_log = logging.getLogger("reelready.systemd")


@asynccontextmanager
async def systemd_told(environ: Mapping[str, str] = os.environ) -> AsyncIterator[None]:
    """
    Say that we serve for the length of the block, and then that we leave.

    In between, at half the time that ``WatchdogSec=`` sets, this loop says that it
    still turns.

    Raises:
        ConfigError: ``WATCHDOG_USEC`` is not a number of microseconds.
    """
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        yield
        return
    beat_s = _watchdog_s(environ) / 2
    await _tell(address, b"READY=1")
    beating = asyncio.create_task(_beat(address, beat_s), name="watchdog")
    try:
        yield
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating
        await _tell(address, b"STOPPING=1")


async def _beat(address: str, every_s: float) -> None:
    while every_s:
        await _tell(address, b"WATCHDOG=1")
        await asyncio.sleep(every_s)


async def _tell(address: str, what: bytes) -> None:
    """Send one datagram; if nobody takes it, we go on all the same."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.setblocking(False)  # noqa: FBT003 - its only argument
            # An @ stands for the NUL before a name in the abstract namespace.
            systemd.connect("\0" + address[1:] if address[0] == "@" else address)
            async with asyncio.timeout(TELL_LIMIT_S):
                await asyncio.get_running_loop().sock_sendall(systemd, what)
    except OSError as error:
        _log.warning("systemd was not told %s: %s", what.decode(), error)


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """After how long without a word it ends us; 0: never."""
    if environ.get("WATCHDOG_PID") not in {None, str(os.getpid())}:
        return 0.0
    raw = environ.get("WATCHDOG_USEC", "0")
    if not (raw.isascii() and raw.isdigit()):
        raise ConfigError("WATCHDOG_USEC", f"{raw!r} is not a number of microseconds")
    return int(raw) / 1e6
