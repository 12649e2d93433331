"""Children are ended by pid, and pinned where they belong."""

import os
import sys

import pytest

from bench import cores
from bench.children import Children, free_port, listening
from bench.errors import RunError
from bench.procfs import cpu_s, pss_kib, tree

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]
DIES = [sys.executable, "-c", "raise SystemExit('no such setting')"]


async def test_a_child_is_gone_after_its_block(children: Children):
    async with children.child("sleeper", SLEEPS, env=os.environ) as process:
        assert [process.pid] == tree(process.pid)
        assert pss_kib([process.pid]) > 0
        assert cpu_s([process.pid]) >= 0

    assert process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


async def test_the_server_is_alone_on_its_core(children: Children):
    before = os.sched_getaffinity(0)
    async with children.child(
        "server", SLEEPS, env=os.environ, is_server=True
    ) as process:
        assert {cores.server_core()} == os.sched_getaffinity(process.pid)

    assert before == os.sched_getaffinity(0)


async def test_a_server_that_ends_is_quoted(children: Children):
    async with children.child("server", DIES, env=os.environ) as process:
        with pytest.raises(RunError, match="server did not come up: no such setting"):
            await listening(free_port(), process, children, "server")


async def test_the_folder_goes_with_the_bench():
    async with Children() as children:
        folder = children.temporary("run-")
        assert folder.is_dir()

    assert not folder.parent.exists()
