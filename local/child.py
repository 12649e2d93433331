"""
A child process that is kept running until it is told to end.

A child that ends by itself is started again, later and later while it keeps
failing, and that is said in one line.  What it prints goes to its log file;
only problems are shown.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from local.settings import StartError
from local.watchdog import GO, Watchdog, held

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_SETTLED_S = 10.0
_GRACE_S = 4.0
_CHUNK_BYTES = 65_536
_QUIET_LEVELS = frozenset({"debug", "info"})


class Child:
    """
    One child: `start`, wait `until` it is up, `stop`.

    Args:
        name: For people, the log file and `children.json`.
        command: Program and arguments.
        env: The whole environment.
        told: What it gets on standard input, whenever that is known; None for
            nothing.  It can use the time for its imports.
        inherits: Open files that it gets, under the same numbers.
        log: File that its output is appended to.
        watchdog: Ends it when this process dies.
        say: Shows one line to the person at the terminal.
        on_change: Called when the pid changes.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        watchdog: Watchdog,
        say: Callable[[str], None],
        on_change: Callable[[], None],
        told: asyncio.Future[bytes] | None = None,
        inherits: Sequence[int] = (),
    ) -> None:
        self.name = name
        self._command = command
        self._env = env
        self._told = told
        self._inherits = inherits
        self._log = log
        self._watchdog = watchdog
        self._say = say
        self._on_change = on_change
        self._process: asyncio.subprocess.Process | None = None
        self._kept = False
        self._life: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it; until `keep`, its end is the end of everything."""
        self._life = asyncio.create_task(self._live(), name=self.name)

    async def stop(self) -> None:
        """SIGTERM, after 4 s SIGKILL, and reap it.  Safe unstarted and twice."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])

    def keep(self) -> None:
        """From now on start it again when it ends."""
        self._kept = True

    async def until(self, up: Coroutine[Any, Any, None]) -> None:
        """
        Wait for `up`, and keep it from then on.

        Raises:
            StartError: It ended before.
        """
        assert self._life is not None  # noqa: S101 - it was started
        waiting = asyncio.ensure_future(up)
        try:
            await asyncio.wait(
                {waiting, self._life}, return_when=asyncio.FIRST_COMPLETED
            )
            if not waiting.done():
                await self._life
            await waiting
        finally:
            waiting.cancel()
        self.keep()

    async def _live(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            started_at = time.monotonic()
            how = await self._run_once()
            if not self._kept:
                msg = f"the {self.name} {how}: {_last_line(self._log)}"
                raise StartError(msg)
            if time.monotonic() - started_at > _SETTLED_S:
                pause_s = _FIRST_PAUSE_S
            self._say(f"The {self.name} {how}; starting it again.")
            await _pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _run_once(self) -> str:
        process = await asyncio.create_subprocess_exec(
            *held(self._command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._env,
            pass_fds=self._inherits,
            start_new_session=True,
        )
        self._watchdog.end(process.pid)
        self._process = process
        self._on_change()
        telling = asyncio.create_task(self._tell(process))
        try:
            await self._copy_output(process)
            return _how(await process.wait())
        finally:
            telling.cancel()
            await _end(process)
            self._watchdog.forget(process.pid)
            self._process = None
            self._on_change()

    async def _tell(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None  # noqa: S101 - it was asked for
        process.stdin.write(GO)
        if self._told is not None:
            process.stdin.write(await asyncio.shield(self._told))
        process.stdin.close()

    async def _copy_output(self, process: asyncio.subprocess.Process) -> None:
        """Until the output ends, which it does with the process."""
        assert process.stdout is not None  # noqa: S101 - it was asked for
        rest = b""
        with self._log.open("ab", buffering=0) as log:
            while chunk := await process.stdout.read(_CHUNK_BYTES):
                log.write(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                rest = rest[-_CHUNK_BYTES:]
                for line in filter(is_problem, lines):
                    self._say(f"{self.name}: {line.decode(errors='replace')}")


def is_problem(line: bytes) -> bool:
    """Whether a line of output is a person's business: no JSON, or JSON of a warning."""
    if not line.strip():
        return False
    try:
        level = json.loads(line)["level"]
    except (ValueError, KeyError, TypeError):
        return True
    return str(level).lower() not in _QUIET_LEVELS


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, after a grace SIGKILL to the whole group, and reap it."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    # Not `asyncio.timeout`: before Python 3.11.4 it cannot tell its own
    # cancellation from the one that brought us here.
    gone = asyncio.ensure_future(process.wait())
    await asyncio.wait([gone], timeout=_GRACE_S)
    # Also what it started and left behind.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await gone


_pause = asyncio.sleep


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
