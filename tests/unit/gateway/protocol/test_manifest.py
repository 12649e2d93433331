from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidError
from gateway.model import Playback, Rendition, Report, ReportType
from gateway.protocol import manifest
from gateway.protocol.manifest import MAX_RENDITIONS, MAX_URL_CHARS, Outputs

FILE = "0199-a"
OWN = f"s3://films/video/hls/{FILE}/"
OUTPUTS = Outputs("films", "video/hls/", "https://cdn.test/v/")

MANIFEST = {
    "job_id": "job-1",
    "attempt": 1,
    "occurred_at": "2026-03-01T12:00:00Z",
    "master_playlist": OWN + "master.m3u8",
    "duration_ms": 30_500,
    "renditions": [
        {
            "playlist": OWN + "master_720.m3u8",
            "width": 1280,
            "height": 720,
            "bandwidth": 3_000_000,
            "average_bandwidth": 2_500_000,
            "codecs": "avc1.64001f,mp4a.40.2",
            "frame_rate": 29.97,
        }
    ],
    "sender": "hls_file_manifest_saver",
}


def decode(said: object) -> Report:
    return manifest.decode(msgspec.json.encode(said), FILE, OUTPUTS)


def with_rendition(**changes: object) -> dict[str, object]:
    return MANIFEST | {"renditions": [MANIFEST["renditions"][0] | changes]}


def test_a_manifest_completes_a_file_and_says_where_it_plays():
    assert decode(MANIFEST | {"new_field": [1]}) == Report(
        type=ReportType.COMPLETED,
        occurred_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        job_id="job-1",
        attempt=1,
        sender="hls_file_manifest_saver",
        playback=Playback(
            hls_url=f"https://cdn.test/v/video/hls/{FILE}/master.m3u8",
            duration_ms=30_500,
            renditions=(
                Rendition(
                    url=f"https://cdn.test/v/video/hls/{FILE}/master_720.m3u8",
                    width=1280,
                    height=720,
                    bandwidth=3_000_000,
                    average_bandwidth=2_500_000,
                    codecs="avc1.64001f,mp4a.40.2",
                    frame_rate=29.97,
                ),
            ),
        ),
    )


def test_what_the_job_did_not_say_may_be_absent_or_null():
    required = {
        name: MANIFEST[name] for name in ("job_id", "occurred_at", "master_playlist")
    }

    report = decode(required | {"renditions": [{}, {"width": None, "playlist": None}]})

    assert (Rendition(), Rendition()) == report.playback.renditions
    assert (None, None, None) == (
        report.attempt,
        report.sender,
        report.playback.duration_ms,
    )


@pytest.mark.parametrize("gone", ["job_id", "occurred_at", "master_playlist"])
def test_a_required_field_that_is_missing_is_named(gone):
    with pytest.raises(InvalidError) as raised:
        decode({name: value for name, value in MANIFEST.items() if name != gone})

    assert gone == raised.value.field


