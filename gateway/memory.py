"""
How much memory there is, and how much of it is in use.

The kernel ends a process when its cgroup, or one above it, is at its limit and
nothing can be dropped.  So what counts there is everything but that.  Where no
cgroup has a limit it is what this process holds, of what the machine has.

Limits are read again each time: an operator may change them meanwhile.

What was freed, glibc keeps for later; where others need it, or a limit is near, it
would be full for ever.  So it is given back then.

Source: kernel documentation, "cgroup-v2", "Memory"; "cgroup-v1/memory";
proc(5), "mountinfo", "statm"; malloc_trim(3).
"""

import asyncio
import ctypes
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.telemetry import Metrics

SAMPLE_S = 0.5
CLOSE_SAMPLE_S = 0.1
"""When half is in use: what many at once can take in that time must still be there."""
FULL_SHARE = 0.8
"""Nobody else may wait, and who is answered must take it soon."""
SHORT_SHARE = 0.95
"""No reports are taken either."""

GIVE_BACK_S = 2.0
"""While it is full, what was freed is given back so often ..."""
GIVE_BACK_SHARE = 0.02
"""... but in no more than this share of the time: 80 ms for 150 MiB in small pieces."""

_DROPPABLE = re.compile(
    r"^(?:active_file|inactive_file|slab_reclaimable) (\d+)$", re.MULTILINE
)
_DROPPABLE_V1 = re.compile(r"^total_(?:in)?active_file (\d+)$", re.MULTILINE)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MACHINE_BYTES = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES


@dataclass(frozen=True)
class _Version:
    """
    The names of one version of the interface.

    Attributes:
        limits: The lowest counts; beyond `memory.high` a group is slowed to a crawl.
        droppable: What the kernel can drop, so that it is no reason to refuse anybody.
    """

    kind: str
    limits: tuple[str, ...]
    usage: str
    droppable: re.Pattern[str]


_V1 = _Version(
    "cgroup", ("memory.limit_in_bytes",), "memory.usage_in_bytes", _DROPPABLE_V1
)
_V2 = _Version("cgroup2", ("memory.max", "memory.high"), "memory.current", _DROPPABLE)


class Memory:
    """
    What is in use, as of the last look.

    Attributes:
        used_share: Of the limit that is nearest: 1 is where the kernel kills.
    """

    def __init__(
        self, metrics: Metrics, *, max_bytes: int = 0, proc: Path = Path("/proc")
    ) -> None:
        self._max_bytes = max_bytes or _MACHINE_BYTES
        self._statm = proc / "self/statm"
        self._groups = list(_groups(proc / "self"))
        self.used_share = 0.0
        metrics.memory_used.set_function(lambda: self.used_share)

    @property
    def full(self) -> bool:
        """Whether nobody else may wait."""
        return self.used_share > FULL_SHARE

    @property
    def short(self) -> bool:
        """Whether even reports must wait."""
        return self.used_share > SHORT_SHARE

    async def run(self) -> None:
        """Look again and again until cancelled."""
        give_back_at_s = 0.0
        while True:
            self.look()
            if self.full and time.monotonic() > give_back_at_s:
                began_s = time.monotonic()
                # There may be no room for a thread, either.
                with suppress(RuntimeError):
                    await asyncio.to_thread(_give_back)
                self.look()
                took_s = time.monotonic() - began_s
                give_back_at_s = began_s + max(GIVE_BACK_S, took_s / GIVE_BACK_SHARE)
            half = self.used_share > 0.5  # noqa: PLR2004 - that is what a half is
            await asyncio.sleep(CLOSE_SAMPLE_S if half else SAMPLE_S)

    def look(self) -> None:
        """Look once."""
        self.used_share = max(
            self._own_bytes() / self._max_bytes,
            *(_used_share(folder, version) for folder, version in self._groups),
            0.0,
        )

    def _own_bytes(self) -> int:
        """What is resident; 0 where there is no /proc."""
        try:
            return int(self._statm.read_text().split()[1]) * _PAGE_BYTES
        except OSError:
            return 0


def _give_back() -> None:
    """Give what was freed to the kernel; only glibc keeps it and can be asked to."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _used_share(folder: Path, version: _Version) -> float:
    try:
        limit_bytes = min(_limits(folder, version), default=_MACHINE_BYTES)
        # In version 1 no limit is a number beyond any machine.
        if limit_bytes >= _MACHINE_BYTES:
            return 0.0
        used_bytes = int((folder / version.usage).read_text())
        droppable = version.droppable.findall((folder / "memory.stat").read_text())
    except OSError:
        return 0.0
    return (used_bytes - sum(map(int, droppable))) / max(1, limit_bytes)


def _limits(folder: Path, version: _Version) -> Iterator[int]:
    for name in version.limits:
        with suppress(FileNotFoundError):
            limit = (folder / name).read_text().strip()
            if limit != "max":
                yield int(limit)


def _groups(proc_self: Path) -> Iterator[tuple[Path, _Version]]:
    """Find our memory cgroup and those above it, as far as they can be seen."""
    try:
        ours = (proc_self / "cgroup").read_text().splitlines()
        mounts = (proc_self / "mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in ours:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version = _V1 if controllers else _V2
        for mount in mounts:
            mounted, _, about = mount.partition(" - ")
            root, point = mounted.split()[3:5]
            kind, *_, options = about.split()
            if kind == version.kind and (
                not controllers or "memory" in options.split(",")
            ):
                yield from _up(Path(point), Path(root), Path(path), version)
                break


def _up(
    point: Path, root: Path, path: Path, version: _Version
) -> Iterator[tuple[Path, _Version]]:
    """List the group and its parents; in a container the mount may begin at it."""
    inside = path.relative_to(root) if path.is_relative_to(root) else Path()
    folder = point / inside
    while folder.is_relative_to(point):
        if (folder / version.limits[0]).exists():
            yield folder, version
        folder = folder.parent
