"""Parked clients against a table in memory and a clock that is turned by hand."""

import asyncio

import pytest

from gateway.auth import Viewer
from gateway.errors import NotFoundError, UnavailableError
from gateway.feed import Feed
from gateway.hub import Hub
from gateway.model import FileId, Seq
from gateway.parking import (
    FIRST_READING_TIMEOUT_S,
    STALL_LIMIT_S,
    Lot,
    Poll,
    Stream,
    spread_retry_ms,
)
from gateway.protocol import cursor
from gateway.telemetry import Metrics
from tests.unit.gateway.fakes import FILE, FakeHistory, settle
from tests.unit.gateway.turned import TurnedWheel

EVERYTHING = Viewer(everything=True)
HEARTBEAT_S = 15.0


class RecordingLine:
    """
    A connection that keeps what it is told.

    Attributes:
        answers: Status and body of each whole answer.
        stream: The bytes of an open stream.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.headers: dict[str, str] = {}
        self.errors: list[Exception] = []
        self.heads = 0
        self.stream = b""
        self.beats_s: list[float] = []
        self.closed = self.aborted = False
        self.clock: TurnedWheel | None = None

    def park(self, parked):
        parked.park()

    def write(self, data):
        assert not self.closed
        self.stream += data
        if self.clock is not None and b"event: hb" in data:
            self.beats_s.append(self.clock.now_s())

    def answer(self, status, headers, body):
        self.headers = dict(headers)
        self.answers.append((status, body))

    def fail(self, error):
        self.errors.append(error)

    def open_stream(self, body):
        self.heads += 1
        self.stream += body

    def hang_up(self):
        self.closed = True

    def abort(self):
        self.aborted = True


class Place:
    """A lot, its table and its feed."""

    def __init__(self) -> None:
        self.hub, self.wheel, self.metrics = Hub(), TurnedWheel(), Metrics()
        self.history = FakeHistory({FILE: 1, "f-2": 1})
        self.lot = Lot(self.hub, self.wheel, self.metrics, heartbeat_s=HEARTBEAT_S)
        self.feed = Feed(self.hub, self.history, self.metrics)

    def poll(self, *, after=1, wait_s=5, whole=False, viewer=EVERYTHING, prefers=False):
        line = RecordingLine()
        poll = Poll(
            self.lot,
            line,
            viewer,
            file_id=FILE,
            after=after,
            wait_s=wait_s,
            whole=whole,
            prefers=prefers,
        )
        poll.park()
        return poll, line

    def stream(self, *, after=0, files=(FILE,), life_s=900.0, viewer=EVERYTHING):
        line = RecordingLine()
        line.clock = self.wheel
        stream = Stream(
            self.lot,
            line,
            viewer,
            cursors={FileId(one): after for one in files},
            numbered=len(files) == 1,
            ends_at_s=self.wheel.now_s() + life_s,
            at_end="age",
        )
        stream.park()
        return stream, line

    def move(self, to, file_id=FILE):
        self.history.heads[file_id] = to
        self.hub.ring([(FileId(file_id), Seq(to))])

    def byes(self, reason):
        return self.metrics.registry.get_sample_value(
            "reelready_byes_total", {"reason": reason}
        )

    def waiting(self):
        return len(self.hub), self.lot.polls, self.lot.streams


@pytest.fixture
async def place():
    """A table with two files at seq 1, and the feed that reads it."""
    one = Place()
    running = asyncio.create_task(one.feed.run())
    yield one
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [] == one.wheel.complaints


class TestPoll:
    async def test_it_waits_no_longer_and_no_shorter_than_it_said(self, place):
        _, line = place.poll(wait_s=5)
        await settle()
        assert (1, 1, 0) == place.waiting()
        place.wheel.pass_s(4.99)
        assert [] == line.answers
        place.wheel.pass_s(0.3)

        assert [(200, b'{"events":[],"after":1,"final":false}')] == line.answers
        assert (0, 0, 0) == place.waiting()

    async def test_it_is_answered_once_when_woken(self, place):
        poll, line = place.poll()
        await settle()
        place.move(2)
        await settle()
        place.wheel.pass_s(100)
        poll.end("drain")
        poll.lost()

        assert 1 == len(line.answers)
        assert b'"after":2' in line.answers[0][1]

    async def test_a_drain_lets_a_first_reading_be_its_answer(self, place):
        place.history.going_on.clear()
        _, line = place.poll(wait_s=50)
        await settle()
        place.hub.drain()
        assert ([], []) == (line.answers, line.errors)
        place.history.going_on.set()
        await settle()

        assert [(200, b'{"events":[],"after":1,"final":false}')] == line.answers
        assert (0, 0, 0) == place.waiting()

    async def test_without_a_first_reading_it_is_503_and_never_answered_again(
        self, place
    ):
        place.history.going_on.clear()
        _, line = place.poll()
        await settle()
        place.wheel.pass_s(FIRST_READING_TIMEOUT_S + 0.2)
        assert [UnavailableError] == [type(error) for error in line.errors]
        place.history.away = True
        place.history.going_on.set()
        await settle()

        assert 1 == len(line.errors)
        assert [] == line.answers
        assert (0, 0, 0) == place.waiting()

    async def test_a_page_that_stops_short_is_asked_for_again(self, place):
        place.history = place.feed._history = FakeHistory({FILE: 9}, page=3)
        _, line = place.poll(after=1, whole=True)
        await settle()

        assert '"9"' == line.headers["ETag"]
        assert 1 == len(line.answers)

    async def test_no_state_is_made_up_when_the_newest_cannot_be_read(self, place):
        place.history = place.feed._history = FakeHistory({FILE: 1}, page=3)
        _, line = place.poll(after=1, whole=True, wait_s=50)
        await settle()

        def go_away():
            place.history.away = len(place.history.reads) > 2

        place.history.during_read = go_away
        place.move(9)
        await settle()

        assert [UnavailableError] == [type(error) for error in line.errors]
        assert [] == line.answers
        assert (0, 0, 0) == place.waiting()

    async def test_a_stranger_is_told_nothing(self, place):
        for whole in (True, False):
            _, line = place.poll(viewer=Viewer(files=frozenset({"f-2"})), whole=whole)
            await settle()

            assert [NotFoundError] == [type(error) for error in line.errors]
        assert (0, 0, 0) == place.waiting()

    async def test_a_preference_is_applied_in_so_many_words(self, place):
        _, line = place.poll(after=cursor.CURRENT, whole=True, prefers=True)
        await settle()

        assert "wait=5" == line.headers["Preference-Applied"]


class TestStream:
    async def test_beats_are_an_interval_apart_and_spread_over_it(self, place):
        begun_s = place.wheel.now_s()
        lines = [place.stream()[1] for _ in range(200)]
        await settle()
        place.wheel.pass_s(3 * HEARTBEAT_S + 1)
        first = sorted(line.beats_s[0] - begun_s for line in lines)

        assert first[-1] <= HEARTBEAT_S + 0.2
        assert all(one < HEARTBEAT_S / 5 for one in first[:15])
        assert all(one > HEARTBEAT_S * 4 / 5 for one in first[-15:])
        for line in lines:
            for sooner, later in zip(line.beats_s, line.beats_s[1:], strict=False):
                assert abs(later - sooner - HEARTBEAT_S) <= 0.5

    async def test_its_age_ends_it_on_time_between_two_beats(self, place):
        _, line = place.stream(life_s=20.0)
        await settle()
        place.wheel.pass_s(19.9)
        assert not line.closed
        place.wheel.pass_s(0.3)

        assert line.stream.endswith(b'data: {"reason": "age"}\n\n')
        assert line.closed
        assert (0, 0, 0) == place.waiting()

    async def test_one_whose_end_is_past_already_ends_at_once(self, place):
        _, line = place.stream(life_s=-1.0)
        await settle()
        place.wheel.pass_s(0.2)

        assert line.closed

    async def test_a_loop_that_was_away_beats_once_and_ends_what_is_due(self, place):
        lines = [place.stream()[1] for _ in range(20)]
        await settle()
        place.wheel.pass_s(300, at_once=True)
        assert {1} == {len(line.beats_s) for line in lines}
        place.wheel.pass_s(3600, at_once=True)

        assert all(line.closed for line in lines)

    async def test_a_stalled_one_is_left_alone_and_read_forward_later(self, place):
        stream, line = place.stream()
        await settle()
        stream.paused()
        before = line.stream
        place.move(5)
        await settle()
        place.wheel.pass_s(STALL_LIMIT_S - 1)
        assert before == line.stream
        reads = len(place.history.reads)
        stream.resumed()
        await settle()

        assert line.stream.count(b"\nid: ") + line.stream.startswith(b"id:") == 5
        assert reads + 1 == len(place.history.reads)

    async def test_one_that_stays_stalled_is_cut(self, place):
        stream, line = place.stream()
        await settle()
        stream.paused()
        place.wheel.pass_s(STALL_LIMIT_S)
        assert not line.aborted
        place.wheel.pass_s(HEARTBEAT_S + 0.5)

        assert line.aborted
        assert 1 == place.byes("behind")
        stream.lost()
        assert (0, 0, 0) == place.waiting()

    async def test_a_stall_that_ends_starts_the_count_anew(self, place):
        stream, line = place.stream()
        await settle()
        for _ in range(3):
            stream.paused()
            place.wheel.pass_s(STALL_LIMIT_S - 1)
            stream.resumed()
            place.wheel.pass_s(HEARTBEAT_S + 0.5)

        assert not line.aborted
        assert len(line.beats_s) >= 3

    async def test_a_board_is_refused_once_however_many_files_it_has(self, place):
        place.history.away = True
        _, line = place.stream(after=cursor.CURRENT, files=(FILE, "f-2"))
        await settle()

        assert (1, 1) == (line.heads, place.byes("refused"))
        assert (0, 0, 0) == place.waiting()

    async def test_a_drain_before_the_first_reading_refuses_once(self, place):
        place.history.going_on.clear()
        _, line = place.stream(after=cursor.CURRENT, files=(FILE, "f-2"))
        await settle()
        place.hub.drain()
        place.history.going_on.set()
        await settle()

        assert 1 == line.heads
        assert line.closed

    async def test_a_drain_says_one_bye_to_a_board(self, place):
        _, line = place.stream(after=cursor.CURRENT, files=(FILE, "f-2"))
        await settle()
        place.hub.drain()

        assert 1 == line.stream.count(b"event: bye") == place.byes("drain")

    async def test_without_a_first_reading_it_is_refused_softly(self, place):
        place.history.going_on.clear()
        _, line = place.stream()
        await settle()
        place.wheel.pass_s(FIRST_READING_TIMEOUT_S + 0.2)
        place.history.going_on.set()
        await settle()

        assert line.stream.endswith(b'data: {"reason": "refused"}\n\n')
        assert 1 == line.heads
        assert (0, 0, 0) == place.waiting()

    async def test_one_file_of_a_board_that_is_not_yours_refuses_it_all(self, place):
        _, line = place.stream(
            after=cursor.CURRENT,
            files=(FILE, "f-2"),
            viewer=Viewer(files=frozenset({"f-2"})),
        )
        await settle()

        assert [NotFoundError] == [type(error) for error in line.errors]
        assert 0 == line.heads
        assert (0, 0, 0) == place.waiting()


async def test_whoever_is_lost_is_forgotten_at_any_stage(place):
    place.history.going_on.clear()
    early = [place.poll()[0], place.stream()[0]]
    await settle()
    for one in early:
        one.lost()
        one.lost()
    place.history.going_on.set()
    late = [place.poll()[0], place.stream()[0]]
    await settle()
    assert (2, 1, 1) == place.waiting()
    for one in late:
        one.lost()
        one.lost()
    place.wheel.pass_s(1000)

    assert (0, 0, 0) == place.waiting()


def test_a_herd_is_kept_apart():
    delays = {spread_retry_ms() for _ in range(200)}

    assert all(1000 <= one <= 5000 for one in delays)
    assert len(delays) > 100
