"""`reelready serve --processes N`: what it says, and who ends with whom."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from bench.soak.stage import Stage

pytestmark = pytest.mark.timeout(120)

SERVE = ("-m", "gateway", "serve", "--processes", "2")


def children(stage):
    return {one for one in stage.pids() if one != stage.gateway.pid}


def alive(pid):
    try:
        said = Path(f"/proc/{pid}/stat").read_text()
        return said.rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(so):
    async with asyncio.timeout(30):
        while True:
            if so():
                return
            await asyncio.sleep(0.05)


def log(stage):
    return stage.children.log("gateway").read_text()


async def test_all_of_them_end_with_their_parent_and_leave_nothing(
    monkeypatch, open_folder
):
    monkeypatch.setenv("TMPDIR", str(open_folder))
    async with Stage(keeps_socket=False) as stage:
        await stage.start_gateway(SERVE, is_talking=True)
        await stage.ready()
        await until(lambda: len(children(stage)) == 2)
        await until(lambda: "2 processes serve" in log(stage))
        left = children(stage)
        assert list(open_folder.glob("reelready-*/*.*"))

        os.kill(stage.gateway.pid, signal.SIGKILL)

        await until(lambda: not any(map(alive, left)))
        assert not list(open_folder.glob("reelready-*/*.*"))
        assert not [one for one in open_folder.iterdir() if not list(one.iterdir())]


async def test_what_does_not_start_takes_nobodys_place(tmp_path):
    script = tmp_path / "hls.js"
    script.write_text("")
    async with Stage(keeps_socket=False, settings={"HLS_JS": str(script)}) as stage:
        await stage.start_gateway(SERVE, is_talking=True)
        await until(lambda: "2 processes serve" in log(stage))
        before = children(stage)
        script.unlink()

        os.kill(stage.gateway.pid, signal.SIGHUP)

        await until(lambda: "the one before it goes on" in log(stage))
        assert "REELREADY_HLS_JS" in log(stage)
        assert before == children(stage)
        await stage.ready()


async def test_what_is_wrong_at_the_start_is_said_once(monkeypatch):
    monkeypatch.setenv("AIOHTTP_NO_EXTENSIONS", "1")
    async with Stage(keeps_socket=False) as stage:
        await stage.start_gateway(SERVE, is_talking=True)

        assert 2 == await stage.gateway.wait()

        assert 1 == log(stage).count("Error: AIOHTTP_NO_EXTENSIONS")
        assert "Traceback" not in log(stage)


@pytest.mark.parametrize("by", [(), SERVE])
async def test_an_address_in_use_is_said_in_one_line(by):
    """Also by several that share it among themselves."""
    async with Stage(keeps_socket=not by) as stage:
        if by:
            await stage.start_gateway(by)
            await stage.ready()
        stage._keeps_socket = False
        env = stage.environment()
        command = [sys.executable, *SERVE]
        child = stage.children.child("second", command, env=env, is_talking=True)
        async with child as second:
            assert 1 == await second.wait()
        said = stage.children.log("second").read_text()

    assert "in use" in said
    assert 1 == len(said.splitlines())


async def test_one_that_does_not_move_is_replaced():
    code = "import gateway.processes as p; p.SILENCE_LIMIT_S = 6.0; from gateway.cli import main; main()"
    async with Stage(keeps_socket=False) as stage:
        serve = ("-c", code, "serve", "--processes", "2")
        await stage.start_gateway(serve, is_talking=True)
        await until(lambda: "2 processes serve" in log(stage))
        stuck, *_ = before = sorted(children(stage))

        os.kill(stuck, signal.SIGSTOP)

        await until(lambda: "has not moved" in log(stage))
        await until(lambda: len(children(stage) - {stuck}) == 2)
        assert set(before) & children(stage) == set(before) - {stuck}


async def test_what_cannot_be_started_ends_nobody():
    """An interpreter that is being replaced, or no process more is allowed."""
    code = (
        "import sys, os, gateway.processes as p; from gateway.cli import main\n"
        "start = p._Place._command\n"
        "p._Place._command = lambda one: start(one) if one._serving is None "
        "else ['/nowhere']\n"
        "main()"
    )
    async with Stage(keeps_socket=False) as stage:
        serve = ("-c", code, "serve", "--processes", "2")
        await stage.start_gateway(serve, is_talking=True)
        await until(lambda: "2 processes serve" in log(stage))
        before = children(stage)

        os.kill(stage.gateway.pid, signal.SIGHUP)

        await until(lambda: "the one before it goes on" in log(stage))
        assert "/nowhere" in log(stage)
        assert before == children(stage)
