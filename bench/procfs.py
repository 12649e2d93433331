"""
What a process and the kernel spend, read from `/proc`.

Memory is PSS, so that pages shared by several processes of one server count
once; CPU is what the scheduler accounted, in nanoseconds, not clock ticks.

Source: proc(5), "smaps_rollup", "schedstat", "slabinfo", "meminfo".
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_GONE = (FileNotFoundError, ProcessLookupError)


def pss_kib(pids: Iterable[int]) -> int:
    """Proportional set size of some processes together, in KiB."""
    return sum(_field(_PROC / str(pid) / "smaps_rollup", "Pss") for pid in pids)


def rss_kib(pids: Iterable[int]) -> int:
    """Resident set size of some processes together, in KiB."""
    return sum(_field(_PROC / str(pid) / "smaps_rollup", "Rss") for pid in pids)


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of all threads these processes have now, and of ended children."""
    nanoseconds = 0
    for pid in pids:
        with suppress(*_GONE):
            stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
            # cutime and cstime, see proc_pid_stat(5).
            ticks = sum(map(int, stat.rpartition(")")[2].split()[13:15]))
            nanoseconds += ticks * 1_000_000_000 // _TICKS_PER_S
        for task in (_PROC / str(pid) / "task").glob("*/schedstat"):
            with suppress(*_GONE):
                nanoseconds += int(task.read_text(encoding="ascii").split()[0])
    return nanoseconds / 1e9


def slab_kib() -> int:
    """Kernel objects of the whole machine, in KiB: sockets live there."""
    return _field(_PROC / "meminfo", "Slab")


def tree(pid: int) -> list[int]:
    """A process and everything it started, and those."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir(_PROC):  # noqa: PTH208 - names are enough, and it is read often
        if entry.isdigit():
            with suppress(*_GONE):
                stat = (_PROC / entry / "stat").read_text(errors="replace")
                parent = int(stat.rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def _field(path: Path, name: str) -> int:
    match = re.search(rf"^{name}:\s*(\d+) kB", path.read_text(), re.MULTILINE)
    return int(match[1]) if match else 0
