"""
What must not outlive the local cloud, kept by a process that does.

A second, tiny process holds the read end of a pipe.  The supervisor tells it
which children and folders would be left behind; when the pipe closes, for
whatever reason, `kill -9` included, it ends those children and removes those
folders.  The same on Linux and macOS, which has no `PR_SET_PDEATHSIG`.

A child is `held` until the watchdog knows it: there is no moment at which the
supervisor's death would leave one that nobody knows.

The process runs this file alone, so it may import only the standard library.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_GRACE_S = 3.0
_POLL_S = 0.02


GO = b"\n"
"""What a `held` command waits for on its standard input."""


def held(command: Sequence[str]) -> list[str]:
    """
    The same command, which begins when it reads `GO`, and never if its standard
    input ends before.  Process id and the rest of the input stay the same.
    """
    return ["/bin/sh", "-c", 'read -r go && exec "$@"', "sh", *command]


class Watchdog:
    """
    The supervisor's end.  Children must be leaders of their own process group.

    Every call is one short line into a pipe and never waits for the other side.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - this file, this interpreter
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of it; it then ends whatever was not forgotten."""
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    def end(self, pid: int, *, by: signal.Signals = signal.SIGKILL) -> None:
        """End this child's process group by the signal, 3 s later by SIGKILL."""
        self._tell(f"end {pid} {by.value}")

    def forget(self, pid: int) -> None:
        """The child is gone and reaped: its pid may belong to a stranger soon."""
        self._tell(f"forget {pid}")

    def remove(self, folder: Path) -> None:
        """Remove this folder."""
        self._tell(f"remove {folder}")

    def keep(self, folder: Path) -> None:
        """The folder is gone already, or was taken over by somebody."""
        self._tell(f"keep {folder}")

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            msg = "the watchdog is not running"
            raise RuntimeError(msg)
        # A dead watchdog costs the safety net, not the local cloud.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(os.fsencode(line) + b"\n")
            self._process.stdin.flush()


def left_behind(lines: Iterable[bytes]) -> tuple[dict[int, int], list[Path]]:
    """
    Read what the supervisor said.

    Returns:
        Signal number by pid, and the folders to remove, in the order told.
    """
    children: dict[int, int] = {}
    folders: dict[Path, None] = {}
    for line in lines:
        # A line cut short by the supervisor's death is no instruction.
        if not line.endswith(b"\n"):
            break
        verb, _, rest = line[:-1].partition(b" ")
        if verb == b"end":
            pid, _, number = rest.partition(b" ")
            children[int(pid)] = int(number)
        elif verb == b"forget":
            children.pop(int(rest), None)
        elif verb == b"remove":
            folders[Path(os.fsdecode(rest))] = None
        elif verb == b"keep":
            folders.pop(Path(os.fsdecode(rest)), None)
    return children, list(folders)


def clean_up(children: dict[int, int], folders: list[Path]) -> None:
    """End the process groups, by force after 3 s, then remove the folders."""
    for pid, number in children.items():
        _signal(pid, number)
    deadline = time.monotonic() + _GRACE_S
    while any(map(_alive, children)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for pid in children:
        _signal(pid, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _alive(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    clean_up(*left_behind(sys.stdin.buffer))
