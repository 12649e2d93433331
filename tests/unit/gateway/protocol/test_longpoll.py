import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidError
from gateway.protocol.longpoll import encode, wait_s


@pytest.mark.parametrize(
    ("events", "final", "reset", "expected"),
    [
        ([], False, None, b'{"events":[],"after":3,"final":false}'),
        ([b'{"a":1}'], True, None, b'{"events":[{"a":1}],"after":3,"final":true}'),
        (
            [b"{}", b"{}"],
            False,
            "unknown_cursor",
            b'{"events":[{},{}],"after":3,"final":false,"reset":"unknown_cursor"}',
        ),
    ],
)
def test_an_answer_is_the_json_of_the_contract(events, final, reset, expected):
    answer = encode(iter(events), after=3, final=final, reset=reset)

    assert expected == answer
    assert 3 == json.loads(answer)["after"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [("0", 0), ("25", 25), ("55", 55), ("56", 55), ("9" * 99, 55)],
)
def test_a_wait_is_capped(query, expected):
    assert expected == wait_s(query, None, max_s=55)


@pytest.mark.parametrize(
    "query", ["", " ", "-1", "1.5", "1s", "x", "9" * 101, "٣", "\0", "1\n", "\udc80"]
)
def test_a_wait_that_is_not_seconds_is_named(query):
    with pytest.raises(
        InvalidError, match=r"^wait: is not a whole number of seconds$"
    ) as raised:
        wait_s(query, "wait=10", max_s=55)

    assert "wait" == raised.value.field


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        ("wait=10", 10),
        ("WAIT=10", 10),
        ("Wait = 10", 10),
        ('wait="10"', 10),
        ("wait=010", 10),
        ("respond-async, wait=10", 10),
        ("respond-async,wait=10, return=minimal", 10),
        ("wait=10; foo=bar", 10),
        ("wait=5, wait=10", 5),
        ("wait=100", 55),
        ("wait=999999999999999999", 55),
    ],
)
def test_a_preferred_wait_is_read_as_the_rfc_writes_it(prefer, expected):
    assert expected == wait_s(None, prefer, max_s=55)


@pytest.mark.parametrize(
    "prefer",
    [
        *["", "wait", "wait=", "wait=-1", "wait=x", "wait=1.5", "wait=10s", 'wait="10'],
        *["await=10", "x-wait=10", "respond-async; wait=10", "wait=٣", "\0", "\udc80"],
        None,
    ],
)
def test_a_preference_that_is_not_understood_is_ignored(prefer):
    assert wait_s(None, prefer, max_s=55) is None


def test_the_query_wins_over_the_preference():
    assert 3 == wait_s("3", "wait=10", max_s=55)


@given(st.text())
def test_no_preference_whatever_is_an_error(prefer):
    waited = wait_s(None, prefer, max_s=55)

    assert waited is None or 0 <= waited <= 55
