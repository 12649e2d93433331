"""What the watchdog was told, what it then does, and whom it leaves alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local.watchdog import GO, Watchdog, clean_up, held, left_behind

WAIT_S = 10.0
SLEEPS = "import time; time.sleep(60)"
DEAF = "import signal; signal.signal(2, signal.SIG_IGN); print(flush=True); " + SLEEPS


def test_what_was_not_forgotten_is_left_behind():
    lines = [b"end 7 9\n", b"end 8 2\n", b"forget 7\n"]
    lines += [b"remove /a b\n", b"remove /c\n", b"keep /c\n"]

    assert ({8: 2}, [Path("/a b")]) == left_behind(lines)


def test_a_line_cut_short_is_no_instruction():
    assert ({1234: 9}, []) == left_behind([b"end 1234 9\n", b"end 12"])


def test_forgetting_a_stranger_changes_nothing():
    assert ({}, []) == left_behind([b"forget 7\n", b"keep /a\n", b"\n"])


def test_a_held_command_begins_when_it_is_told_and_reads_the_rest():
    said = subprocess.run(
        held([sys.executable, "-c", "print(input(), end='')"]),
        input=GO + b"  the rest \\n",
        capture_output=True,
        check=True,
    )

    assert b"  the rest \\n" == said.stdout


def test_a_held_command_never_begins_when_its_owner_dies_first(tmp_path):
    touched = tmp_path / "touched"

    subprocess.run(held(["touch", str(touched)]), input=b"", check=False)

    assert not touched.exists()


def test_children_are_ended_by_their_own_signal_and_folders_removed(tmp_path):
    folder = tmp_path / "with ümlaut"
    (folder / "deep").mkdir(parents=True)
    with child(SLEEPS) as process:
        clean_up({process.pid: signal.SIGINT}, [folder])

        assert -signal.SIGINT == process.wait(WAIT_S)
    assert not folder.exists()


def test_a_child_that_ignores_its_signal_is_killed(monkeypatch):
    monkeypatch.setattr("local.watchdog._GRACE_S", 0.1)
    with child(DEAF) as process:
        process.stdout.readline()

        clean_up({process.pid: signal.SIGINT}, [])

        assert -signal.SIGKILL == process.wait(WAIT_S)


def test_pids_and_folders_that_are_gone_are_no_error(tmp_path):
    with child("") as process:
        process.wait(WAIT_S)

    clean_up({process.pid: signal.SIGKILL}, [tmp_path / "gone"])


def test_the_end_of_the_context_ends_what_is_left(tmp_path):
    folder = tmp_path / "left"
    folder.mkdir()
    with child(SLEEPS) as left, child(SLEEPS) as forgotten:
        with Watchdog() as watchdog:
            watchdog.end(left.pid)
            watchdog.end(forgotten.pid)
            watchdog.forget(forgotten.pid)
            watchdog.remove(folder)

        assert -signal.SIGKILL == left.wait(WAIT_S)
        assert forgotten.poll() is None
        forgotten.kill()
    assert not folder.exists()


def test_the_death_of_the_owner_ends_what_is_left(tmp_path):
    folder = tmp_path / "left"
    folder.mkdir()
    owner = (
        "import os, sys; from pathlib import Path; from local.watchdog import Watchdog\n"
        "watchdog = Watchdog().__enter__()\n"
        "watchdog.end(int(sys.argv[1])); watchdog.remove(Path(sys.argv[2]))\n"
        "os.kill(os.getpid(), 9)"
    )
    with child(SLEEPS) as left:
        subprocess.run(
            [sys.executable, "-c", owner, str(left.pid), str(folder)],
            cwd=Path(__file__).parents[3],
            check=False,
        )

        assert -signal.SIGKILL == left.wait(WAIT_S)
    deadline = time.monotonic() + WAIT_S
    while folder.exists():
        assert time.monotonic() < deadline, "the folder is still there"
        time.sleep(0.01)


def test_a_watchdog_that_was_killed_costs_nothing_but_the_safety_net():
    with Watchdog() as watchdog:
        os.kill(watchdog.pid, signal.SIGKILL)
        for pid in range(3):
            watchdog.forget(pid)


def test_a_watchdog_that_is_not_running_says_so():
    with pytest.raises(RuntimeError, match="not running"):
        Watchdog().forget(1)


def child(code: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
