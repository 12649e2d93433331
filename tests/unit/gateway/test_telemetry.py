"""Logging never makes anybody wait for whoever reads it."""

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway import telemetry
from gateway.telemetry import MAX_LOG_LINES, LogWriter, Metrics


@pytest.fixture
def pipe():
    """A pipe: read here, written by a log."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


@pytest.fixture
def dropped():
    """How many lines were dropped since."""
    before = telemetry.log_lines_dropped.value
    return lambda: telemetry.log_lines_dropped.value - before


def log_of(handler):
    log = logging.Logger("test")  # noqa: LOG001 - one that nobody else has
    log.addHandler(handler)
    return log


def drain(reading, until):
    """Read until a line ends with this."""
    read = b""
    while not read.endswith(until):
        read += os.read(reading, 1 << 20)
    return read


def test_lines_come_out_in_order(pipe, dropped):
    reading, writing = pipe
    log = log_of(LogWriter(writing))
    for number in range(1000):
        log.info("%d", number)

    assert list(range(1000)) == [*map(int, drain(reading, b"\n999\n").split())]
    assert 0 == dropped()


def test_a_reader_that_stopped_holds_up_nobody_and_is_counted(pipe, dropped):
    reading, writing = pipe
    handler = LogWriter(writing)
    log = log_of(handler)
    for number in range(2 * MAX_LOG_LINES):
        log.info("%d %s", number, "x" * 100)
    lost = dropped()
    began_s = time.monotonic()
    handler.flush()
    waited_s = time.monotonic() - began_s

    assert lost > 0
    assert waited_s < 10 * telemetry.LOG_FLUSH_S

    with ThreadPoolExecutor() as reader:
        read = reader.submit(drain, reading, b"back\n")
        handler.flush()
        log.info("back")
        *numbers, _ = [line.split()[0] for line in read.result().splitlines()]

    assert 2 * MAX_LOG_LINES - lost == len(numbers)
    assert sorted(map(int, numbers)) == [*map(int, numbers)]
    assert telemetry.log_lines_dropped.value == Metrics().registry.get_sample_value(
        "reelready_log_lines_dropped_total"
    )


def test_a_full_disk_costs_lines_and_nothing_else(dropped):
    full = os.open("/dev/full", os.O_WRONLY)
    handler = LogWriter(full)
    log_of(handler).error("lost")
    handler.flush()

    assert 1 == dropped()
    os.close(full)


def test_a_pipe_that_says_try_again_is_waited_for(pipe):
    reading, writing = pipe
    os.set_blocking(writing, False)
    handler = LogWriter(writing)
    long = "x" * (1 << 20)
    log_of(handler).info(long)

    assert f"{long}\n".encode() == drain(reading, b"\n")


def test_what_cannot_be_formatted_is_told_as_the_library_does(pipe, capsys):
    _, writing = pipe
    log_of(LogWriter(writing)).info("%d", "no number")

    assert "TypeError" in capsys.readouterr().err
