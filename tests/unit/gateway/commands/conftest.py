import asyncio
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.client import following
from tests.unit.gateway.small_gateway import small_gateway


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in os.environ:
        if name.startswith("REELREADY_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(following, "MAX_BACKOFF_S", 0.02)


@pytest.fixture
async def gateway():
    async with small_gateway() as small:
        yield small


@pytest.fixture
def reelready():
    """Run a command as in a pipe, beside the loop of the test."""

    async def run(*args, **environ):
        return await asyncio.to_thread(
            CliRunner().invoke,
            main,
            list(map(str, args)),
            env=environ,
            prog_name="reelready",
            catch_exceptions=False,
        )

    return run


@dataclass
class OnTerminal:
    """A command on a pseudo-terminal of 100 by 30."""

    process: asyncio.subprocess.Process
    screen: asyncio.Task

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    async def end(self):
        """Give the exit code, and all that was written."""
        async with asyncio.timeout(20):
            return await self.process.wait(), await self.screen


@pytest.fixture
async def on_terminal():
    """Start a command as a person does."""
    started = []

    async def start(*args, **environ):
        # It would win over the size of the terminal.
        own = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            *map(str, args),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=own | {"TERM": "xterm-256color"} | environ,
        )
        os.close(slave)
        one = OnTerminal(process, asyncio.create_task(asyncio.to_thread(_read, master)))
        started.append(one)
        return one

    yield start
    for one in started:
        if one.process.returncode is None:
            one.process.kill()
        await one.end()


def _read(master):
    written = b""
    try:
        while chunk := os.read(master, 65536):
            written += chunk
    except OSError:
        # Linux says so when the last writer has closed.
        pass
    finally:
        os.close(master)
    return written.decode()
