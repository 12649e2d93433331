"""A child that is kept running: restarts, its log, its end."""

import asyncio
import contextlib
import os
import signal
import sys

import pytest

from local import child as child_module
from local.child import Child, is_problem
from local.settings import StartError
from local.watchdog import Watchdog

WAIT_S = 10.0
SAYS_AND_STAYS = "import time; print('{}', flush=True); time.sleep(60)"
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


class Heard:
    """What was said to the person, and a way to wait for more of it."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.changes = 0

    def say(self, line: str) -> None:
        self.lines.put_nowait(line)

    def changed(self) -> None:
        self.changes += 1

    async def next(self) -> str:
        async with asyncio.timeout(WAIT_S):
            return await self.lines.get()


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
async def make_child(tmp_path, heard):
    with Watchdog() as watchdog:
        made: list[Child] = []

        def make(code: str) -> Child:
            one = Child(
                "thing",
                [sys.executable, "-c", code],
                env=os.environ,
                log=tmp_path / "thing.log",
                watchdog=watchdog,
                say=heard.say,
                on_change=heard.changed,
            )
            made.append(one)
            return one

        yield make
        await asyncio.gather(*(one.stop() for one in made))


async def test_a_killed_child_comes_back_and_one_line_says_so(make_child, heard):
    child = make_child(SAYS_AND_STAYS.format("up"))
    child.keep()
    child.start()
    assert "thing: up" == await heard.next()
    first = child.pid

    os.kill(first, signal.SIGKILL)

    assert "The thing was killed by SIGKILL; starting it again." == await heard.next()
    assert "thing: up" == await heard.next()
    assert first != child.pid


async def test_a_child_that_keeps_failing_is_tried_ever_later(
    make_child, heard, monkeypatch
):
    pauses_s = []

    async def sleep(pause_s: float) -> None:
        pauses_s.append(pause_s)

    monkeypatch.setattr(child_module, "_pause", sleep)
    child = make_child("raise SystemExit(3)")
    child.keep()
    child.start()
    for _ in range(8):
        assert "ended with exit code 3" in await heard.next()

    assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0] == pauses_s[:7]


async def test_a_child_that_ends_before_it_is_up_fails_the_start(make_child):
    child = make_child("import sys; sys.exit('no such table')")
    child.start()

    with pytest.raises(StartError, match=r"the thing ended .*: no such table"):
        await child.until(asyncio.Event().wait())


async def test_what_it_prints_is_in_its_log_and_only_problems_are_shown(
    make_child, heard, tmp_path
):
    lines = ['{"level": "INFO"}', '{"level": "WARNING", "message": "disk"}']
    child = make_child(f"print({chr(10).join(lines)!r}, flush=True)")
    child.keep()
    child.start()

    assert "thing: " + lines[1] == await heard.next()
    await heard.next()
    assert lines == (tmp_path / "thing.log").read_text().splitlines()[:2]


async def test_stopping_ends_a_child_that_does_not_listen(
    make_child, heard, monkeypatch
):
    monkeypatch.setattr(child_module, "_GRACE_S", 0.1)
    child = make_child(DEAF)
    child.keep()
    child.start()
    await heard.next()
    pid = child.pid

    async with asyncio.timeout(WAIT_S):
        await child.stop()

    assert child.pid is None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        pytest.fail("it is still there")


async def test_stopping_is_safe_unstarted_and_twice(make_child):
    child = make_child("")
    await child.stop()
    child.start()
    await child.stop()
    await child.stop()


@pytest.mark.parametrize(
    ("expected", "line"),
    [
        (False, b""),
        (False, b'{"level": "INFO", "message": "hello"}'),
        (False, b'{"level": "debug"}'),
        (True, b'{"level": "ERROR", "message": "no"}'),
        (True, b"Traceback (most recent call last):"),
        (True, b"42"),
        (True, b'{"no": "level"}'),
        (True, b"\xff"),
    ],
)
def test_a_problem_is_anything_but_quiet_json(expected, line):
    assert expected == is_problem(line)
