import importlib.util
import json
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol import sse
from gateway.protocol.sse_parser import ServerEvent, SseParser
from tests.unit.gateway.fakes import file_state

VECTORS = json.loads(
    Path(__file__).parents[3].joinpath("vectors/sse.json").read_text("utf-8")
)["vectors"]

IDS = [f"{vector['frame']} {vector['of']}" for vector in VECTORS]


@pytest.fixture(scope="module")
def their_decoders():
    """The decoders of httpx-sse, which need no httpx, without its package."""
    spec = importlib.util.find_spec("httpx_sse")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, importlib.util.module_from_spec(spec))
        yield importlib.import_module("httpx_sse._decoders")
        for name in ("httpx_sse._decoders", "httpx_sse._models"):
            patch.delitem(sys.modules, name)


def framed(frame: str, of: dict) -> bytes:
    if frame == "heartbeat":
        return sse.HEARTBEAT
    values = {
        name: value.encode() if name == "data" else value for name, value in of.items()
    }
    return getattr(sse, frame)(**values)


def read(stream: bytes) -> list[ServerEvent]:
    return SseParser().feed(stream)


@pytest.mark.parametrize("vector", VECTORS, ids=IDS)
def test_a_vector_is_written_byte_for_byte(vector):
    assert vector["text"].encode() == framed(vector["frame"], vector["of"])


@pytest.mark.parametrize("vector", VECTORS, ids=IDS)
def test_our_client_reads_a_vector(vector):
    expected = [ServerEvent(**event) for event in vector["events"]]

    assert expected == read(vector["text"].encode())


@pytest.mark.parametrize("vector", VECTORS, ids=IDS)
def test_httpx_sse_reads_a_vector(their_decoders, vector):
    lines = their_decoders.SSELineDecoder()
    decoder = their_decoders.SSEDecoder()
    decoded = map(decoder.decode, lines.decode(vector["text"]) + lines.flush())

    theirs = [
        {
            "type": event.event or "message",
            "data": event.data,
            "last_event_id": event.id,
        }
        for event in decoded
        if event and (event.retry is None or event.data)
    ]
    assert vector["events"] == theirs


@given(name=st.text(), seq=st.integers(1, 10**9 - 1))
def test_any_file_name_comes_back_as_it_was_in_one_event(name, seq):
    data = msgspec.json.encode(file_state(name=name))

    (event,) = read(sse.event(seq, data))

    assert (str(seq), name) == (event.last_event_id, json.loads(event.data)["name"])


@given(st.lists(st.text(), max_size=5))
def test_frames_that_follow_each_other_stay_apart(names):
    stream = b"".join(
        sse.event(seq, msgspec.json.encode(file_state(name=name))) + sse.HEARTBEAT
        for seq, name in enumerate(names, 1)
    )

    events = [event for event in read(stream) if event.type == "message"]

    assert names == [json.loads(event.data)["name"] for event in events]
    assert [str(seq) for seq in range(1, len(names) + 1)] == [
        event.last_event_id for event in events
    ]


@pytest.mark.parametrize(
    "frame",
    [
        sse.hello(1),
        sse.unnumbered(b"{}"),
        sse.reset("unknown_cursor"),
        sse.bye("age", retry_ms=9),
        sse.HEARTBEAT,
    ],
)
def test_only_events_move_a_cursor(frame):
    parser = SseParser()

    parser.feed(sse.event(4, b"{}") + frame)

    assert "4" == parser.last_event_id
    assert b"id:" not in frame


@pytest.mark.parametrize("cut", range(1, len(sse.event(4, b'{"a":1}'))))
def test_a_frame_that_was_cut_off_is_no_event(cut):
    parser = SseParser("3")

    assert [] == parser.feed(sse.event(4, b'{"a":1}')[:-cut])
    assert "3" == parser.last_event_id


def test_a_bye_can_spread_a_herd():
    parser = SseParser()

    parser.feed(sse.hello(2000) + sse.bye("drain", retry_ms=4321))

    assert 4321 == parser.retry_ms


def test_reasons_are_words_of_ours():
    for make in (sse.reset, sse.bye):
        with pytest.raises(UnicodeEncodeError):
            make("끝")
