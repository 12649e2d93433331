"""
Several gateways on one address, and the process that keeps them.

It opens the sockets and never closes them: what comes while a gateway is replaced
waits in the backlog of its socket, and nobody is refused.  On Linux each place has
a socket of its own and the kernel spreads connections over them (SO_REUSEPORT,
socket(7)); elsewhere, and when systemd passes the sockets, all accept from the same
ones.

SIGHUP replaces one gateway after the other: the new one serves before the old one
drains.  Each is a program of its own, so it has the code and the secret files of
that moment.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gateway.config import Config
from gateway.inherited import listening_sockets, opening
from gateway.place import LIFE_INTERVAL_S, READY
from gateway.systemd import systemd_told
from gateway.telemetry import start_logging

START_LIMIT_S = 60.0
END_LIMIT_S = 15.0
"""A drain takes 5 s at most; whoever is there after this is killed."""

CALM_S = 10.0
"""Who has served that long is replaced at once when it falls."""

MAX_BACKOFF_S = 5.0
SILENCE_LIMIT_S = 30.0
"""Whoever does not say that it lives for so long is killed, as `WatchdogSec=` does."""

_ENOUGH_BYTES = 64

_SYSTEMD = frozenset(
    [
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    ]
)
"""What systemd says to this process, and not to its children."""

_log = logging.getLogger("reelready.processes")


class _NoStartError(Exception):
    """A gateway does not serve; if it could, it has said why."""

    def __init__(self, number: int, why: str, *, code: int = 1) -> None:
        super().__init__(f"process {number} {why}")
        self.code = code


class Processes:
    """
    Keeps gateways.

    Args:
        number: How many.
        host: To listen on, unless systemd passed sockets.
    """

    def __init__(self, number: int, *, host: str, port: int) -> None:
        passed = listening_sockets()
        with opening(host, port):
            sockets = [passed] * number if passed else _opened(host, port, number)
        self._folder = tempfile.TemporaryDirectory(prefix="reelready-")
        self._children: set[_Child] = set()
        self._places = [
            _Place(one, Path(self._folder.name), mine, self._children)
            for one, mine in enumerate(sockets, 1)
        ]

    async def run(self) -> int:
        """Keep them until SIGINT or SIGTERM; returns the exit code."""
        replace = asyncio.Event()
        loop = asyncio.get_running_loop()
        keeping = asyncio.ensure_future(self._keep(replace))
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, keeping.cancel)
        loop.add_signal_handler(signal.SIGHUP, replace.set)
        try:
            await keeping
        except asyncio.CancelledError:
            pass
        except _NoStartError as error:
            _log.critical("%s", error)
            return error.code
        finally:
            # Also those that are being replaced, or have not served yet.
            await asyncio.gather(*(one.end() for one in tuple(self._children)))
            self._folder.cleanup()
        return 0

    async def _keep(self, replace: asyncio.Event) -> None:
        # The first one alone: what it has to complain of shall be said once.
        await self._places[0].start()
        others = (one.start() for one in self._places[1:])
        for failure in await asyncio.gather(*others, return_exceptions=True):
            if failure is not None:
                raise failure
        _log.info("%d processes serve", len(self._places))
        async with systemd_told(), asyncio.TaskGroup() as tasks:
            for one in self._places:
                tasks.create_task(one.keep())
            while True:
                await replace.wait()
                replace.clear()
                await self._replace()

    async def _replace(self) -> None:
        for one in self._places:
            try:
                await one.start()
            except _NoStartError as error:
                _log.error("%s; the one before it goes on", error)
                return
        _log.info("%d processes replaced", len(self._places))


class _Place:
    """The sockets of one gateway, and who accepts from them now."""

    def __init__(
        self,
        number: int,
        folder: Path,
        sockets: Sequence[socket.socket],
        children: "set[_Child]",
    ) -> None:
        self._number = number
        self._folder = folder
        self._sockets = sockets
        self._children = children
        self._serving: _Child | None = None

    async def start(self) -> None:
        """
        Start a gateway; when it serves, end the one before it.

        Raises:
            _NoStartError: It does not serve, so the one before it goes on.
        """
        try:
            new = await _Child.started(self._command(), self._fds())
        except OSError as error:
            why = f"cannot be started: {error}"
            raise _NoStartError(self._number, why) from None
        self._children.add(new)
        serves = False
        try:
            async with asyncio.timeout(START_LIMIT_S):
                serves = await new.serves()
        except TimeoutError:
            why = f"did not serve after {START_LIMIT_S:g} s"
            raise _NoStartError(self._number, why) from None
        finally:
            if not serves:
                await self._end(new)
        if not serves:
            code = new.process.returncode or 1
            why = f"ended with {code} before it served"
            raise _NoStartError(self._number, why, code=code if code > 0 else 1)
        old, self._serving = self._serving, new
        if old is not None:
            await self._end(old)

    async def keep(self) -> None:
        """Start another one whenever the one that serves has fallen."""
        backoff_s = 0.0
        while True:
            serving = self._serving
            if serving is None:
                return
            began_s = time.monotonic()
            code = await serving.ended(self._number)
            if serving is not self._serving:
                continue
            _log.error("process %d ended with %d", self._number, code)
            if time.monotonic() > began_s + CALM_S:
                backoff_s = 0.0
            await asyncio.sleep(backoff_s)
            try:
                await self.start()
            except _NoStartError as error:
                _log.error("%s", error)
            backoff_s = min(MAX_BACKOFF_S, backoff_s * 2 + 0.1)

    async def _end(self, child: "_Child") -> None:
        await child.end()
        self._children.discard(child)

    def _fds(self) -> list[int]:
        return [one.fileno() for one in self._sockets]

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "gateway", "serve"),
            *("--place", str(self._number), "--folder", str(self._folder)),
            *("--sockets", ",".join(map(str, self._fds()))),
        ]


class _Child:
    """A gateway, and the line on which it says that it serves, and lives."""

    def __init__(self, process: Process, line: socket.socket) -> None:
        self.process = process
        self._line = line

    @classmethod
    async def started(cls, command: Sequence[str], fds: Sequence[int]) -> "_Child":
        line, theirs = socket.socketpair()
        line.settimeout(0)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=theirs.fileno(),
                pass_fds=fds,
                env={
                    name: one
                    for name, one in os.environ.items()
                    if name not in _SYSTEMD
                },
            )
        except BaseException:
            line.close()
            raise
        finally:
            theirs.close()
        return cls(process, line)

    async def serves(self) -> bool:
        """Wait until it says so, or ends."""
        said = await asyncio.get_running_loop().sock_recv(self._line, len(READY))
        if said != READY:
            await self.process.wait()
        return said == READY

    async def ended(self, number: int) -> int:
        """Wait until it ends; kill it if it says nothing for too long."""
        loop, said = asyncio.get_running_loop(), READY
        while said:
            began_s = loop.time()
            try:
                async with asyncio.timeout(SILENCE_LIMIT_S):
                    said = await loop.sock_recv(self._line, _ENOUGH_BYTES)
            except TimeoutError:
                if loop.time() - began_s > SILENCE_LIMIT_S + LIFE_INTERVAL_S:
                    # We have not moved ourselves, and so heard nothing.
                    continue
                _log.error(
                    "process %d has not moved for %g s: killed", number, SILENCE_LIMIT_S
                )
                with suppress(ProcessLookupError):
                    self.process.kill()
                break
            except OSError:
                break
        return await self.process.wait()

    async def end(self) -> None:
        """Ask it to go, and see that it does."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(END_LIMIT_S):
                await self.process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        self._line.close()


def keep(number: int, config: Config) -> int:
    """
    Keep so many gateways; blocks.

    Returns:
        The exit code: 0, or that of the first one if it did not serve at all.

    Raises:
        ConfigError: systemd passed no listening sockets.
        OSError: The address is not ours, or in use; naming its settings.
    """
    start_logging()
    return asyncio.run(Processes(number, host=config.host, port=config.port).run())


def _opened(host: str, port: int, number: int) -> list[list[socket.socket]]:
    """
    Listen once for each place, or for all of them.

    Raises:
        OSError: The address is not ours, or in use.
    """
    if not sys.platform.startswith("linux"):
        return [_listening(host, port, shared=False)] * number
    # Sharing an address is for our own: with anybody else's it is in use.
    for alone in _listening(host, port, shared=False):
        alone.close()
    first = _listening(host, port, shared=True)
    port = first[0].getsockname()[1]
    return [first, *(_listening(host, port, shared=True) for _ in range(1, number))]


def _listening(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return [
        socket.create_server(
            address[:2],
            family=family,
            backlog=socket.SOMAXCONN,
            reuse_port=shared,
        )
        for family, _, _, _, address in found
    ]
