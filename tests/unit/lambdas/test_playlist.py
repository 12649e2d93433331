import pytest

from lambdas.errors import PlaylistError
from lambdas.playlist import MAX_PLAYLIST_BYTES, Variant, parse_master
from tests.unit.lambdas.standins import MASTER_PLAYLIST

LINE = "#EXT-X-STREAM-INF:BANDWIDTH=1"


def master(*lines):
    return "\n".join(["#EXTM3U", *lines])


def test_the_variants_of_a_mediaconvert_playlist_are_read():
    first, second, third = parse_master(MASTER_PLAYLIST)

    assert (
        Variant(
            uri="master_1080.m3u8",
            bandwidth=5605600,
            average_bandwidth=4644618,
            codecs="avc1.4d4028,mp4a.40.2",
            frame_rate=29.97,
            width=1920,
            height=1080,
        )
        == first
    )
    assert ("master_720.m3u8", 720) == (second.uri, second.height)
    assert 480 == third.height


def test_line_ends_of_windows_and_blank_lines_do_not_matter():
    text = MASTER_PLAYLIST.replace("\n", "\r\n\r\n")

    assert parse_master(MASTER_PLAYLIST) == parse_master(text)


def test_what_a_variant_does_not_say_is_unknown():
    (variant,) = parse_master(master(LINE, "v.m3u8"))

    assert Variant("v.m3u8", 1, None, None, None, None, None) == variant


def test_attributes_nobody_asked_for_are_skipped():
    text = master(f'{LINE},AUDIO="a,b=c",X-NEW=0x1F,SCORE=1.5', "v.m3u8")

    assert 1 == parse_master(text)[0].bandwidth


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("\n", 1),
        ("<html>", 1),
        ("\r\n\n<html>", 3),
        (" #EXTM3U\n" + LINE + "\nv.m3u8", 1),
        (master(), 1),
        (master("#EXTINF:6,", "segment.ts"), 3),
        (master(LINE), 2),
        (master(LINE, LINE, "v.m3u8"), 2),
        (master(LINE, "v.m3u8", "", "#EXT-X-STREAM-INF:", "v.m3u8"), 5),
        (master("#EXT-X-STREAM-INF:", "v.m3u8"), 2),
        (master("#EXT-X-STREAM-INF:CODECS=1", "v.m3u8"), 2),
        (master("#EXT-X-STREAM-INF:BANDWIDTH=", "v.m3u8"), 2),
        (master("#EXT-X-STREAM-INF:BANDWIDTH=-1", "v.m3u8"), 2),
        (master("#EXT-X-STREAM-INF:BANDWIDTH=" + "9" * 16, "v.m3u8"), 2),
        (master("#EXT-X-STREAM-INF:BANDWIDTH=\u0661", "v.m3u8"), 2),
        (master("#EXT-X-STREAM-INF: BANDWIDTH=1", "v.m3u8"), 2),
        (master("#EXT-X-STREAM-INF:bandwidth=1", "v.m3u8"), 2),
        (master(LINE + ',CODECS="avc1', "v.m3u8"), 2),
        (master(LINE + ',CODECS="<script>"', "v.m3u8"), 2),
        (master(LINE + ",RESOLUTION=1920", "v.m3u8"), 2),
        (master(LINE + ",RESOLUTION=1920x1080x1", "v.m3u8"), 2),
        (master(LINE + ",FRAME-RATE=nan", "v.m3u8"), 2),
        (master(LINE + ",FRAME-RATE=10001", "v.m3u8"), 2),
        (master(LINE, "v" * 501), 2),
        (master(LINE, "v\x01.m3u8"), 2),
        (master(*[LINE, "v.m3u8"] * 51), 102),
        (master(LINE, "v.m3u8", "#" * MAX_PLAYLIST_BYTES), 4),
        (master(*["#"] * MAX_PLAYLIST_BYTES), 1 + (MAX_PLAYLIST_BYTES - 8) // 2 + 1),
    ],
)
def test_anything_else_is_refused_and_the_line_is_named(text, line):
    with pytest.raises(PlaylistError, match=rf"^line {line}: ") as raised:
        parse_master(text)

    assert line == raised.value.line
