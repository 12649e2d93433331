"""Handlers in threads of one process, which have its environment in common."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lambda_functions import RETURNS, Make, maker


@pytest.fixture
def make_thread(tmp_path: Path) -> Make:
    return maker(tmp_path, in_process=True)


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    before = dict(os.environ)
    path = list(sys.path)
    yield
    assert before == dict(os.environ)
    assert path == sys.path


async def test_threads_of_functions_that_agree_share_the_process(make_thread: Make):
    shared = {"GATEWAY_URL": "http://127.0.0.1:1/"}
    with _environment_kept():
        async with (
            make_thread(RETURNS, env=shared) as one,
            make_thread(RETURNS, env={**shared, "MORE": "1"}) as other,
        ):
            answers = [await one.invoke(1), await other.invoke(2)]

    assert [{"heard": 1}, {"heard": 2}] == answers


async def test_threads_of_functions_that_disagree_are_refused(make_thread: Make):
    one = make_thread(RETURNS, env={"GATEWAY_URL": "http://127.0.0.1:1/"})
    other = make_thread(RETURNS, env={"GATEWAY_URL": "http://127.0.0.1:2/"})

    with _environment_kept():
        async with one:
            with pytest.raises(ValueError, match="GATEWAY_URL"):
                await other.__aenter__()
