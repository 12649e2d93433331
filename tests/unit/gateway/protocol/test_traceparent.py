"""A header of somebody else: read, or as if it were not there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.traceparent import TraceParent, decode

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAID = TraceParent(int(TRACE, 16), int(SPAN, 16), 1)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (f"00-{TRACE}-{SPAN}-01", SAID),
        (f"00-{TRACE}-{SPAN}-00", TraceParent(SAID.trace_id, SAID.span_id, 0)),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", SAID),
        (f"cc-{TRACE}-{SPAN}-01", SAID),
    ],
)
def test_who_sent_it_is_in_a_trace(header, said):
    assert said == decode(header)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.",
        f"cc-{TRACE}-{SPAN}-01-" + "x" * 201,
        f"00-{TRACE[:-1]}٣-{SPAN}-01",
    ],
)
def test_what_is_none_is_ignored(header):
    assert decode(header) is None


@given(st.text(max_size=300))
def test_whatever_comes_is_no_error(header):
    assert decode(header) is None
