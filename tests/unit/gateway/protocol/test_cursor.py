from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol import cursor
from gateway.protocol.cursor import CURRENT, UNKNOWN
from gateway.protocol.http import Request

HOSTILE = [
    *[" ", "0x1", "-1", "+1", "1.0", "1e3", "1_0", "1 ", " 1", "1\n", "1,2", "null"],
    *["٣", "\uff11", "²", "\0", "1\0", "\udc80", "é", "1" * 10, "9" * 5000, "earliest"],
]

any_text = st.text(st.characters()) | st.binary().map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)


@pytest.mark.parametrize(
    ("text", "seq"), [("0", 0), ("7", 7), ("007", 7), ("999999999", 999_999_999)]
)
def test_a_seq_is_a_cursor(text, seq):
    assert seq == cursor.parse(text)


@pytest.mark.parametrize("text", [None, ""])
def test_nothing_asks_for_the_current_state(text):
    assert CURRENT == cursor.parse(text)


def request(header, query):
    """A request with this Last-Event-ID and this query."""
    headers = {} if header is None else {"last-event-id": header}
    target = f"/?{urlencode(query, errors='surrogatepass')}"
    return Request("GET", target, headers)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_nobody_gave_out_is_unknown(text):
    assert UNKNOWN == cursor.parse(text)


@given(any_text | st.text("0123456789-\u0663", max_size=12))
def test_any_text_is_a_cursor_of_some_kind(text):
    """Up to nine ASCII digits are their number, and nothing else is one."""
    value = 0
    for place, digit in enumerate(reversed(text)):
        value += "0123456789".find(digit) * 10**place
    is_seq = set(text) <= set("0123456789") and len(text) <= 9

    expected = CURRENT if not text else value if is_seq else UNKNOWN

    assert expected == cursor.parse(text)


@given(any_text, any_text, any_text, any_text)
def test_no_request_is_without_a_defined_start(header, one, two, three):
    query = {"lastEventId": one, "last_event_id": two, "after": three}

    found = cursor.from_request(request(header, query))

    assert UNKNOWN <= found < 10**9


@pytest.mark.parametrize(
    ("header", "query", "expected"),
    [
        (None, {}, CURRENT),
        ("3", {"after": "1"}, 3),
        ("", {"after": "1"}, 1),
        ("x", {"after": "1"}, UNKNOWN),
        (None, {"lastEventId": "4", "last_event_id": "5", "after": "6"}, 4),
        (None, {"last_event_id": "5", "after": "6"}, 5),
        (None, {"after": "0"}, 0),
    ],
)
def test_the_header_of_a_reconnect_wins_over_the_query(header, query, expected):
    assert expected == cursor.from_request(request(header, query))


@pytest.mark.parametrize(
    ("etag", "expected"),
    [
        (None, CURRENT),
        ('"4"', 4),
        ('W/"4"', 4),
        ('"3", W/"5" ,"4"', 5),
        ("*", UNKNOWN),
        ("4", UNKNOWN),
        ('""', UNKNOWN),
        ('"x"', UNKNOWN),
        ('"1234567890"', UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_an_etag_is_a_cursor(etag, expected):
    assert expected == cursor.from_etag(etag)


@given(any_text)
def test_any_text_is_an_etag_of_some_kind(text):
    assert UNKNOWN <= cursor.from_etag(text) < 10**9


@given(st.integers(0, 10**9 - 1))
def test_an_etag_of_ours_is_read_back(seq):
    assert seq == cursor.from_etag(cursor.etag(seq))
