"""X-Ray's trace header in the words of W3C."""

import pytest

from lambdas.trace import VARIABLE, traceparent

ROOT = "1-5759e988-bd862e3fe1be46a994272793"
TRACE = "5759e988bd862e3fe1be46a994272793"
PARENT = "53995c3f42cd8ad8"


@pytest.mark.parametrize(
    ("said", "header"),
    [
        (f"Root={ROOT};Parent={PARENT};Sampled=1", f"00-{TRACE}-{PARENT}-01"),
        (f"Root={ROOT};Parent={PARENT};Sampled=0", f"00-{TRACE}-{PARENT}-00"),
        (f"Root={ROOT};Parent={PARENT};Sampled=?", f"00-{TRACE}-{PARENT}-00"),
        (f"Root={ROOT};Parent={PARENT}", f"00-{TRACE}-{PARENT}-00"),
        (
            f"Sampled=1; Lineage=1:2|3:4; Parent={PARENT}; Root={ROOT}; Self=x",
            f"00-{TRACE}-{PARENT}-01",
        ),
    ],
)
def test_it_is_written_as_w3c_has_it(said, header):
    assert header == traceparent({VARIABLE: said})


@pytest.mark.parametrize(
    "said",
    [
        "",
        f"Root={ROOT};Sampled=1",
        f"Parent={PARENT};Sampled=1",
        f"Root={ROOT[:-1]};Parent={PARENT};Sampled=1",
        f"Root=2{ROOT[1:]};Parent={PARENT};Sampled=1",
        f"Root={ROOT.upper()};Parent={PARENT.upper()};Sampled=1",
        f"Root={ROOT};Parent={PARENT}\r\nx: y;Sampled=1",
        "Root",
    ],
)
def test_what_is_no_trace_is_not_passed_on(said):
    assert traceparent({VARIABLE: said}) is None


def test_outside_of_lambda_there_is_none():
    assert traceparent({}) is None
