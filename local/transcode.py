"""
One conversion: an object of S3 in, an HLS ladder in S3 out, by real ffmpeg.

The input is copied to a working folder and handed to ffmpeg as an open file with
no protocol to reach anything else.  Nothing is written to S3 before the whole
ladder exists, and the master playlist is written last: who sees it can play it.

Source: FFmpeg's manual (``-progress``); MediaConvert user guide, "Error codes".
"""

import asyncio
import contextlib
import dataclasses
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import imageio_ffmpeg
from botocore.exceptions import BotoCoreError, ClientError

from local.ladder import Ladder, S3Uri, master_playlist
from local.probe import (
    ACCESS_DENIED,
    NOT_FOUND,
    UNREADABLE,
    Media,
    MediaError,
    probe,
    running,
)

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
SEGMENT_TYPE = "video/mp2t"

_log = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 20
_SEGMENT_S = re.compile(r"^#EXTINF:([\d.]+)", re.MULTILINE)
_CODECS = re.compile(r'CODECS="([^"]*)"')
_STORAGE_ERRORS = (BotoCoreError, aiohttp.ClientError, OSError)


@dataclasses.dataclass(slots=True)
class Progress:
    """
    How far a job is; percentages 0-100, None while unknown.

    ``transcoding`` stays None for a file that does not say how long it is.
    """

    phase: str = "PROBING"
    probing: int = 0
    transcoding: int | None = 0
    uploading: int = 0
    frames: int = 0

    @property
    def percent(self) -> int | None:
        """Of the whole job."""
        if self.transcoding is None:
            return None
        return (9 * self.transcoding + self.uploading) // 10


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """
    One rendition as it was made.

    Attributes:
        peak_bps: Of the densest segment.
        codecs: As RFC 6381 names them.
        segments: Files of the working folder.
    """

    number: int
    name: S3Uri
    width: int
    height: int
    duration_ms: int
    average_bps: int
    peak_bps: int
    codecs: str
    segments: tuple[Path, ...]

    @property
    def attributes(self) -> str:
        """Of its ``EXT-X-STREAM-INF`` line, without the frame rate."""
        return (
            f"BANDWIDTH={self.peak_bps},AVERAGE-BANDWIDTH={self.average_bps},"
            f'CODECS="{self.codecs}",RESOLUTION={self.width}x{self.height}'
        )

    @property
    def playlist(self) -> S3Uri:
        """Where its media playlist goes."""
        return self.name.with_suffix(".m3u8")


async def transcode(
    ladder: Ladder,
    *,
    s3: Any,
    folder: Path,
    progress: Progress,
    on_probed: Callable[[Media], None],
) -> list[Output]:
    """
    Run one job to its end.

    Args:
        s3: An aiobotocore client.
        folder: Empty, for this job alone; the caller removes it.
        progress: Kept up to date meanwhile.
        on_probed: Called once, with what the input is.

    Raises:
        MediaError: The job failed; says why in plain words.
    """
    source = folder / "input"
    await _fetch(s3, ladder.source, source)
    media = await probe(source)
    progress.probing = 100
    on_probed(media)
    await _convert(ladder, media, source, progress)
    outputs = await asyncio.to_thread(_outputs, ladder, media, folder)
    await _upload(ladder, media, outputs, s3, progress)
    return outputs


async def _fetch(s3: Any, uri: S3Uri, target: Path) -> None:
    with _reading(uri):
        answer = await s3.get_object(Bucket=uri.bucket, Key=uri.key)
        async with answer["Body"] as body:
            with target.open("wb") as file:
                async for chunk in body.iter_chunks(_CHUNK_BYTES):
                    await asyncio.to_thread(file.write, chunk)


@contextlib.contextmanager
def _reading(uri: S3Uri) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 403:  # noqa: PLR2004 - HTTP
            msg = f"No permission to read the input file {uri}."
            raise MediaError(ACCESS_DENIED, msg) from error
        msg = f"The input file {uri} does not exist or cannot be opened."
        raise MediaError(NOT_FOUND, msg) from error
    except _STORAGE_ERRORS as error:
        msg = f"The input file {uri} could not be read."
        raise MediaError(NOT_FOUND, msg) from error


async def _convert(
    ladder: Ladder, media: Media, source: Path, progress: Progress
) -> None:
    progress.phase = "TRANSCODING"
    if not media.duration_s:
        progress.transcoding = None
    argv = [imageio_ffmpeg.get_ffmpeg_exe(), *ladder.arguments(media)]
    with source.open("rb") as stdin:
        async with (
            running(*argv, stdin=stdin, cwd=source.parent) as child,
            asyncio.TaskGroup() as group,
        ):
            complaints = group.create_task(_tail(child.stderr))
            reached_s = await _follow(child.stdout, media, progress)
            code = await child.wait()
    if code:
        _log.warning("ffmpeg ended with %s: %s", code, complaints.result())
        raise MediaError(UNREADABLE, "The input could not be decoded to its end.")
    _refuse_truncated(media, reached_s)


