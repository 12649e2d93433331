"""`reelready serve --processes N`: what it says, and who ends with whom."""

import asyncio
import os
import signal
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


async def test_all_of_them_end_with_their_parent():
    async with Stage(keeps_socket=False) as stage:
        await stage.start_gateway(SERVE, is_talking=True)
        await stage.ready()
        await until(lambda: len(children(stage)) == 2)
        await until(lambda: "2 processes serve" in log(stage))
        left = children(stage)

        os.kill(stage.gateway.pid, signal.SIGKILL)

        await until(lambda: not any(map(alive, left)))


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


async def test_an_address_in_use_is_said_in_one_line():
    async with Stage() as stage:
        stage._keeps_socket = False
        await stage.start_gateway(SERVE, is_talking=True)

        assert 1 == await stage.gateway.wait()

        assert "in use" in log(stage)
        assert 1 == len(log(stage).splitlines())
