"""
What systemd hears: the datagrams of sd_notify(3), on a socket as it makes them.

That systemd itself is content with them is seen in tests/system/test_systemd.py.
"""

import asyncio
import contextlib
import os
import secrets
import socket

import pytest
import uvloop

from gateway.errors import ConfigError
from gateway.systemd import systemd_told

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
by_loop = pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])


@contextlib.contextmanager
def systemd(address):
    """Listen where we were told that it does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(address)
        one.settimeout(10)
        yield lambda: one.recv(100).decode()


def run(loop, environ, block):
    async def whole():
        async with systemd_told(environ):
            await asyncio.to_thread(block)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(whole())


@by_loop
@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_it_hears_that_we_serve_and_that_we_leave(loop, abstract, tmp_path):
    name = f"rr-{secrets.token_hex(8)}"
    asked, bound = (f"@{name}", f"\0{name}") if abstract else [str(tmp_path / name)] * 2
    with systemd(bound) as hear:
        heard = []
        run(loop, {"NOTIFY_SOCKET": asked}, lambda: heard.append(hear()))
        heard.append(hear())

    assert ["READY=1", "STOPPING=1"] == heard


@by_loop
def test_the_loop_says_again_and_again_that_it_turns(loop, tmp_path):
    address = str(tmp_path / "notify")
    environ = {
        "NOTIFY_SOCKET": address,
        "WATCHDOG_PID": str(os.getpid()),
        "WATCHDOG_USEC": "20000",
    }
    with systemd(address) as hear:
        heard = []
        run(loop, environ, lambda: heard.extend(hear() for _ in range(4)))

    assert ["READY=1", *["WATCHDOG=1"] * 3] == heard


@pytest.mark.parametrize(
    "watchdog",
    [{}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}],
    ids=["not set", "another's", "off"],
)
async def test_without_a_watchdog_of_ours_nothing_is_said_of_it(watchdog, tmp_path):
    address = str(tmp_path / "notify")
    with systemd(address) as hear:
        async with systemd_told({"NOTIFY_SOCKET": address} | watchdog):
            await asyncio.sleep(0.05)
        heard = [hear(), hear()]

    assert ["READY=1", "STOPPING=1"] == heard


async def test_nobody_who_did_not_ask_is_told(tmp_path):
    async with systemd_told({"WATCHDOG_USEC": "x"}):
        pass


async def test_a_watchdog_that_makes_no_sense_is_named(tmp_path):
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "soon"}

    with pytest.raises(ConfigError, match="WATCHDOG_USEC"):
        async with systemd_told(environ):
            pass


@by_loop
def test_one_that_is_not_there_or_is_stuck_holds_up_nobody(
    loop, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("gateway.systemd.TELL_LIMIT_S", 0.05)
    address = str(tmp_path / "notify")
    served = []
    run(loop, {"NOTIFY_SOCKET": address}, lambda: served.append("alone"))
    with systemd(address), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filling:
        filling.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                filling.sendto(b"", address)
        run(loop, {"NOTIFY_SOCKET": address}, lambda: served.append("stuck"))

    assert ["alone", "stuck"] == served
    assert 4 == len([one for one in caplog.messages if "systemd was not told" in one])
