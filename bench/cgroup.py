"""
A cgroup for one server: what a small machine would leave it of memory or CPU.

Version 1 and 2 of the interface; the group is made under the root of the
hierarchy, for our own child only, and removed with the block.

Source: kernel documentation, "cgroup-v2", "Memory", "CPU"; "cgroup-v1/memory";
"scheduler/sched-bwc".
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from bench.errors import MissingError, RunError

_MOUNTS = Path("/proc/self/mounts")
_PREFIX = "reelready-bench-"
_REMOVALS = 100
_REMOVAL_PAUSE_S = 0.05
_numbers = count(1)
_PERIOD_US = 20_000
"""Short, so that who has used up a share waits for milliseconds only."""


@dataclass(frozen=True)
class Cgroup:
    """A group that exists; empty until a process writes its pid to `procs`."""

    folder: Path
    version: int

    @property
    def procs(self) -> str:
        """The file that takes the pid of a process to limit."""
        return str(self.folder / "cgroup.procs")

    def limit(self, bytes_: int) -> None:
        """
        Set the limit, socket buffers included.

        Raises:
            RunError: The kernel refuses.
        """
        names = {1: ("memory.limit_in_bytes",), 2: ("memory.max",)}[self.version]
        try:
            for name in names:
                (self.folder / name).write_text(str(bytes_), encoding="ascii")
            self._account_sockets()
        except OSError as error:
            raise RunError(f"the memory limit cannot be set: {error}") from error

    def limit_cpu(self, cores: float) -> None:
        """
        Let all of them together have that much of a core.

        Raises:
            RunError: The kernel refuses.
        """
        quota_us = round(cores * _PERIOD_US)
        try:
            if self.version == 1:
                period = self.folder / "cpu.cfs_period_us"
                period.write_text(str(_PERIOD_US), encoding="ascii")
                quota = self.folder / "cpu.cfs_quota_us"
                quota.write_text(str(quota_us), encoding="ascii")
            else:
                text = f"{quota_us} {_PERIOD_US}"
                (self.folder / "cpu.max").write_text(text, encoding="ascii")
        except OSError as error:
            raise RunError(f"the CPU limit cannot be set: {error}") from error

    def used_bytes(self) -> int:
        """What the group is charged now, without page cache that can be dropped."""
        name = {1: "memory.usage_in_bytes", 2: "memory.current"}[self.version]
        return self._number(name) - self._stat("inactive_file")

    def kernel_bytes(self) -> int:
        """The kernel's part of it, where it says so."""
        if self.version == 1:
            return self._number("memory.kmem.usage_in_bytes")
        return self._stat("kernel")

    def kills(self) -> int:
        """How often the kernel killed for want of memory."""
        name = {1: "memory.oom_control", 2: "memory.events"}[self.version]
        text = (self.folder / name).read_text(encoding="ascii")
        found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else 0

    def _account_sockets(self) -> None:
        """Version 1 charges socket buffers only once they have a limit."""
        if self.version == 1:
            name = self.folder / "memory.kmem.tcp.limit_in_bytes"
            name.write_text(str(1 << 40), encoding="ascii")

    def _number(self, name: str) -> int:
        return int((self.folder / name).read_text(encoding="ascii"))

    def _stat(self, field: str) -> int:
        text = (self.folder / "memory.stat").read_text(encoding="ascii")
        found = re.search(rf"^(?:total_)?{field} (\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else 0


def memory_cgroup() -> AbstractAsyncContextManager[Cgroup]:
    """
    Make a group whose memory can be limited, for the length of the block.

    Raises:
        MissingError: This machine, or this user, cannot.
    """
    return _cgroup("memory")


def cpu_cgroup() -> AbstractAsyncContextManager[Cgroup]:
    """Make one whose CPU can be limited; else as `memory_cgroup`."""
    return _cgroup("cpu")


@asynccontextmanager
async def _cgroup(controller: str) -> AsyncIterator[Cgroup]:
    root, version = _hierarchy(controller)
    _sweep(root)
    folder = root / f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
    try:
        folder.mkdir()
        if version == 2 and not (folder / f"{controller}.max").exists():
            folder.rmdir()
            raise MissingError(
                f"cgroup: the {controller} controller is not handed down"
            )
    except OSError as error:
        raise MissingError(
            f"a {controller} cgroup, which takes root: {error}"
        ) from error
    try:
        yield Cgroup(folder, version)
    finally:
        await _remove(folder)


def _hierarchy(controller: str) -> tuple[Path, int]:
    """Where the controller is mounted, and its version."""
    unified = None
    for line in _MOUNTS.read_text(encoding="ascii", errors="replace").splitlines():
        _, mount, kind, options, *_ = line.split()
        if kind == "cgroup" and controller in options.split(","):
            return Path(mount), 1
        if kind == "cgroup2":
            unified = Path(mount)
    if unified is None:
        raise MissingError("cgroups: none are mounted here")
    return unified, 2


def _sweep(root: Path) -> None:
    """Remove what a bench left behind that was killed outright."""
    for folder in root.glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path("/proc", pid).exists():
            with suppress(OSError):
                folder.rmdir()


async def _remove(folder: Path) -> None:
    """Its processes are gone; the kernel may need a moment to notice."""
    for _ in range(_REMOVALS):
        with suppress(OSError):
            os.rmdir(folder)  # noqa: PTH106 - in a kernel file system nothing blocks
            return
        await asyncio.sleep(_REMOVAL_PAUSE_S)
