"""D8: a log that nobody reads, or that has no room, costs log lines and nothing else."""

import asyncio
import os
import re
import signal
import threading
import time

from bench.soak.ledger import percentile
from tests.integration.conftest import API_KEY
from tests.integration.test_restarts import listening, serving, until
from tests.integration.wire import Wire, request

__all__ = ["listening"]

MORE_LINES = 12_000
"""Than the pipe and the queue hold together."""

AT_ONCE = 200
READY_S = 30
STRANGER = {"Authorization": "Bearer nobody"}


def ask(port, count):
    """Ask so often, on one connection; returns the slowest of the turns, in s."""
    slowest_s = 0.0
    with Wire(port) as wire:
        for _ in range(count // AT_ONCE):
            began_s = time.monotonic()
            wire.send(request("GET", "/v1/files/a", STRANGER) * AT_ONCE)
            assert {401} == {wire.answer().status for _ in range(AT_ONCE)}
            slowest_s = max(slowest_s, time.monotonic() - began_s)
    return slowest_s


def knock(port, stop):
    """Ask for what costs nothing until told to stop; how long each answer took, in s."""
    answers_s = []
    while not stop.wait(0.01):
        began_s = time.monotonic()
        with Wire(port) as wire:
            wire.send(request("GET", "/healthz"))
            assert 200 == wire.answer().status
        answers_s.append(time.monotonic() - began_s)
    return answers_s


def dropped(port):
    with Wire(port) as wire:
        wire.send(request("GET", "/metrics"))
        text = wire.answer().body.decode()
    return float(
        re.search(r"^reelready_log_lines_dropped_total (\S+)", text, re.MULTILINE)[1]
    )


async def ready(port):
    """Wait until it serves."""

    def serves():
        with Wire(port) as wire:
            wire.send(request("GET", "/readyz"))
            return wire.answer().status == 200

    async with asyncio.timeout(READY_S):
        while not await asyncio.to_thread(serves):  # noqa: ASYNC110 - only it knows
            await asyncio.sleep(0.02)


async def test_a_reader_that_stopped_stops_nobody(database_url, listening, tmp_path):
    port = listening.getsockname()[1]
    reading, writing = os.pipe()
    kept = tmp_path / "log"
    with kept.open("wb") as log:
        reader = await asyncio.create_subprocess_exec("cat", stdin=reading, stdout=log)
    os.close(reading)
    try:
        async with serving(
            database_url, listening, stderr=writing, ACCESS_LOG="on"
        ) as process:
            os.close(writing)
            await ready(port)
            await asyncio.to_thread(ask, port, AT_ONCE)
            assert 0 == dropped(port)

            reader.send_signal(signal.SIGSTOP)
            stop = threading.Event()
            knocking = asyncio.create_task(asyncio.to_thread(knock, port, stop))
            slowest_s = await asyncio.to_thread(ask, port, MORE_LINES)
            stop.set()
            answers_s = await knocking
            lost = await asyncio.to_thread(dropped, port)

            read = kept.stat().st_size
            reader.send_signal(signal.SIGCONT)
            await until(lambda: kept.stat().st_size > read)
            await asyncio.to_thread(ask, port, AT_ONCE)

            reader.send_signal(signal.SIGSTOP)
            await asyncio.to_thread(ask, port, MORE_LINES)
            process.send_signal(signal.SIGTERM)
            asked_s = time.monotonic()
            assert 0 == await process.wait()
            exit_s = time.monotonic() - asked_s
    finally:
        reader.kill()
        await reader.wait()

    assert lost > 0
    assert slowest_s < 5
    # The loop is held up by nobody; one in twenty may meet a busy machine.
    assert percentile(answers_s, 0.95) < 0.25
    assert exit_s < 5
    lines = kept.read_text().splitlines()
    assert API_KEY not in kept.read_text()
    assert all(line.startswith("{") for line in lines[:-1])


async def test_a_log_on_a_full_disk_is_counted(database_url, listening):
    port = listening.getsockname()[1]
    full = os.open("/dev/full", os.O_WRONLY)
    async with serving(
        database_url, listening, stderr=full, ACCESS_LOG="on"
    ) as process:
        os.close(full)
        await ready(port)
        await asyncio.to_thread(ask, port, AT_ONCE)

        # The thread that writes fails at one line after the other.
        while True:
            if await asyncio.to_thread(dropped, port) >= AT_ONCE:
                break
            await asyncio.sleep(0.05)

        process.send_signal(signal.SIGTERM)
        assert 0 == await process.wait()