WRONG = {
    "job_id": [None, 1, "", " ", "a" * 201, "a\nb", "\0", "\x85", "\u2028"],
    "attempt": [0, -1, 1001, "1", 1.5, True],
    "occurred_at": [
        *[None, 0, "", "yesterday", "2026-03-01", "2026-03-01T12:00:00"],
        *["2026-02-30T00:00:00Z", "0001-01-01T00:00:00+14:00"],
        "9999-12-31T23:59:59-14:00",
    ],
    "duration_ms": [-1, "1", 1.5, 2**53 + 1, {}],
    "renditions": [None, {}, "x", [{}] * (MAX_RENDITIONS + 1)],
    "sender": [1, "", "a" * 201, "a\x7fb"],
    "master_playlist": [
        *[None, 1, "", "master.m3u8", "https://cdn.test/master.m3u8", "s3:", "s3://"],
        *[
            "s3://[",
            "s3://[::1/a",
            "s3://fil\u2100ms/a",
            "S3://films/video/hls/0199-a/a",
        ],
        *[f"s3://others/video/hls/{FILE}/a", f"s3://films:443/video/hls/{FILE}/a"],
        *[f"s3://films@evil/video/hls/{FILE}/a", f"s3://films.evil/video/hls/{FILE}/a"],
        *["s3://films/video/hls/0199-b/a", "s3://films/video/hls/0199-ab/a"],
        *[f"s3://films//video/hls/{FILE}/a", f"s3://films/video/origin/{FILE}/a"],
        *[OWN[:-1], OWN + "../0199-b/a", OWN + "..", OWN + "a/../../0199-b/a"],
        *[OWN + "%2e%2e/0199-b/a", OWN + "%2E./0199-b/a", OWN + ".%2e%2f0199-b/a"],
        *[OWN + "a\nb", OWN + "a\0", OWN + "\x7f", OWN + "\u2028", OWN + "\x85"],
        *["s3://fil\tms/video/hls/0199-a/a", "\ns3://films/video/hls/0199-a/a"],
        OWN + "a" * MAX_URL_CHARS,
    ],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [(name, value) for name, those in WRONG.items() for value in those],
)
def test_a_field_that_is_wrong_is_named(field, value):
    with pytest.raises(InvalidError) as raised:
        decode(MANIFEST | {field: value})

    assert field == raised.value.field
    assert str(raised.value).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("playlist", value) for value in WRONG["master_playlist"] if value],
        *[("width", value) for value in (-1, 1.5, "1", 2**53 + 1)],
        *[("height", value) for value in (-1, "1")],
        *[("bandwidth", value) for value in (-1, "1")],
        *[("average_bandwidth", value) for value in (-1, "1")],
        *[("codecs", value) for value in (1, "a" * 201, "avc1\0")],
        *[("frame_rate", value) for value in (-0.1, 10_001, "25")],
    ],
)
def test_a_rendition_that_is_wrong_is_named_with_its_place(field, value):
    with pytest.raises(InvalidError) as raised:
        decode(with_rendition(**{field: value}))

    assert f"renditions[0].{field}" == raised.value.field


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        (f"s3://others/video/hls/{FILE}/a.m3u8", "is not in s3://films/"),
        (f"S3://films/video/hls/{FILE}/a.m3u8", "is not in s3://films/"),
        ("s3://films/video/hls/0199-b/a.m3u8", f"is not under video/hls/{FILE}/"),
        ("s3://films/video/hls/0199-ab/a.m3u8", f"is not under video/hls/{FILE}/"),
        (OWN + "../0199-b/a.m3u8", f"is not under video/hls/{FILE}/"),
        (OWN + "a/../../0199-b/a.m3u8", f"is not under video/hls/{FILE}/"),
        (OWN + "%2e%2E/0199-b/a.m3u8", f"is not under video/hls/{FILE}/"),
        (OWN + "..%2f0199-b/a.m3u8", f"is not under video/hls/{FILE}/"),
        (OWN + "a.mp4", "is not a .m3u8 playlist"),
        (OWN + "a\n.m3u8", "holds control characters"),
        (
            f"{OWN:a<{MAX_URL_CHARS - 4}}.m3u8",
            f"is longer than {MAX_URL_CHARS} characters",
        ),
    ],
)
def test_a_playlist_that_is_not_this_files_is_refused_for_what_it_is(uri, problem):
    with pytest.raises(InvalidError) as raised:
        OUTPUTS.url("master_playlist", uri, FILE)

    assert f"master_playlist: {problem}" == str(raised.value)
    assert "master_playlist" == raised.value.field


def test_a_playlist_may_be_as_long_as_is_said():
    longest = f"{OWN:a<{MAX_URL_CHARS - 5}}.m3u8"

    assert OUTPUTS.url("master_playlist", longest, FILE).endswith("a.m3u8")


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("영상.m3u8", "%EC%98%81%EC%83%81.m3u8"),
        ("a b.m3u8", "a%20b.m3u8"),
        ("a+b.m3u8", "a%2Bb.m3u8"),
        ("a%20b.m3u8", "a%2520b.m3u8"),
        ("a?token=1#top.m3u8", "a%3Ftoken%3D1%23top.m3u8"),
        ("a\\..\\b.m3u8", "a%5C..%5Cb.m3u8"),
        ("deep/er.m3u8", "deep/er.m3u8"),
        ("..a/b...m3u8", "..a/b...m3u8"),
    ],
)
def test_a_key_is_quoted_so_that_a_player_asks_for_that_key(name, quoted):
    url = decode(MANIFEST | {"master_playlist": OWN + name}).playback.hls_url

    assert f"https://cdn.test/v/video/hls/{FILE}/{quoted}" == url


@given(st.text(min_size=1, max_size=300))
def test_whatever_is_named_plays_from_this_files_own_place_or_is_refused(name):
    try:
        url = OUTPUTS.url("master_playlist", f"{OWN}{name}.m3u8", FILE)
    except InvalidError as error:
        assert "master_playlist" == error.field  # noqa: PT017 - both ways are right
        return

    parts = urlsplit(url)
    assert ("https", "cdn.test", "", "") == (
        parts.scheme,
        parts.netloc,
        parts.query,
        parts.fragment,
    )
    assert f"/v/video/hls/{FILE}/{name}.m3u8" == unquote(parts.path)
    assert ".." not in unquote(parts.path).split("/")
    assert url.isascii()


@given(st.text())
def test_no_address_whatever_is_a_fault_of_ours(uri):
    with pytest.raises(InvalidError):
        OUTPUTS.url("master_playlist", uri, FILE)


def test_times_are_moved_to_utc():
    said = decode(MANIFEST | {"occurred_at": "2026-03-01T21:00:00+09:00"})

    assert datetime(2026, 3, 1, 12, tzinfo=UTC) == said.occurred_at
    assert UTC is said.occurred_at.tzinfo
