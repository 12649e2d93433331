"""What a job asks for, and what is refused by name."""

import copy
import dataclasses
import itertools
from typing import Any

import m3u8
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.ladder import Ladder, Rendition, S3Uri, SettingsError, master_playlist
from tests.clips import MEDIA
from tests.jobs import output, settings


def rendition(**changes: Any) -> Rendition:
    """One, read from a job."""
    ladder = Ladder.of(settings(output()))
    return dataclasses.replace(ladder.renditions[0], **changes)


def changed(path: str, value: Any) -> dict[str, Any]:
    """A good job with one member replaced."""
    result = copy.deepcopy(settings(output()))
    *way, last = path.split("/")
    place: Any = result
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    return result


def following(arguments: list[str], option: str) -> list[str]:
    """Every value of an option, in order."""
    pairs = itertools.pairwise(arguments)
    return [value for name, value in pairs if name == option]


@pytest.mark.parametrize(
    ("source", "limits", "expected"),
    [
        ((1920, 1080), (1280, 720), (1280, 720)),
        ((1280, 720), (854, 480), (854, 480)),
        ((1080, 1920), (1280, 720), (406, 720)),
        ((176, 144), (1920, 1080), (176, 144)),
        ((177, 145), (1920, 1080), (176, 144)),
        ((640, 272), (426, 240), (426, 182)),
        ((1, 1), (426, 240), (2, 2)),
        ((641, 361), (None, None), (640, 360)),
        ((1280, 720), (None, 360), (640, 360)),
        ((1280, 720), (640, None), (640, 360)),
    ],
)
def test_a_picture_is_fitted_without_being_enlarged(
    source: tuple[int, int],
    limits: tuple[int | None, int | None],
    expected: tuple[int, int],
) -> None:
    """Even sides, in proportion."""
    fitted = rendition(width_limit=limits[0], height_limit=limits[1])

    assert expected == fitted.size(*source)


def test_fit_enlarges_when_asked_to() -> None:
    """The other scaling behaviour."""
    fitted = rendition(width_limit=1280, height_limit=720, may_upscale=True)

    assert (1280, 720) == fitted.size(320, 180)


@given(
    st.integers(2, 8192),
    st.integers(2, 4320),
    st.integers(2, 4096),
    st.integers(2, 2160),
)
def test_no_side_is_ever_odd_or_larger_than_source_or_limit(
    width: int, height: int, widest: int, highest: int
) -> None:
    """For every source and every box."""
    fitted = rendition(width_limit=widest, height_limit=highest)

    made = fitted.size(width, height)

    assert (0, 0) == (made[0] % 2, made[1] % 2)
    assert 2 <= made[0] <= min(width, widest)
    assert 2 <= made[1] <= min(height, highest)


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("s3://films/out/a/master", "s3://films/out/a/master.m3u8"),
        ("s3://films/out/a/", "s3://films/out/a/holiday 1.m3u8"),
    ],
)
def test_outputs_are_named_after_the_destination(
    destination: str, expected: str
) -> None:
    """A folder takes the input's name."""
    job = settings(
        output("_x"), source="s3://films/in/holiday 1.mov", destination=destination
    )

    assert expected == str(Ladder.of(job).master)


def test_a_rendition_adds_its_modifier_to_the_name() -> None:
    """``master`` and ``_240``."""
    ladder = Ladder.of(settings(output("_240")))

    assert "s3://films/out/a/master_240" == str(ladder.name(ladder.renditions[0]))


