"""
Which process runs on which core: the server alone on the first one, everything
else (load client, Postgres, Redis, this driver) on the second.

A child inherits the cores of the thread that starts it, so nothing is moved
later and no thread of a child escapes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def all_cores() -> list[int]:
    """Cores this process was given, before it pinned itself."""
    return _ALL


def server_core() -> int:
    """Where the server under measurement runs."""
    return _ALL[0]


def client_core() -> int:
    """Where everything else runs; the same one on a machine with one core."""
    return _ALL[min(1, len(_ALL) - 1)]


def pin_driver() -> None:
    """Leave the server's core; call it before any thread is started."""
    os.sched_setaffinity(0, {client_core()})


@contextmanager
def on_server_core() -> Iterator[None]:
    """Children started inside run on the server's core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {server_core()})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


_ALL = sorted(os.sched_getaffinity(0))
