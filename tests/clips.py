"""
Videos to test with: made by ffmpeg on the spot, or real ones of other people.

The real ones are files inside packages that the tests install for them; the
packages themselves cannot be imported.
"""

import importlib.util
import subprocess
from pathlib import Path

import imageio_ffmpeg

from local.probe import Media

PICTURE = ["-f", "lavfi", "-i", "testsrc=size=320x240:rate=25"]
SOUND = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
QUICK_H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]

MEDIA = Media(
    container="mov",
    duration_s=10.0,
    is_duration_declared=True,
    width=1920,
    height=1080,
    pixel_aspect="1",
    rotation_degrees=0,
    frame_rate="30000/1001",
    video_index=0,
    video_codec="h264",
    four_cc="avc1",
    pixel_format="yuv420p",
    bit_depth=8,
    is_interlaced=False,
    audio_index=2,
    audio_codec="aac",
    audio_channels=2,
    audio_rate_hz=48000,
    audio_language="und",
)
"""What a look at an ordinary ten-second film finds."""


def ffmpeg(*arguments: str | Path, target: Path) -> Path:
    """Make one file; the arguments are everything before its name."""
    head = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-y"]
    subprocess.run([*head, *map(str, arguments), str(target)], check=True)
    return target


def clip(target: Path, *options: str, seconds: float = 2, sound: bool = True) -> Path:
    """A test picture with a tone; the ending of the name chooses the container."""
    inputs = PICTURE + (SOUND if sound else [])
    return ffmpeg(*inputs, "-t", str(seconds), *options, target=target)


def turned_clip(target: Path, degrees: int) -> Path:
    """As phones film: stored lying down, with a note to turn it."""
    flat = clip(target.with_name("flat.mp4"), *QUICK_H264)
    turn = ["-display_rotation", str(degrees)]
    return ffmpeg(*turn, "-i", flat, "-c", "copy", target=target)


def cut(source: Path, target: Path, share: float) -> Path:
    """The first part of a file, as an upload that broke off leaves it."""
    whole = source.read_bytes()
    target.write_bytes(whole[: int(len(whole) * share)])
    return target


def real_clip(package: str, path: str) -> Path:
    """A video made by someone else, by the package it comes in."""
    spec = importlib.util.find_spec(package)
    assert spec, f"{package} is not installed: see requirements/media.txt"
    assert spec.submodule_search_locations, package
    return Path(next(iter(spec.submodule_search_locations))) / path