HLS = "outputGroups/0/outputGroupSettings/hlsGroupSettings"
OUTPUT = "outputGroups/0/outputs/0"
VIDEO = f"{OUTPUT}/videoDescription"
H264 = f"{VIDEO}/codecSettings/h264Settings"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("inputs", [], "inputs"),
        ("inputs", [{}, {}], "inputs"),
        ("inputs/0/fileInput", None, "inputs/0/fileInput"),
        ("inputs/0/fileInput", "https://example.com/a.mp4", "inputs/0/fileInput"),
        ("inputs/0/fileInput", "file:///etc/passwd", "inputs/0/fileInput"),
        ("inputs/0/fileInput", "s3://films", "inputs/0/fileInput"),
        ("inputs/0/inputClippings", [{}], "inputs/0/inputClippings"),
        (
            "inputs/0/videoSelector/rotate",
            "DEGREES_90",
            "inputs/0/videoSelector/rotate",
        ),
        ("outputGroups", [], "outputGroups"),
        (
            "outputGroups/0/automatedEncodingSettings",
            {"abrSettings": {}},
            "outputGroups/0/automatedEncodingSettings",
        ),
        (
            "outputGroups/0/outputGroupSettings/type",
            "DASH_ISO_GROUP_SETTINGS",
            "outputGroups/0/outputGroupSettings/type",
        ),
        (f"{HLS}/destination", "", f"{HLS}/destination"),
        (f"{HLS}/segmentLength", None, f"{HLS}/segmentLength"),
        (f"{HLS}/encryption", {"type": "SPEKE"}, f"{HLS}/encryption"),
        (f"{HLS}/segmentControl", "SINGLE_FILE", f"{HLS}/segmentControl"),
        (f"{HLS}/manifestCompression", "GZIP", f"{HLS}/manifestCompression"),
        ("outputGroups/0/outputs", [], "outputGroups/0/outputs"),
        (f"{OUTPUT}/nameModifier", None, f"{OUTPUT}/nameModifier"),
        (f"{OUTPUT}/nameModifier", "../x", f"{OUTPUT}/nameModifier"),
        (
            f"{OUTPUT}/containerSettings/container",
            "MP4",
            f"{OUTPUT}/containerSettings/container",
        ),
        (VIDEO, None, VIDEO),
        (f"{VIDEO}/scalingBehavior", "FILL", f"{VIDEO}/scalingBehavior"),
        (f"{VIDEO}/scalingBehavior", None, f"{VIDEO}/scalingBehavior"),
        (f"{VIDEO}/codecSettings/codec", "H_265", f"{VIDEO}/codecSettings/codec"),
        (f"{H264}/maxBitrate", None, f"{H264}/maxBitrate"),
        (f"{H264}/framerateControl", "SPECIFIED", f"{H264}/framerateControl"),
        (f"{OUTPUT}/audioDescriptions", [{}, {}], f"{OUTPUT}/audioDescriptions"),
        (
            f"{OUTPUT}/audioDescriptions/0/codecSettings/codec",
            "AC3",
            f"{OUTPUT}/audioDescriptions/0/codecSettings/codec",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    path: str, value: Any, named: str
) -> None:
    """The whole way to the member, so that it is found in a long job."""
    with pytest.raises(SettingsError) as caught:
        Ladder.of(changed(path, value))

    assert str(caught.value).startswith(f"/settings/{named}: ")


def test_two_outputs_of_one_name_are_refused() -> None:
    """The second would overwrite the first."""
    with pytest.raises(SettingsError, match="outputs/1/nameModifier: must differ"):
        Ladder.of(settings(output("_x"), output("_x")))


def test_the_input_is_decoded_once_for_all_outputs() -> None:
    """One input, one split, one playlist each."""
    ladder = Ladder.of(settings(output("_a"), output("_b"), output("_c")))

    arguments = ladder.arguments(MEDIA)

    assert ["fd:"] == following(arguments, "-i")
    assert "split=3" in following(arguments, "-filter_complex")[0]
    assert ["0_%05d.ts", "1_%05d.ts", "2_%05d.ts"] == following(
        arguments, "-hls_segment_filename"
    )


def test_the_input_can_reach_nothing_but_itself() -> None:
    """One protocol, a few containers."""
    arguments = Ladder.of(settings()).arguments(MEDIA)

    assert ["fd"] == following(arguments, "-protocol_whitelist")
    assert "hls" not in following(arguments, "-format_whitelist")[0]


