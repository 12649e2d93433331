import json
from pathlib import Path

import pytest
from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol import sse, sse_parser
from gateway.protocol.sse_parser import ServerEvent, SseParser

VECTORS = json.loads(
    Path(__file__).parents[3].joinpath("vectors/sse_parsing.json").read_text("utf-8")
)["vectors"]

PIECES = [
    *["data: ", "data", "id: ", "event: ", "retry: ", "\n", "\r", "\r\n", "\n\n"],
    *[":", " ", "\0", "é", "영", "\u2028", "x", "1"],
]
streams = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


def _bytes(vector):
    if "input_hex" in vector:
        return bytes.fromhex(vector["input_hex"])
    return vector["input"].encode()


def _events(chunks, parser=None):
    parser = parser or SseParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
@pytest.mark.parametrize("cut", ["whole", "bytes", "pairs"])
def test_a_vector_reads_the_same_however_it_is_cut(vector, cut):
    stream = _bytes(vector)
    step = {"whole": len(stream), "bytes": 1, "pairs": 2}[cut]
    parser = SseParser()

    events = _events(
        [stream[at : at + step] for at in range(0, len(stream), step)], parser
    )

    assert [ServerEvent(**event) for event in vector["events"]] == events
    assert vector["retry_ms"] == parser.retry_ms


@given(streams, st.lists(st.integers(1, 9), max_size=30))
def test_cuts_never_change_what_is_read(stream, sizes):
    raw = stream.encode()
    chunks, at = [], 0
    for size in sizes:
        chunks.append(raw[at : at + size])
        at += size

    assert _events([raw]) == _events([*chunks, raw[at:]])


@given(streams)
def test_httpx_sse_reads_the_same_events(stream):
    # httpx-sse, unlike the standard, also dispatches events without data.
    lines, decoder = SSELineDecoder(), SSEDecoder()
    theirs, has_data = [], False
    for line in lines.decode(stream) + lines.flush():
        event = decoder.decode(line)
        if event and has_data:
            theirs.append(ServerEvent(event.event or "message", event.data, event.id))
        has_data = bool(line) and (has_data or line.partition(":")[0] == "data")

    assert theirs == _events([stream.encode()])


def test_what_the_gateway_frames_reads_back():
    frames = (
        sse.hello(2000)
        + sse.event(4, b'{"name": "a"}')
        + sse.HEARTBEAT
        + sse.reset("unknown_cursor")
        + sse.bye("age", retry_ms=1500)
    )
    parser = SseParser()

    events = parser.feed(frames)

    assert ["message", "hb", "reset", "bye"] == [event.type for event in events]
    assert ServerEvent("message", '{"name": "a"}', "4") == events[0]
    assert ("4", 1500) == (parser.last_event_id, parser.retry_ms)


def test_an_unfinished_event_does_not_move_the_cursor():
    parser = SseParser("3")

    parser.feed(b"id: 4\ndata: x\n")

    assert "3" == parser.last_event_id


@pytest.mark.parametrize("stream", [b"data: aaaa\n", b"data: aaaaaaaaaaaaaa"])
def test_an_event_without_end_is_refused(monkeypatch, stream):
    monkeypatch.setattr(sse_parser, "MAX_EVENT_CHARS", 1000)

    with pytest.raises(ValueError, match="over 1000 characters"):
        _events([stream] * 1000)
