"""A judge of smuggled requests that sees none is worse than none."""

import socket
from itertools import islice

import pytest

from bench.soak.smuggled import Judge, Passed, _Innocent
from bench.soak.smuggling import ENDS, OUTER, corpus, smuggling

MARKED, NAMED, MINE, OTHERS = "f-marked", "f-named", "f-mine", "f-others"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.fixture
def judge() -> Judge:
    return Judge(MARKED, NAMED)


def body(file_id: str) -> bytes:
    return b'{"id":"%b","seq":1}' % file_id.encode()


def test_who_is_told_of_their_own_file_is_answered(judge):
    judge.innocent(MINE, 200, body(MINE))
    judge.raw(b"HTTP/1.1 401 Unauthorized\r\n\r\n")
    judge.raw(b"HTTP/1.1 200 OK\r\n\r\n" + body(NAMED))

    assert (1, 0, 0) == (judge.answers, judge.astray, judge.shown)


@pytest.mark.parametrize(
    ("status", "told", "shown"),
    [
        (200, body(OTHERS), 0),
        (200, body(NAMED), 0),
        (200, body(MARKED), 1),
        (200, body(MINE) + body(OTHERS), 0),
        (200, b"", 0),
        (401, b'{"status":401}', 0),
        (404, body(MINE), 0),
    ],
)
def test_an_innocent_who_is_told_anything_else_was_told_what_is_anothers(
    judge, status, told, shown
):
    judge.innocent(MINE, status, told)

    assert (1, 1, shown) == (judge.answers, judge.astray, judge.shown)


def test_what_a_raw_request_is_told_of_innocents_or_of_the_marked_file_counts(judge):
    judge.raw(b"HTTP/1.1 200 OK\r\n\r\n" + body(NAMED) + body(MINE))
    judge.raw(b"HTTP/1.1 200 OK\r\n\r\n" + body(MARKED))

    assert (1, 1) == (judge.astray, judge.shown)


def test_an_innocent_hears_its_next_answer_only_and_says_when_there_is_none(judge):
    """The server is one answer behind, then goes, then is itself again."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body(MINE))
    with socket.create_server(("127.0.0.1", 0)) as server:
        innocent = _Innocent(server.getsockname()[1], "127.0.0.1")
        served, _ = server.accept()
        heard = []
        for asked, told in ((MINE, MINE), (OTHERS, MINE)):
            innocent.ask(asked, "key")
            served.sendall(head + body(told))
            heard.append(innocent.hears(judge))
        innocent.ask(MINE, "key")
        served.close()
        heard.append(innocent.hears(judge))
        again, _ = server.accept()
        innocent.ask(MINE, "key")
        again.sendall(head + body(MINE))
        heard.append(innocent.hears(judge))
        innocent.close()
        again.close()

    assert [True, True, False, True] == heard
    assert (3, 1) == (judge.answers, judge.astray)


def test_what_nginx_says_of_itself_is_told_from_what_the_gateway_says():
    passed = Passed(["200 99 200", "501 - -", "502 99 502", "400 12 -", "403 0 -"])
    passed.add(Passed(["200 99 200"]))

    assert (4, 3, 1) == (passed.asked, passed.answered, passed.failed)
    assert {
        "gateway 200": 2,
        "gateway 502": 1,
        "nginx 400": 1,
        "nginx 403": 1,
        "nginx 501": 1,
    } == passed.statuses


def test_each_shape_comes_as_it_is_and_the_same_seed_makes_the_same_bytes():
    shapes = [raw for _, raw in corpus(NAMED, "key", HIDDEN)]
    made = [list(islice(smuggling(NAMED, "key", (HIDDEN,), 7), 4000)) for _ in "ab"]

    assert made[0] == made[1]
    assert len(OUTER) * len(ENDS) == len(shapes)
    assert set(shapes) <= set(made[0])
    assert len(set(made[0])) > 3500
    assert sum(HIDDEN in raw for raw in made[0]) > 2000
    assert list(islice(smuggling(NAMED, "key", (HIDDEN,), 8), 4000)) != made[0]


def test_what_is_mixed_names_what_there_is_to_name():
    """No word in braces is left over: each has been filled in."""
    made = islice(smuggling(NAMED, "key", (HIDDEN,), 7), 1, 4000, 2)

    assert not [raw for raw in made if b"{" in raw or b"}" in raw]
