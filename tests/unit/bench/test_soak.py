import socket

import msgspec
import pytest

from bench.server import Running, get
from bench.soak.churn import State, judged
from bench.soak.crowd import ROLES, Client, Crowd, _poll
from bench.soak.part import Size
from bench.soak.proxies import _PLANS, _PROXIES, _Story

BASE = State(
    at_s=60.0,
    clients=0,
    subscribers=0,
    connections=0,
    tasks=9,
    open_files=20,
    pss_kib=50_000,
)


@pytest.fixture
def crowd() -> Crowd:
    running = Running(
        port=1,
        pids=list,
        subscriber=lambda file: get(
            f"/v1/files/f-{file}/events", "Authorization: Bearer t"
        ),
        publication=lambda file, seq: b"%d %d" % (file, seq),
    )
    return Crowd(running, held=0, files=3)


@pytest.fixture
def client():
    with socket.socket() as sock:
        yield Client(sock, "reader", 1)


def missed(base, end, crowd):
    figures = judged(base, end, crowd, least_followed=crowd.counts["reports sent"])
    return [str(figure) for figure in figures if not figure.holds]


def test_a_server_that_is_as_before_misses_nothing(crowd):
    assert [] == missed(BASE, BASE, crowd)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tasks": 10}, "tasks"),
        ({"open_files": 21}, "open_files"),
        ({"subscribers": 1}, "subscribers"),
        ({"connections": 1}, "connections"),
        ({"pss_kib": 56_000}, "memory"),
    ],
)
def test_what_is_left_behind_is_named(crowd, changes, named):
    end = msgspec.structs.replace(BASE, **changes)

    assert named in missed(BASE, end, crowd)[0]


def test_who_never_goes_is_found_though_the_base_line_had_it_too(crowd):
    stuck = msgspec.structs.replace(BASE, subscribers=1)

    assert ["subscribers left: 1 (0) MISSED"] == missed(stuck, stuck, crowd)


def test_a_crowd_that_never_was_there_shows_nothing(crowd):
    crowd.counts.update(
        {"reports sent": 2, "events that followed": 1, "connect: EMFILE": 3}
    )

    assert [
        "clients that never connected: 3 (0) MISSED",
        "events read that followed the first of a connection: 1 (>= 2) MISSED",
    ] == missed(BASE, BASE, crowd)


def test_lost_and_doubled_events_are_seen_wherever_the_bytes_are_cut(crowd, client):
    stream = b"retry: 2000\n: hi\n\n" + b"".join(
        b"id: %d\ndata: {}\n\n" % seq for seq in (4, 5, 7, 7, 8)
    )
    for at in range(len(stream)):
        crowd._check(client, stream[at : at + 1])

    assert (2, 5) == (crowd.gaps, crowd.counts["events read"])
    assert ["events lost or doubled: 2 (0) MISSED"] == missed(BASE, BASE, crowd)


def test_each_role_says_something_of_its_own(crowd):
    first = {role: crowd._first(role, 1) for role in ROLES}

    assert first["board"].startswith(b"GET /v1/events?file=f-1 HTTP/1.1\r\n")
    assert b"Bearer xt" in first["stranger"]
    assert 3 == first["pipeline"].count(b"HTTP/1.1\r\n")
    assert not first["half a head"].endswith(b"\r\n\r\n")


def test_a_poll_is_the_request_of_a_stream_that_does_not_want_one():
    stream = get("/v1/files/f-1/events", "Accept: text/event-stream") + b"\r\n"

    assert get(
        "/v1/files/f-1/events?after=7&wait=15", "Accept: */*"
    ) + b"\r\n" == _poll(stream, after=7)


@pytest.mark.parametrize(
    ("delays_s", "named"),
    [
        ([0.1] * 20 + [1.9], []),
        ([1.0] * 21, ["median event"]),
        ([0.1] * 20 + [2.1], ["slowest event"]),
    ],
)
def test_a_proxy_that_delays_events_is_named(delays_s, named):
    story = _Story(_PROXIES[0], _PLANS[Size.SHORT], reporter=None)
    story.streamed_s = [0.1, *delays_s]
    story.polled_s = [0.1]

    missed = [figure.what for figure in story.figures() if not figure.holds]

    assert [f"{_PROXIES[0].name}: {what}, s" for what in named] == missed
