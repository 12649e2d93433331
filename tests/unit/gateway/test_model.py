import msgspec
import pytest

from gateway.model import (
    FILE_ID,
    Event,
    FileError,
    FileRecord,
    FileState,
    Phase,
    Playback,
    Reading,
    Rendition,
    Seq,
    Status,
)
from tests.unit.gateway.fakes import file_state


def reading(*seqs: int, head: int, terminal: bool) -> Reading:
    events = tuple(Event(Seq(seq), b"{}", b"") for seq in seqs)
    return Reading(head=Seq(head), owner=None, events=events, terminal=terminal)


def test_the_last_four_statuses_are_terminal():
    assert ["playable", "failed", "canceled", "expired"] == [
        status.value for status in Status if status.terminal
    ]


def test_a_file_is_the_document_of_the_contract_field_by_field():
    document = msgspec.json.decode(msgspec.json.encode(file_state()))

    assert {
        "id": "f-1",
        "seq": 1,
        "status": "awaiting_upload",
        "name": "휴가.mov",
        "content_type": "video/quicktime",
        "size": 1_048_576,
        "owner": None,
        "metadata": {},
        "attempt": 1,
        "phase": None,
        "percent": None,
        "playback": None,
        "error": None,
        "created_at": "2026-03-01T12:00:00Z",
        "updated_at": "2026-03-01T12:00:00Z",
    } == document


def test_what_is_not_known_of_a_rendition_is_null():
    playback = Playback(
        hls_url="https://cdn.test/a", renditions=(Rendition(height=720),)
    )

    assert {
        "hls_url": "https://cdn.test/a",
        "duration_ms": None,
        "renditions": [
            {
                "url": None,
                "width": None,
                "height": 720,
                "bandwidth": None,
                "average_bandwidth": None,
                "codecs": None,
                "frame_rate": None,
            }
        ],
    } == msgspec.json.decode(msgspec.json.encode(playback))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"phase": Phase.TRANSCODING, "percent": 42, "status": Status.CONVERTING},
        {"error": FileError(code="a", message="b", retryable=True)},
        {"playback": Playback(hls_url="u", renditions=(Rendition(frame_rate=29.97),))},
        {"metadata": {"a": [1, 2.5, None, {"b": "휴가"}]}, "owner": "u-17"},
    ],
)
def test_a_file_is_read_back_as_it_was_written(changes):
    state = file_state(**changes)

    assert state == msgspec.json.decode(msgspec.json.encode(state), type=FileState)


def test_a_file_is_one_line_whatever_its_name():
    encoded = msgspec.json.encode(file_state(name="a\r\nb\n\n\u2028data: x"))

    assert not {b"\r"[0], b"\n"[0]} & set(encoded)


def test_files_do_not_share_their_jobs():
    one, other = FileRecord(state=file_state()), FileRecord(state=file_state())

    assert one.jobs == other.jobs == {}
    assert one.jobs is not other.jobs


@pytest.mark.parametrize(
    ("read", "final"),
    [
        (reading(head=3, terminal=True), True),
        (reading(3, head=3, terminal=True), True),
        (reading(1, 2, head=3, terminal=True), False),
        (reading(3, head=3, terminal=False), False),
        (reading(head=3, terminal=False), False),
    ],
)
def test_a_reading_is_final_when_nothing_can_follow_it(read, final):
    assert final == read.final


@pytest.mark.parametrize(
    "text", ["0", "a-9", "0199f0e2-aaaa-7bbb-8ccc-0123456789ab", "a" * 64]
)
def test_a_file_id_is_url_safe(text):
    assert FILE_ID.fullmatch(text)


@pytest.mark.parametrize("text", ["", "a" * 65, "A", "a/b", "a.b", "é", "a\n", "\0"])
def test_nothing_else_is_a_file_id(text):
    assert not FILE_ID.fullmatch(text)
