"""One trace per file, the same in every process; which spans are made, and how."""

from types import SimpleNamespace

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor

from gateway.errors import ConfigError
from gateway.model import Event, FileId, Seq
from gateway.protocol.traceparent import TraceParent
from gateway.tracing import Tracing, span_id, trace_id, tracing

FILE = FileId("01a2242b-94ba-7783-8eb3-fe33280b37dd")


class Recorded(SpanProcessor):
    def __init__(self):
        self.spans = []

    def on_end(self, span):
        self.spans.append(span)


@pytest.fixture
def seen():
    recorded = Recorded()
    return SimpleNamespace(
        spans=recorded.spans, tracing=Tracing(recorded, Resource.create({}))
    )


def test_the_trace_of_a_file_is_its_id():
    assert "01a2242b94ba77838eb3fe33280b37dd" == f"{trace_id(FILE):032x}"


@pytest.mark.parametrize("file_id", ["film-7", "z" * 32, "0" * 32, "1" * 33])
def test_a_file_with_another_id_has_a_trace_too(file_id):
    assert 0 < trace_id(FileId(file_id)) < 1 << 128
    assert trace_id(FileId(file_id)) != trace_id(FileId(file_id + "1"))


def test_each_event_has_a_span_that_everybody_can_reckon():
    spans = {span_id(FILE, Seq(seq)) for seq in range(1, 100)}

    assert 99 == len(spans)
    assert all(0 < one < 1 << 64 for one in spans)


def test_a_push_is_the_child_of_the_report_and_that_of_the_registration(seen):
    sender = TraceParent(7, 8, 1)
    seen.tracing.registered(FILE, 1)
    seen.tracing.ingested(FILE, 2, seq=Seq(2), outcome="applied", sender=sender)
    seen.tracing.pushed(
        FILE, [Event(Seq(2), b"{}", b"")], 3, subscribers=5, by="doorbell"
    )

    root, ingest, push = seen.spans
    assert ["register", "ingest", "push"] == [
        one.name.removeprefix("reelready.") for one in seen.spans
    ]
    assert {trace_id(FILE)} == {one.context.trace_id for one in seen.spans}
    assert root.parent is None
    assert root.context.span_id == ingest.parent.span_id
    assert ingest.context.span_id == push.parent.span_id
    assert [(7, 8)] == [(o.context.trace_id, o.context.span_id) for o in ingest.links]
    assert [1, 2, 3] == [one.start_time for one in seen.spans]
    assert (5, "doorbell", 2) == tuple(
        push.attributes[f"reelready.{name}"] for name in ("subscribers", "by", "seq")
    )


def test_a_report_that_changed_nothing_is_no_parent(seen):
    for outcome in ("stale", "stale", "applied"):
        seen.tracing.ingested(FILE, 1, seq=Seq(2), outcome=outcome, sender=None)

    assert 3 == len({one.context.span_id for one in seen.spans})
    assert [()] * 3 == [tuple(one.links) for one in seen.spans]


def test_a_share_of_the_files_is_traced_the_same_everywhere():
    files = [FileId(f"{number:08x}-0000-7000-{number * 13:04x}-{'0' * 12}")
             for number in range(0, 5000, 7)]  # fmt: skip
    traced = []
    for _ in range(2):
        recorded = Recorded()
        some = Tracing(recorded, Resource.create({}), share=0.25)
        for file_id in files:
            some.registered(file_id, 1)
        traced.append([one.attributes["reelready.file_id"] for one in recorded.spans])

    assert traced[0] == traced[1]
    assert 0 < len(traced[0]) < len(files)


@pytest.mark.parametrize("share", ["2", "-1", "most", "nan"])
async def test_a_share_that_is_none_is_named(share):
    with pytest.raises(ConfigError, match="OTEL_TRACES_SAMPLER_ARG: "):
        async with tracing({"OTEL_TRACES_SAMPLER_ARG": share}):
            pass