def test_a_source_without_sound_gives_silent_renditions() -> None:
    """No audio options, no audio map."""
    silent = dataclasses.replace(MEDIA, audio_index=None)

    arguments = Ladder.of(settings()).arguments(silent)

    assert ["[v0]", "[v1]"] == following(arguments, "-map")
    assert "-c:a" not in arguments


def test_an_output_without_sound_stays_silent_beside_one_with() -> None:
    """Each as the job says."""
    quiet = output("_quiet")
    del quiet["audioDescriptions"]

    arguments = Ladder.of(settings(quiet, output("_loud"))).arguments(MEDIA)

    assert ["[v0]", "[v1]", "0:2"] == following(arguments, "-map")


def test_rotation_is_followed_only_when_the_job_says_auto() -> None:
    """The service's default is to ignore it."""
    job = settings()
    del job["inputs"][0]["videoSelector"]
    sideways = dataclasses.replace(MEDIA, rotation_degrees=90)

    ignoring = Ladder.of(job).arguments(sideways)
    following_it = Ladder.of(settings()).arguments(sideways)

    assert "-noautorotate" in ignoring
    assert "scale=1280:720" in following(ignoring, "-filter_complex")[0]
    assert "-noautorotate" not in following_it
    assert "scale=406:720" in following(following_it, "-filter_complex")[0]


def test_pixels_that_are_not_square_stay_so() -> None:
    """The player stretches them, as with the source."""
    wide = dataclasses.replace(MEDIA, pixel_aspect="64/45")

    arguments = Ladder.of(settings()).arguments(wide)

    assert "setsar=64/45" in following(arguments, "-filter_complex")[0]


def test_quality_and_peak_rate_reach_the_encoder() -> None:
    """QVBR: a better level is a lower CRF."""
    job = changed(f"{H264}/qvbrSettings", {"qvbrQualityLevel": 8})

    arguments = Ladder.of(job).arguments(MEDIA)

    assert ["21"] == following(arguments, "-crf")
    assert ["1000000"] == following(arguments, "-maxrate")


def test_an_average_rate_replaces_the_quality() -> None:
    """CBR and VBR name one; GOPs may be counted in frames."""
    h264 = {
        "rateControlMode": "CBR",
        "bitrate": 700_000,
        "gopSize": 48,
        "gopSizeUnits": "FRAMES",
    }

    arguments = Ladder.of(changed(H264, h264)).arguments(MEDIA)

    assert ["700000"] == following(arguments, "-b:v")
    assert ["700000"] == following(arguments, "-maxrate")
    assert ["48"] == following(arguments, "-g")
    assert "-crf" not in arguments


def test_mono_is_made_when_asked_for() -> None:
    """``CODING_MODE_1_0``."""
    path = f"{OUTPUT}/audioDescriptions/0/codecSettings/aacSettings"

    arguments = Ladder.of(changed(path, {"codingMode": "CODING_MODE_1_0"})).arguments(
        MEDIA
    )

    assert ["1"] == following(arguments, "-ac")


def test_a_master_playlist_says_the_frame_rate_and_escapes_names() -> None:
    """A parser gets the very name back."""
    attributes = 'BANDWIDTH=100,AVERAGE-BANDWIDTH=90,RESOLUTION=426x240,CODECS="avc1"'

    text = master_playlist([(attributes, "휴가 1#2_240.m3u8")], "30000/1001")
    variant = m3u8.loads(text).playlists[0]

    assert "%ED%9C%B4%EA%B0%80%201%232_240.m3u8" == variant.uri
    assert 29.97 == variant.stream_info.frame_rate
    assert (426, 240) == variant.stream_info.resolution


def test_an_s3_address_is_written_as_it_was_read() -> None:
    """Spaces and all."""
    assert "s3://films/in/a b.mp4" == str(S3Uri("films", "in/a b.mp4"))