async def _follow(stdout: Any, media: Media, progress: Progress) -> float:
    """Read ``-progress`` to its end; returns the seconds of play time written."""
    reached_s = 0.0
    async for line in stdout:
        name, _, value = line.decode().strip().partition("=")
        if name == "frame":
            progress.frames = int(value)
        elif name == "out_time_us" and value != "N/A":
            reached_s = max(reached_s, int(value) / 1_000_000)
            if media.duration_s:
                share = min(99, int(100 * reached_s / media.duration_s))
                progress.transcoding = max(progress.transcoding or 0, share)
    return reached_s


async def _tail(stderr: Any) -> str:
    """The last lines; a damaged file can make millions."""
    last: deque[bytes] = deque(maxlen=4)
    while chunk := await stderr.read(4096):
        last.append(chunk)
    return b"".join(last).decode(errors="replace")


def _refuse_truncated(media: Media, reached_s: float) -> None:
    """ffmpeg converts what there is and is content; half a video is a failure."""
    if not media.is_duration_declared or media.duration_s is None:
        return
    if media.duration_s - reached_s > max(1.0, 0.02 * media.duration_s):
        msg = (
            f"The input file is incomplete: it says it lasts {media.duration_s:.1f} s "
            f"but ends after {reached_s:.1f} s."
        )
        raise MediaError(UNREADABLE, msg)


def _outputs(ladder: Ladder, media: Media, folder: Path) -> list[Output]:
    width, height, _ = media.turned(rotate=ladder.rotate)
    return [
        _output(number, ladder.name(rendition), rendition.size(width, height), folder)
        for number, rendition in enumerate(ladder.renditions)
    ]


def _output(number: int, name: S3Uri, size: tuple[int, int], folder: Path) -> Output:
    master = folder / f"{number}.master.m3u8"
    codecs = _CODECS.search(master.read_text()) if master.exists() else None
    if codecs is None:
        msg = "The input has no picture that could be converted."
        raise MediaError(UNREADABLE, msg)
    playlist = (folder / f"{number}.m3u8").read_text()
    lengths_s = [float(length) for length in _SEGMENT_S.findall(playlist)]
    segments = tuple(sorted(folder.glob(f"{number}_*.ts")))
    average_bps, peak_bps = _rates([s.stat().st_size for s in segments], lengths_s)
    return Output(
        number=number,
        name=name,
        width=size[0],
        height=size[1],
        duration_ms=round(1000 * sum(lengths_s)),
        average_bps=average_bps,
        peak_bps=peak_bps,
        codecs=codecs.group(1),
        segments=segments,
    )


def _rates(sizes_bytes: list[int], lengths_s: list[float]) -> tuple[int, int]:
    """
    Average and peak, bits a second.  A segment shorter than half the longest says
    nothing about the peak (RFC 8216, 4.3.4.2); ffmpeg's own peak may be under its
    average.
    """
    average = 8 * sum(sizes_bytes) / sum(lengths_s)
    peaks = [
        8 * size_bytes / length_s
        for size_bytes, length_s in zip(sizes_bytes, lengths_s, strict=True)
        if length_s >= max(lengths_s) / 2
    ]
    return round(average), round(max(average, *peaks))


@dataclasses.dataclass(frozen=True, slots=True)
class _Object:
    uri: S3Uri
    content_type: str
    body: Callable[[], bytes]


def _objects(ladder: Ladder, media: Media, outputs: list[Output]) -> Iterator[_Object]:
    """In the order they may appear: nothing before what it refers to."""
    for output in outputs:
        for segment in output.segments:
            uri = output.name.with_suffix(segment.name.removeprefix(str(output.number)))
            yield _Object(uri, SEGMENT_TYPE, segment.read_bytes)
        yield _Object(output.playlist, PLAYLIST_TYPE, partial(_playlist, output))
    entries = [(o.attributes, _file_name(o.playlist)) for o in outputs]
    master = master_playlist(entries, media.frame_rate)
    yield _Object(ladder.master, PLAYLIST_TYPE, master.encode)


def _playlist(output: Output) -> bytes:
    """ffmpeg's own, with the names the segments have in S3."""
    text = (output.segments[0].parent / f"{output.number}.m3u8").read_text()
    name = quote(_file_name(output.name), safe="")
    return re.sub(rf"^{output.number}_", f"{name}_", text, flags=re.MULTILINE).encode()


def _file_name(uri: S3Uri) -> str:
    return uri.key.rpartition("/")[2]


async def _upload(
    ladder: Ladder, media: Media, outputs: list[Output], s3: Any, progress: Progress
) -> None:
    progress.phase = "UPLOADING"
    progress.transcoding = 100
    objects = list(_objects(ladder, media, outputs))
    for number, item in enumerate(objects):
        body = await asyncio.to_thread(item.body)
        try:
            await s3.put_object(
                Bucket=item.uri.bucket,
                Key=item.uri.key,
                Body=body,
                ContentType=item.content_type,
            )
        except (ClientError, *_STORAGE_ERRORS) as error:
            msg = f"The output {item.uri} could not be written."
            raise MediaError(ACCESS_DENIED, msg) from error
        progress.uploading = 100 * (number + 1) // len(objects)
