from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Event, Seq
from gateway.protocol.cursor import CURRENT, UNKNOWN
from gateway.store.history import History
from tests.unit.gateway.fakes import FILE, FakeHistory


class RecordingPool:
    """Answers every query with no rows, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    @asynccontextmanager
    async def acquire(self):
        yield self

    async def fetch(self, _sql, *arguments):
        self.asked.append(arguments)
        return []


def reading(after: int, *, head: int, pruned: int = 0, page: int = 500):
    """What is made of the rows that the query returns."""
    history = FakeHistory({FILE: head}, page=page)
    history.pruned[FILE] = pruned
    return history._reading(FILE, after)


def seqs(events: tuple[Event, ...]) -> list[Seq]:
    return [event.seq for event in events]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (CURRENT, (None, [4])),
        (0, (None, [1, 2, 3, 4])),
        (3, (None, [4])),
        (4, (None, [])),
        (5, ("unknown_cursor", [4])),
        (UNKNOWN, ("unknown_cursor", [4])),
        (999_999_999, ("unknown_cursor", [4])),
    ],
)
def test_a_cursor_is_continued_or_reset_to_the_current_state(after, expected):
    read = reading(after, head=4)

    assert expected == (read.reset, seqs(read.events))
    assert 4 == read.head


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (0, ("pruned_cursor", [9])),
        (4, ("pruned_cursor", [9])),
        (5, (None, [6, 7, 8, 9])),
        (CURRENT, (None, [9])),
    ],
)
def test_what_was_pruned_is_a_reset_and_what_is_retained_is_continued(after, expected):
    read = reading(after, head=9, pruned=5)

    assert expected == (read.reset, seqs(read.events))


def test_a_page_stops_short_of_the_head_and_says_so():
    read = reading(0, head=10, page=3)

    assert (None, [1, 2, 3], 10) == (read.reset, seqs(read.events), read.head)


@given(after=st.integers(-2, 12), head=st.integers(1, 10), pruned=st.integers(0, 9))
def test_a_reading_is_whole_or_a_reset_to_the_newest(after, head, pruned):
    read = reading(after, head=head, pruned=min(pruned, head - 1))

    got = seqs(read.events)
    assert all(two == one + 1 for one, two in pairwise(got))
    if read.reset is None and after >= 0:
        assert list(range(after + 1, head + 1)) == got
    else:
        assert [head] == got


@pytest.mark.parametrize("hostile", ["\0", "\udc80", "", "F", "f/1", "f" * 65, "영상"])
async def test_what_cannot_be_a_file_id_never_reaches_the_database(hostile):
    pool = RecordingPool()

    assert {} == await History(pool).read([(hostile, CURRENT), (FILE, 3)])

    assert [([FILE], [3])] == pool.asked
