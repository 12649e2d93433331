"""
What is in an uploaded file: the first look at it, in a process of its own.

The file comes from a stranger.  It is opened as one of a few containers, with no
protocol to follow a reference by, in a child that a crash or a time limit can
end without harm.  Run as a script this module is that child: it must import
nothing from this project.

Source: PyAV (FFmpeg's libraries); MediaConvert user guide, "Error codes".
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

FORMATS = "mov,matroska,avi,mpeg,mpegts,flv,asf,mxf,dv"
"""FFmpeg's names of the containers that are opened.  None of them is a playlist
or an image sequence, so a file can only ever speak for itself."""

MAX_PIXELS = 8192 * 4320
"""Largest picture accepted, in pixels."""

UNREADABLE = 1010
UNSUPPORTED = 1030
ACCESS_DENIED = 1401
NOT_FOUND = 1404
INTERNAL = 1999

_MAX_PACKETS_TO_FIRST_FRAME = 500
_DEFAULT_RATE, _MAX_RATE = Fraction(30), Fraction(120)


class MediaError(Exception):
    """
    The job cannot succeed with this input.

    Attributes:
        code: MediaConvert's ``errorCode``.
        message: A sentence for the person who uploaded the file.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """
    One video as its container and its first picture describe it.

    Attributes:
        duration_s: Play time; None when the container does not know.
        is_duration_declared: It was written in the file, not found by scanning,
            so a file that ends earlier is a truncated one.
        width: Of the stored picture, pixels, before rotation; likewise height.
        pixel_aspect: Width to height of one pixel, "1/1" when square.
        rotation_degrees: What the player should turn the picture by.
        frame_rate: Average, frames a second, as a fraction "30000/1001".
        video_index: Stream number in the container; likewise audio, or None.
    """

    container: str
    duration_s: float | None
    is_duration_declared: bool
    width: int
    height: int
    pixel_aspect: str
    rotation_degrees: int
    frame_rate: str
    video_index: int
    video_codec: str
    four_cc: str
    pixel_format: str
    bit_depth: int
    is_interlaced: bool
    audio_index: int | None
    audio_codec: str
    audio_channels: int
    audio_rate_hz: int
    audio_language: str

    def turned(self, *, rotate: bool) -> tuple[int, int, Fraction]:
        """Width, height and pixel aspect of the picture the right way up."""
        aspect = Fraction(self.pixel_aspect)
        if rotate and self.rotation_degrees in {90, 270}:
            return self.height, self.width, 1 / aspect
        return self.width, self.height, aspect


async def probe(source: Path, *, limit_s: float = 60.0) -> Media:
    """
    Look at a local file without trusting it.

    Raises:
        MediaError: It is no video this service can convert.
    """
    if not (await asyncio.to_thread(source.stat)).st_size:
        raise MediaError(UNREADABLE, "The input file is empty.")
    argv = [sys.executable, "-I", __file__]
    with source.open("rb") as stdin:
        async with running(*argv, stdin=stdin) as child:
            try:
                async with asyncio.timeout(limit_s):
                    answer, _ = await child.communicate()
            except TimeoutError:
                answer = b""
    return _media_from(answer)


def _media_from(answer: bytes) -> Media:
    try:
        document = json.loads(answer)
        if "error" in document:
            raise MediaError(*document["error"])
        return Media(**document)
    except (ValueError, TypeError) as error:
        raise _unreadable() from error


