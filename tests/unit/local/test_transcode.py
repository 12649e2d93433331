"""The parts of a conversion that need neither ffmpeg nor S3."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from local import transcode
from local.ladder import Ladder
from local.probe import MediaError
from local.transcode import Output, Progress
from tests.clips import MEDIA
from tests.jobs import output, settings


def stream(text: str) -> asyncio.StreamReader:
    """What a child's pipe would give."""
    reader = asyncio.StreamReader()
    reader.feed_data(text.encode())
    reader.feed_eof()
    return reader


async def test_progress_is_read_in_microseconds() -> None:
    """``out_time_ms`` holds microseconds too, and N/A comes first."""
    progress = Progress()
    text = (
        "frame=0\nout_time_us=N/A\nout_time_ms=N/A\nprogress=continue\n"
        "frame=118\nout_time_us=4700000\nout_time_ms=4700000\nprogress=continue\n"
    )

    reached_s = await transcode._follow(stream(text), MEDIA, progress)

    assert 4.7 == reached_s
    assert (118, 47) == (progress.frames, progress.transcoding)


async def test_progress_never_falls_and_never_says_done_early() -> None:
    """100 is for after the end."""
    progress = Progress()
    text = "out_time_us=12000000\nout_time_us=9000000\nprogress=end\n"

    await transcode._follow(stream(text), MEDIA, progress)

    assert 99 == progress.transcoding


async def test_a_file_of_unknown_length_has_no_percentage() -> None:
    """Its frames count, and no time it reaches makes one."""
    progress = Progress(transcoding=None)
    endless = dataclasses.replace(MEDIA, duration_s=None)

    await transcode._follow(stream("frame=5\nout_time_us=1\n"), endless, progress)

    assert (5, None) == (progress.frames, progress.percent)


async def test_only_the_end_of_endless_complaints_is_kept() -> None:
    """A damaged file complains once a frame."""
    tail = await transcode._tail(stream("complaint\n" * 100_000 + "the last word"))

    assert tail.endswith("the last word")
    assert 4 * 4096 >= len(tail)


@pytest.mark.parametrize(
    ("progress", "percent"),
    [
        (Progress(), 0),
        (Progress("TRANSCODING", 100, 50), 45),
        (Progress("UPLOADING", 100, 100, 0), 90),
        (Progress("UPLOADING", 100, 100, 35), 93),
        (Progress("UPLOADING", 100, 100, 100), 100),
    ],
)
def test_transcoding_is_nine_tenths_of_a_job(progress: Progress, percent: int) -> None:
    """The rest is uploading."""
    assert percent == progress.percent


@pytest.mark.parametrize("reached_s", [10.0, 9.5, 9.0])
def test_a_little_less_than_declared_is_a_whole_video(reached_s: float) -> None:
    """Containers round; one second is forgiven."""
    transcode._refuse_truncated(MEDIA, reached_s)


def test_a_video_that_ends_early_is_incomplete() -> None:
    """It says by how much."""
    with pytest.raises(MediaError, match=r"lasts 10\.0 s but ends after 6\.0 s"):
        transcode._refuse_truncated(MEDIA, 6.0)


def test_a_length_found_by_scanning_is_only_a_guess() -> None:
    """MPEG streams declare none."""
    guessed = dataclasses.replace(MEDIA, is_duration_declared=False)

    transcode._refuse_truncated(guessed, 1.0)


def test_nothing_appears_before_what_it_refers_to(tmp_path: Path) -> None:
    """Segments, their playlist, the master last; under the names of the job."""
    ladder = Ladder.of(
        settings(output("_a"), output("_b"), destination="s3://b/o/휴 가")
    )
    outputs = []
    for number, rendition in enumerate(ladder.renditions):
        segments = tuple(tmp_path / f"{number}_0000{n}.ts" for n in (1, 2))
        names = "\n".join(f"#EXTINF:1.0,\n{segment.name}" for segment in segments)
        (tmp_path / f"{number}.m3u8").write_text(f"#EXTM3U\n{names}\n")
        outputs.append(
            Output(
                number=number,
                name=ladder.name(rendition),
                width=2,
                height=2,
                duration_ms=2000,
                average_bps=1,
                peak_bps=1_000_000,
                codecs="avc1.4d401f",
                segments=segments,
            )
        )

    objects = list(transcode._objects(ladder, MEDIA, outputs))

    assert [
        "o/휴 가_a_00001.ts",
        "o/휴 가_a_00002.ts",
        "o/휴 가_a.m3u8",
        "o/휴 가_b_00001.ts",
        "o/휴 가_b_00002.ts",
        "o/휴 가_b.m3u8",
        "o/휴 가.m3u8",
    ] == [item.uri.key for item in objects]
    assert b"\n%ED%9C%B4%20%EA%B0%80_b_00002.ts\n" in objects[5].body()


async def test_an_input_without_a_single_picture_made_nothing(tmp_path: Path) -> None:
    """ffmpeg wrote no playlist, and did not call that an error."""
    ladder = Ladder.of(settings())

    with pytest.raises(MediaError, match="no picture"):
        transcode._outputs(ladder, MEDIA, tmp_path)


@pytest.mark.parametrize(
    ("sizes_bytes", "lengths_s", "expected"),
    [
        ([1000], [2.0], (4000, 4000)),
        ([1000, 2000, 1000], [2.0, 2.0, 2.0], (5333, 8000)),
        ([1000, 1000, 500], [2.0, 2.0, 0.1], (4878, 4878)),
    ],
)
def test_the_peak_is_never_under_the_average(
    sizes_bytes: list[int], lengths_s: list[float], expected: tuple[int, int]
) -> None:
    """A stub at the end does not count as a peak."""
    assert expected == transcode._rates(sizes_bytes, lengths_s)
