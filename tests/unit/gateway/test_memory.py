"""What is counted against which limit, on a `/proc` and cgroups made of files."""

import asyncio
import os
from pathlib import Path

import pytest

from gateway.memory import GIVE_BACK_S, Memory
from gateway.telemetry import Metrics

MIB = 1 << 20
V1_NONE = 9_223_372_036_854_771_712


class Machine:
    """
    A small machine.

    Args:
        mounted: Line of mountinfo, `POINT` being where the groups are.
        member: Line of `/proc/self/cgroup`.
    """

    def __init__(self, folder, mounted="", member=""):
        self.groups = folder / "groups"
        self.proc = folder / "proc"
        self.own = self.proc / "self"
        self.own.mkdir(parents=True)
        self.groups.mkdir()
        mounted = mounted.replace("POINT", str(self.groups))
        (self.own / "mountinfo").write_text(
            f"22 1 0:20 / /proc rw - proc proc rw\n{mounted}"
        )
        (self.own / "cgroup").write_text(f"3:cpu:/elsewhere\n{member}")
        self.resident(0)

    def resident(self, used_bytes):
        pages = used_bytes // os.sysconf("SC_PAGE_SIZE")
        (self.own / "statm").write_text(f"9999999 {pages} 1 1 0 1 0\n")

    def group_v1(self, path, limit, used, stat=""):
        folder = self.groups / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(stat)

    def group_v2(self, path, limit, used, stat=""):
        folder = self.groups / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(stat)

    def share(self, **how):
        memory = Memory(Metrics(), proc=self.proc, **how)
        memory.look()
        return memory.used_share


@pytest.fixture
def version_1(tmp_path):
    """As on an older machine: the controller has a mount of its own."""
    return Machine(
        tmp_path,
        "30 22 0:30 / POINT rw,relatime shared:9 - cgroup cgroup rw,memory",
        "4:hugetlb,memory:/system.slice/reelready.service",
    )


@pytest.fixture
def version_2(tmp_path):
    """As on a newer one."""
    return Machine(
        tmp_path,
        "30 22 0:30 / POINT rw shared:9 - cgroup2 cgroup2 rw,nsdelegate",
        "0::/system.slice/reelready.service",
    )


def test_our_own_group_counts_without_page_cache(version_2):
    version_2.group_v2(
        "system.slice/reelready.service",
        100 * MIB,
        90 * MIB,
        f"anon 1\nactive_file {10 * MIB}\ninactive_file {30 * MIB}\nslab 5\n",
    )

    assert pytest.approx(0.5) == version_2.share()


def test_what_the_kernel_can_drop_is_not_in_use(version_2):
    """
    After much work with files most of a group may be names of files.
    """
    stat = f"slab_reclaimable {60 * MIB}\nslab_unreclaimable {5 * MIB}\n"
    version_2.group_v2("system.slice/reelready.service", 100 * MIB, 90 * MIB, stat)

    assert pytest.approx(0.3) == version_2.share()


def test_where_a_group_is_slowed_down_before_it_is_killed_that_counts(version_2):
    version_2.group_v2("system.slice/reelready.service", 100 * MIB, 45 * MIB)
    high = version_2.groups / "system.slice/reelready.service" / "memory.high"
    high.write_text(f"{50 * MIB}\n")

    assert pytest.approx(0.9) == version_2.share()


def test_so_it_does_in_version_1_with_what_is_below_it(version_1):
    version_1.group_v1(
        "system.slice/reelready.service",
        100 * MIB,
        90 * MIB,
        f"active_file 7\ntotal_active_file {10 * MIB}\n"
        f"total_inactive_file {30 * MIB}\n",
    )

    assert pytest.approx(0.5) == version_1.share()


def test_the_nearest_limit_of_all_groups_above_counts(version_2):
    version_2.group_v2("system.slice/reelready.service", "max", 90 * MIB)
    version_2.group_v2("system.slice", 200 * MIB, 180 * MIB)

    assert pytest.approx(0.9) == version_2.share()


def test_no_limit_is_no_limit(version_1):
    version_1.group_v1("system.slice/reelready.service", V1_NONE, 90 * MIB)

    assert 0 == version_1.share()


def test_the_mount_of_a_container_may_begin_at_our_group(tmp_path):
    container = Machine(
        tmp_path,
        "30 22 0:30 /docker/abc POINT ro - cgroup cgroup rw,memory",
        "4:memory:/docker/abc",
    )
    container.group_v1(".", 100 * MIB, 60 * MIB)

    assert pytest.approx(0.6) == container.share()


def test_a_limit_that_is_changed_meanwhile_holds_at_once(version_2):
    version_2.group_v2("system.slice/reelready.service", "max", 90 * MIB)
    memory = Memory(Metrics(), proc=version_2.proc)
    memory.look()
    before = memory.full

    version_2.group_v2("system.slice/reelready.service", 100 * MIB, 90 * MIB)
    memory.look()

    assert (False, True, False) == (before, memory.full, memory.short)


@pytest.mark.parametrize(
    ("used_bytes", "full", "short"),
    [
        (80 * MIB, False, False),
        (81 * MIB, True, False),
        (95 * MIB, True, False),
        (96 * MIB, True, True),
    ],
)
def test_a_limit_of_our_own_is_for_what_is_resident(tmp_path, used_bytes, full, short):
    machine = Machine(tmp_path)
    machine.resident(used_bytes)
    memory = Memory(Metrics(), proc=machine.proc, max_bytes=100 * MIB)
    memory.look()

    assert (full, short) == (memory.full, memory.short)


def test_where_nothing_is_known_nobody_is_refused(tmp_path):
    memory = Memory(Metrics(), proc=tmp_path / "none")
    memory.look()

    assert not memory.full


def test_this_very_process_is_seen():
    memory = Memory(Metrics(), max_bytes=1)
    memory.look()

    assert memory.used_share > MIB


def resident_kib():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


async def test_what_was_freed_is_given_back_while_it_is_full():
    """As much as 20 MiB in pieces, between which others stay."""
    held = [bytes(700) for _ in range(60_000)]
    memory = Memory(Metrics(), max_bytes=1)
    looking = asyncio.create_task(memory.run())
    await asyncio.sleep(0.3)
    before_kib = resident_kib()
    del held[:50_000]

    await asyncio.sleep(GIVE_BACK_S * 2)
    looking.cancel()

    assert before_kib - 20 * 1024 > resident_kib()
    assert memory.full
    assert held


async def test_without_room_for_a_thread_it_is_looked_at_all_the_same(monkeypatch):
    def no_room(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(asyncio, "to_thread", no_room)
    looking = asyncio.create_task(Memory(Metrics(), max_bytes=1).run())
    await asyncio.sleep(0.2)

    assert not looking.done()
    looking.cancel()
