import random

import pytest

from gateway.client import following
from gateway.client.following import Following, Page
from gateway.protocol import sse
from tests.unit.gateway.small_gateway import frame, state


def _seqs(watch, *chunks):
    return [one.seq for chunk in chunks for one in watch.feed(chunk)]


def test_only_newer_states_are_handed_on():
    watch = Following(after=2)

    seqs = _seqs(watch, *(frame(state(seq=seq)) for seq in (1, 2, 3, 3, 2, 5, 4)))

    assert [3, 5] == seqs
    assert 5 == watch.cursor


def test_a_reset_lets_seq_step_back():
    watch = Following(after=9)

    seqs = _seqs(watch, sse.reset("unknown_cursor"), frame(state(seq=4)))

    assert [4] == seqs
    assert 4 == watch.cursor


@pytest.mark.parametrize("reason", ["age", "drain", "behind", "token", "refused", "x"])
def test_only_bye_final_is_the_end(reason):
    watch = Following()

    watch.feed(sse.bye(reason))
    assert not watch.final

    watch.feed(sse.bye("final"))
    assert watch.final


def test_the_gateway_says_how_long_to_wait():
    watch = Following()
    assert following.FIRST_RETRY_S == watch.delay_s()

    watch.feed(sse.hello(2500))
    assert 2.5 == watch.delay_s()

    watch.feed(sse.bye("drain", retry_ms=9000))
    assert 9.0 == watch.delay_s()

    watch.feed(b"retry: 999999999\n")
    assert following.MAX_RETRY_S == watch.delay_s()


def test_who_is_refused_asks_every_five_to_ten_seconds_or_when_told_to():
    watch = Following()
    watch.failed()

    watch.feed(sse.hello(1000) + sse.bye("refused"))
    delays = [watch.delay_s() for _ in range(200)]

    assert 5 <= min(delays) < 6
    assert 9 < max(delays) <= 10
    watch.feed(b"retry: 20000\n")
    assert 20 == watch.delay_s()
    watch.begin()
    watch.feed(sse.HEARTBEAT)
    assert 20 == watch.delay_s()


def test_who_is_refused_and_not_even_told_backs_off(monkeypatch):
    watch = Following()
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    watch.feed(sse.hello(1000) + sse.bye("refused"))
    watch.failed()

    watch.unanswered(at_least_s=3)

    assert not watch.refused
    assert [5, 2] == [watch.delay_s(), watch.delay_s()]


def test_who_is_refused_and_told_has_not_failed(monkeypatch):
    watch = Following()
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    for _ in range(10):
        watch.begin()
        watch.feed(sse.hello(1000) + sse.bye("refused"))
        watch.failed()
        watch.catch_up(Page([], after=1, final=False))

    watch.begin()
    watch.failed()

    assert 2 == watch.delay_s()


def test_a_stream_is_silent_until_it_tells_something_of_the_file():
    watch = Following()
    assert not watch.silent

    watch.opened()
    watch.feed(sse.hello(1000) + sse.bye("refused"))
    assert watch.silent
    assert watch.refused

    watch.begin()
    watch.opened()
    watch.feed(sse.HEARTBEAT)
    assert not watch.silent
    assert not watch.refused


def test_a_page_brings_what_is_newer_and_an_unknown_cursor_begins_anew():
    watch = Following(after=2)

    newer = watch.catch_up(Page([state(seq=2), state(seq=3)], after=3, final=False))
    assert [3] == [one.seq for one in newer]
    assert not watch.final

    older = watch.catch_up(Page([state(seq=1)], after=1, final=True))
    assert [1] == [one.seq for one in older]
    assert watch.final


def test_failures_back_off_with_full_jitter(monkeypatch):
    watch = Following()
    monkeypatch.setattr(random, "uniform", lambda low, high: (low, high)[1])
    delays = []

    for _ in range(40):
        watch.failed()
        delays.append(watch.delay_s())

    assert [4, 8, 16, 30, 30] == delays[:5]
    assert {30} == set(delays[3:])


def test_a_heartbeat_ends_the_backing_off():
    watch = Following()
    watch.failed()

    watch.feed(sse.HEARTBEAT)

    assert following.FIRST_RETRY_S == watch.delay_s()


def test_a_gateway_is_heard_once_it_sends_an_event():
    watch = Following()
    watch.feed(sse.hello(2500))
    assert not watch.heard
    with pytest.raises(ValueError, match="JSON"):
        watch.feed(b"data: nonsense\n\n")
    assert not watch.heard

    watch.feed(sse.HEARTBEAT)
    watch.begin()

    assert watch.heard


def test_a_refusal_can_ask_for_more_once(monkeypatch):
    watch = Following()
    monkeypatch.setattr(random, "uniform", lambda low, high: low)

    watch.failed(at_least_s=7)

    assert [7, 0] == [watch.delay_s(), watch.delay_s()]


def test_half_an_event_of_a_lost_connection_is_forgotten():
    watch = Following()
    watch.feed(frame(state(seq=1))[:20])

    watch.begin()

    assert [2] == _seqs(watch, frame(state(seq=2)))


@pytest.mark.parametrize(
    "stream",
    [
        b"data: nonsense\n\n",
        b'data: {"seq": 1}\n\n',
        b"event: bye\ndata: 7\n\n",
        b"data: \xff\n\n",
    ],
)
def test_what_no_gateway_sends_is_an_error(stream):
    with pytest.raises(ValueError):  # noqa: PT011 - any text
        Following().feed(stream)