@contextlib.asynccontextmanager
async def running(
    *argv: str, stdin: BinaryIO, cwd: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """
    A child process that is gone, and waited for, when the block is left.

    It has a process group of its own: Ctrl-C reaches the program that started
    it, which then decides what ends.
    """
    child = await asyncio.create_subprocess_exec(
        *argv,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def _unreadable() -> MediaError:
    return MediaError(
        UNREADABLE, "The input is not a video file, or it is damaged or incomplete."
    )


def inspect(file: BinaryIO) -> Media:
    """
    Read headers and decode one picture.  Blocks; runs in the child.

    Raises:
        MediaError: No video, an unknown codec, damaged or cut short.
    """
    import av  # noqa: PLC0415 - the parent never loads FFmpeg into its process

    options = {"protocol_whitelist": "none", "format_whitelist": FORMATS}
    try:
        with av.open(file, options=options, metadata_errors="replace") as container:
            video = _video_stream(container)
            _refuse_cut(container, os.fstat(file.fileno()).st_size)
            return _describe(container, video, _first_frame(container, video))
    except (av.FFmpegError, EOFError) as error:
        raise _unreadable() from error


def _video_stream(container: Any) -> Any:
    from av.stream import Disposition  # noqa: PLC0415 - as above

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            break
    else:
        raise MediaError(UNSUPPORTED, "The input has no video track, only sound.")
    if stream.codec_context is None:
        raise MediaError(UNSUPPORTED, "The input's video codec is not supported.")
    return stream


def _refuse_cut(container: Any, size_bytes: int) -> None:
    """The index of a whole file never points behind its end."""
    for stream in container.streams:
        entries = stream.index_entries
        if len(entries):
            last = entries[len(entries) - 1]
            if last.pos + last.size > size_bytes:
                msg = "The input file is incomplete: its end is missing."
                raise MediaError(UNREADABLE, msg)


def _first_frame(container: Any, video: Any) -> Any:
    import av  # noqa: PLC0415 - as above

    for number, packet in enumerate(container.demux(video)):
        with contextlib.suppress(av.error.InvalidDataError):
            for frame in packet.decode():
                return _checked_size(frame)
        if number >= _MAX_PACKETS_TO_FIRST_FRAME:
            break
    raise MediaError(UNREADABLE, "No picture of the input could be decoded.")


def _checked_size(frame: Any) -> Any:
    if frame.width * frame.height > MAX_PIXELS:
        size = f"{frame.width}x{frame.height}"
        raise MediaError(UNSUPPORTED, f"The input's picture is too large: {size}.")
    return frame


def _describe(container: Any, video: Any, frame: Any) -> Media:
    audio = next((s for s in container.streams.audio if s.codec_context), None)
    return Media(
        container=container.format.name,
        duration_s=_duration_s(container, video, audio),
        is_duration_declared=not container.format.name.startswith("mpeg"),
        width=frame.width,
        height=frame.height,
        pixel_aspect=str(Fraction(video.sample_aspect_ratio or 1)),
        rotation_degrees=round(frame.rotation / 90) * 90 % 360,
        frame_rate=str(_frame_rate(video)),
        video_index=video.index,
        video_codec=video.codec_context.name,
        four_cc=video.codec_context.codec_tag.strip("\0"),
        pixel_format=frame.format.name,
        bit_depth=frame.format.components[0].bits,
        is_interlaced=bool(frame.interlaced_frame),
        audio_index=audio.index if audio else None,
        audio_codec=audio.codec_context.name if audio else "",
        audio_channels=audio.codec_context.channels if audio else 0,
        audio_rate_hz=audio.codec_context.sample_rate if audio else 0,
        audio_language=(audio.language or "und") if audio else "",
    )


def _duration_s(container: Any, *streams: Any) -> float | None:
    """Of picture and sound: a longer subtitle track does not count."""
    whole_s: float | None = (container.duration or 0) / 1_000_000 or None
    known = [s.duration * s.time_base for s in streams if s and s.duration]
    longest_s = float(max(known)) if known else whole_s
    if longest_s is None or whole_s is None:
        return longest_s
    return min(longest_s, whole_s)


def _frame_rate(video: Any) -> Fraction:
    """
    The rate the camera meant when the average is close to it, else the average.
    Some recorders write their clock's rate; nothing films that fast.
    """
    average, meant = video.average_rate, video.guessed_rate
    if average and meant and abs(meant - average) < average / 50:
        average = meant
    for rate in (average, meant):
        if rate and 1 <= rate <= _MAX_RATE:
            return Fraction(rate).limit_denominator(1001)
    return _DEFAULT_RATE


def _main() -> None:
    try:
        document = dataclasses.asdict(inspect(sys.stdin.buffer))
    except MediaError as error:
        document = {"error": [error.code, error.message]}
    sys.stdout.write(json.dumps(document))


if __name__ == "__main__":
    _main()
