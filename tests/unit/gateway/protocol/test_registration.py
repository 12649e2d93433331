import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidError
from gateway.protocol import registration
from gateway.protocol.registration import (
    MAX_METADATA_BYTES,
    MAX_METADATA_DEPTH,
    Registration,
    extension,
)

LIMIT_BYTES = 1000
SAID = {"name": "휴가.mov", "content_type": "video/quicktime", "size": 1000}


def decode(said: object) -> Registration:
    return registration.decode(msgspec.json.encode(said), max_upload_bytes=LIMIT_BYTES)


def nested(levels: int) -> object:
    """Metadata so many levels deep."""
    value: list[object] = []
    for _ in range(levels - 2):
        value = [value]
    return {"a": value} if levels > 1 else {}


def test_three_fields_are_enough():
    assert decode(SAID) == Registration(
        name="휴가.mov", content_type="video/quicktime", size=1000
    )


def test_everything_else_is_taken_and_unknown_fields_are_ignored():
    more = {"owner": "u-17", "metadata": {"a": [1, None]}, "upload": "post"}

    said = decode(SAID | more | {"new_field": 1})

    assert more == {name: getattr(said, name) for name in more}


WRONG = {
    "name": [None, "", " ", 1, "a" * 256, "a\0.mov", "a\nb", "\u2028", "\x9b31m"],
    "content_type": [
        *[None, "", "video", "video/", "/mp4", "text/html", "image/svg+xml"],
        *["video/mp4; codecs=x", "video/mp4\n", "video/mp4, text/html", "비디오/mp4"],
        *["application/json", "application/zip", "video/" + "a" * 64],
    ],
    "size": [None, 0, -1, LIMIT_BYTES + 1, "1", 1.5, 10**30, True],
    "owner": ["", " ", 1, "a" * 201, "a\tb"],
    "metadata": [
        *[None, [], "x", {"a": "b" * MAX_METADATA_BYTES}, {"a": "영" * 1400}],
        *[nested(MAX_METADATA_DEPTH + 1), nested(500)],
        *[{"a": "x\0"}, {"\0": 1}, {"a": [{"b": "\\\0"}]}],
    ],
    "upload": ["PUT", "multipart", None],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [(name, value) for name, those in WRONG.items() for value in those],
    ids=lambda value: repr(value)[:40],
)
def test_a_field_that_is_wrong_is_named(field, value):
    with pytest.raises(InvalidError) as raised:
        decode(SAID | {field: value})

    assert field == raised.value.field


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "\x01", "u0000"])
def test_what_only_looks_like_nul_may_be_in_metadata(text):
    assert {"a": text} == decode(SAID | {"metadata": {"a": text}}).metadata


@pytest.mark.parametrize("gone", SAID)
def test_a_required_field_that_is_missing_is_named(gone):
    with pytest.raises(InvalidError) as raised:
        decode({name: value for name, value in SAID.items() if name != gone})

    assert gone == raised.value.field


@pytest.mark.parametrize(
    "content_type",
    ["video/mp4", "VIDEO/MP4", "audio/mpeg", "application/octet-stream", "video/x-m4v"],
)
def test_what_may_be_a_video_is_taken(content_type):
    assert content_type == decode(SAID | {"content_type": content_type}).content_type


@pytest.mark.parametrize("levels", [1, MAX_METADATA_DEPTH])
def test_metadata_may_be_nested_as_deep_as_people_do(levels):
    assert nested(levels) == decode(SAID | {"metadata": nested(levels)}).metadata


def test_nesting_without_end_is_refused_and_not_a_fault_of_ours():
    raw = b'{"name":"a","content_type":"video/mp4","size":1,"metadata":{"a":'

    for levels in (40, 900, 990, 1_000, 100_000):
        with pytest.raises(InvalidError, match="nested"):
            registration.decode(
                raw + b"[" * levels + b"]" * levels + b"}}", max_upload_bytes=9
            )


@pytest.mark.parametrize("size", [1, LIMIT_BYTES])
def test_sizes_from_one_byte_to_the_limit_are_taken(size):
    assert size == decode(SAID | {"size": size}).size


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a.mov", ".mov"),
        ("a.MP4", ".mp4"),
        ("휴가 1.2.m2ts", ".m2ts"),
        (".mov", ".mov"),
        ("a", ""),
        ("a.", ""),
        ("a.mov ", ""),
        ("a.영상", ""),
        ("a.mov/../b", ""),
        ("a.toolongext", ""),
        ("a.m+v", ""),
    ],
)
def test_an_extension_is_plain_or_nothing(name, plain):
    assert plain == extension(name)


@given(st.text())
def test_no_name_whatever_gets_into_a_key(name):
    added = extension(name)

    assert added.removeprefix(".").isalnum() or not added
    assert added.isascii()
    assert len(added) <= 9
