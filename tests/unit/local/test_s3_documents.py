"""Small readers and writers: tags, XML, ranges, policies, file names."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.s3 import bucket_policy, disk, tags, xmldoc
from local.s3.checksums import Digests
from local.s3.download import Span, span_of
from local.s3.errors import S3Error
from local.s3.form_upload import base_name


@given(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\r\ufffe\uffff")
    ).filter(lambda text: not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", text))
)
def test_text_comes_out_of_xml_as_it_went_in(text):
    tree = ET.fromstring(xmldoc.document("Root", xmldoc.leaf("Key", text)))

    assert text == (tree[0].text or "")


def test_characters_that_xml_lacks_are_written_as_s3_writes_them():
    assert "<Key>a&#x1;b</Key>" == xmldoc.leaf("Key", "a\x01b")


@given(
    st.dictionaries(st.text("ab &<%한", min_size=1), st.text("ab+&=한"), max_size=10)
)
def test_tags_survive_writing_and_reading(given_tags):
    assert given_tags == tags.from_document(tags.to_document(given_tags))


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("=value", "InvalidTag"),
        ("a" * 129, "InvalidTag"),
        (f"a={'b' * 257}", "InvalidTag"),
        ("a=1&a=1", "InvalidTag"),
        ("a=%ff", "InvalidArgument"),
        ("&".join(f"{one}=1" for one in range(50)), "InvalidArgument"),
    ],
)
def test_tags_have_limits(header, code):
    with pytest.raises(S3Error, match=code):
        tags.from_header(header)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, Span(0, 10)),
        ("bytes=0-0", Span(0, 1, partial=True)),
        ("bytes=9-", Span(9, 1, partial=True)),
        ("bytes=-20", Span(0, 10, partial=True)),
        ("bytes=5-4", Span(0, 10)),
        ("bytes=0-1,3-4", Span(0, 10)),
        ("bytes=-", Span(0, 10)),
        ("lines=1-2", Span(0, 10)),
    ],
)
def test_a_range_that_means_nothing_asks_for_all(header, span):
    assert span == span_of(header, 10)


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10)])
def test_a_range_of_nothing_is_refused(header, size):
    with pytest.raises(S3Error, match="InvalidRange"):
        span_of(header, size)


@pytest.mark.parametrize(
    ("resource", "key", "public"),
    [
        ("video/hls/*", "video/hls/1/a.ts", True),
        ("video/hls/*", "video/hls", False),
        ("video/hls/*", "x/video/hls/1", False),
        ("video/hls/*", "video/hls/a\nb", True),
        ("video/?.mp4", "video/1.mp4", True),
        ("video/?.mp4", "video/12.mp4", False),
        ("a.b/*", "axb/c", False),
        ("*", "any", True),
    ],
)
def test_a_policy_publishes_what_its_pattern_says(resource, key, public):
    document = (
        '{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",'
        f' "Resource": "arn:aws:s3:::media/{resource}"}}}}'
    )

    (pattern,) = bucket_policy.public_patterns(document.encode(), "media")

    assert public == bool(pattern.fullmatch(key))


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"Statement": 1}', b"\xff"])
def test_a_policy_that_is_none_is_refused(document):
    with pytest.raises(S3Error, match="MalformedPolicy"):
        bucket_policy.public_patterns(document, "media")


@given(st.sets(st.text(st.characters(exclude_categories=["Cs"])), max_size=20))
def test_names_on_disk_are_safe_and_their_own(keys):
    names = {disk.name_of(key) for key in keys}

    assert len(keys) == len(names)
    assert all(re.fullmatch("[0-9a-f]{64}", name) for name in names)


def test_a_file_that_is_not_kept_leaves_nothing(tmp_path):
    with disk.IncomingFile(tmp_path, Digests()) as incoming:
        incoming.write(b"half")

    assert [] == list(tmp_path.iterdir())


def test_a_kept_file_is_whole_under_its_name(tmp_path):
    with disk.IncomingFile(tmp_path, Digests(["crc32"])) as incoming:
        incoming.write(b"ab")
        incoming.write(b"c")
        incoming.keep(tmp_path / "name")

    assert [tmp_path / "name"] == list(tmp_path.iterdir())
    assert b"abc" == (tmp_path / "name").read_bytes()
    assert {"crc32": "NSRBwg=="} == incoming.digests.checksums()


@pytest.mark.parametrize(
    ("path", "name"),
    [("a.mp4", "a.mp4"), ("/x/a.mp4", "a.mp4"), ("C:\\x\\a.mp4", "a.mp4"), ("", "")],
)
def test_only_the_last_part_of_a_file_name_counts(path, name):
    assert name == base_name(path)
