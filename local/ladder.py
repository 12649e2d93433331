"""
From a job's settings to a ladder: what is made, how large, by which arguments.

What this stand-in cannot do is refused by the name of the member that asks for
it, never done in another way.  No I/O.

Source: MediaConvert's ``JobSettings`` (botocore model); RFC 8216; FFmpeg's
manual of the hls muxer.
"""

import dataclasses
import math
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NoReturn, Self
from urllib.parse import quote

from local.probe import FORMATS, MAX_PIXELS, Media

_DEFAULT_GOP_S = 2.0
_BEST_CRF = 37


class SettingsError(Exception):
    """A part of the job that is missing or not supported; names the member."""


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One object of the job's JSON and where it stands."""

    value: dict[str, Any]
    path: str

    def refuse(self, why: str, name: str) -> NoReturn:
        """Raise an error that names a member of this object."""
        msg = f"{self.path}/{name}: {why}"
        raise SettingsError(msg)

    def need(self, name: str) -> Any:
        """A member that must be there and not be empty."""
        if not self.value.get(name):
            self.refuse("is required", name)
        return self.value[name]

    def object(self, name: str) -> "Member":
        """A required object."""
        return Member(self.need(name), f"{self.path}/{name}")

    def optional(self, name: str) -> "Member":
        """An object that may be left out."""
        return Member(self.value.get(name) or {}, f"{self.path}/{name}")

    def objects(self, name: str) -> list["Member"]:
        """A list of objects; an absent one is empty."""
        items = self.value.get(name) or []
        return [Member(v, f"{self.path}/{name}/{n}") for n, v in enumerate(items)]

    def only(self, name: str, *supported: str) -> str | None:
        """A choice, or None when absent."""
        value: str | None = self.value.get(name)
        if value is not None and value not in supported:
            self.refuse(f"{value} is not supported here", name)
        return value

    def without(self, *names: str) -> None:
        """Members this stand-in cannot honour."""
        for name in names:
            if self.value.get(name):
                self.refuse("is not supported here", name)

    def single(self, name: str) -> "Member":
        """A list that must hold exactly one object."""
        items = self.objects(name)
        if len(items) != 1:
            self.refuse("exactly one is supported here", name)
        return items[0]


@dataclasses.dataclass(frozen=True, slots=True)
class S3Uri:
    """``s3://bucket/key``; the key is as S3 stores it, not URL-encoded."""

    bucket: str
    key: str

    @classmethod
    def of(cls, member: Member, name: str) -> Self:
        """Read a member that holds one."""
        scheme, _, rest = str(member.need(name)).partition("://")
        bucket, _, key = rest.partition("/")
        if scheme != "s3" or not bucket or not key:
            member.refuse("must be s3://bucket/key", name)
        return cls(bucket, key)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def with_suffix(self, suffix: str) -> "S3Uri":
        """The same with something behind the key."""
        return S3Uri(self.bucket, self.key + suffix)


@dataclasses.dataclass(frozen=True, slots=True)
class Audio:
    """One AAC track; bits a second, channels, hertz."""

    bitrate_bps: int
    channels: int
    rate_hz: int

    @classmethod
    def of(cls, description: Member) -> Self:
        """Read an ``AudioDescription``."""
        codec = description.object("codecSettings")
        codec.need("codec")
        codec.only("codec", "AAC")
        aac = codec.optional("aacSettings")
        mode = aac.only("codingMode", "CODING_MODE_2_0", "CODING_MODE_1_0")
        return cls(
            bitrate_bps=aac.value.get("bitrate", 96_000),
            channels=1 if mode == "CODING_MODE_1_0" else 2,
            rate_hz=aac.value.get("sampleRate", 48_000),
        )

    def arguments(self) -> list[str]:
        """FFmpeg's output options."""
        codec = ["-c:a", "aac", "-b:a", str(self.bitrate_bps)]
        shape = ["-ac", str(self.channels), "-ar", str(self.rate_hz)]
        return [*codec, *shape, "-af", "aresample=async=1"]


@dataclasses.dataclass(frozen=True, slots=True)
class Quality:
    """How H.264 is encoded: a peak bit rate, and a quality or an average."""

    profile: str
    peak_bps: int
    average_bps: int | None
    crf: int
    gop_s: float | None
    gop_frames: int

    @classmethod
    def of(cls, description: Member) -> Self:
        """Read the codec settings of a ``VideoDescription``."""
        codec = description.object("codecSettings")
        codec.need("codec")
        codec.only("codec", "H_264")
        h264 = codec.object("h264Settings")
        mode = h264.only("rateControlMode", "QVBR", "VBR", "CBR") or "VBR"
        average = None if mode == "QVBR" else h264.need("bitrate")
        h264.only("framerateControl", "INITIALIZE_FROM_SOURCE")
        units = h264.only("gopSizeUnits", "SECONDS", "FRAMES", "AUTO") or "AUTO"
        size = h264.value.get("gopSize") or _DEFAULT_GOP_S
        profile = h264.only("codecProfile", "BASELINE", "MAIN", "HIGH") or "MAIN"
        quality = h264.optional("qvbrSettings").value.get("qvbrQualityLevel", 7)
        return cls(
            profile=profile.lower(),
            peak_bps=h264.value.get("maxBitrate") or average or h264.need("maxBitrate"),
            average_bps=average,
            crf=_BEST_CRF - 2 * quality,
            gop_s=None if units == "FRAMES" else size if units == "SECONDS" else 2.0,
            gop_frames=round(size) if units == "FRAMES" else 0,
        )

    def arguments(self) -> list[str]:
        """FFmpeg's output options."""
        codec = ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", self.profile]
        limit = ["-maxrate", str(self.peak_bps), "-bufsize", str(2 * self.peak_bps)]
        rate = (
            ["-crf", str(self.crf)]
            if self.average_bps is None
            else ["-b:v", str(self.average_bps)]
        )
        keys = (
            ["-g", str(self.gop_frames)]
            if self.gop_s is None
            else ["-force_key_frames", f"expr:gte(t,n_forced*{self.gop_s})"]
        )
        return [*codec, *limit, *rate, *keys]


@dataclasses.dataclass(frozen=True, slots=True)
class Rendition:
    """One output of the job; a limit of None is the source's own size."""

    modifier: str
    width_limit: int | None
    height_limit: int | None
    may_upscale: bool
    quality: Quality
    audio: Audio | None

    @classmethod
    def of(cls, output: Member) -> Self:
        """Read an ``Output``."""
        output.without("captionDescriptions", "preset", "extension")
        container = output.object("containerSettings")
        container.need("container")
        container.only("container", "M3U8")
        modifier = output.need("nameModifier")
        if "/" in modifier or "$" in modifier:
            output.refuse("must not hold '/' or '$' here", "nameModifier")
        video = output.object("videoDescription")
        video.without("crop", "position", "videoPreprocessors")
        video.need("scalingBehavior")
        scaling = video.only("scalingBehavior", "FIT", "FIT_NO_UPSCALE")
        audios = output.objects("audioDescriptions")
        if len(audios) > 1:
            output.refuse("at most one is supported here", "audioDescriptions")
        return cls(
            modifier=modifier,
            width_limit=video.value.get("width"),
            height_limit=video.value.get("height"),
            may_upscale=scaling == "FIT",
            quality=Quality.of(video),
            audio=Audio.of(audios[0]) if audios else None,
        )

    def size(self, width: int, height: int) -> tuple[int, int]:
        """
        Fit a picture into the limits: even, in proportion, never cropped.

        H.264 in 4:2:0 has no odd sizes; a source's odd last line is left out.
        """
        widest = self.width_limit or width
        highest = self.height_limit or height
        scale = min(Fraction(widest, width), Fraction(highest, height))
        if not self.may_upscale:
            scale = min(scale, Fraction(1))
            widest, highest = min(widest, width), min(highest, height)
        return _even(width * scale, widest), _even(height * scale, highest)


def _even(pixels: Fraction, limit: int) -> int:
    nearest = 2 * math.floor(pixels / 2 + Fraction(1, 2))
    return max(2, min(nearest, limit // 2 * 2))


@dataclasses.dataclass(frozen=True, slots=True)
class Ladder:
    """
    Everything one job makes.

    Attributes:
        source: The uploaded file.
        base: Output names without modifier and ending.
        rotate: Follow the rotation noted in the file.
    """

    source: S3Uri
    base: S3Uri
    segment_s: int
    rotate: bool
    renditions: tuple[Rendition, ...]

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Self:
        """
        Read ``settings`` of CreateJob.

        Raises:
            SettingsError: Something is missing or cannot be done here.
        """
        job = Member(settings, "/settings")
        source = job.single("inputs")
        source.without("inputClippings", "crop", "position", "decryptionSettings")
        video = source.optional("videoSelector")
        group = job.single("outputGroups")
        group.without("automatedEncodingSettings")
        hls = _hls(group)
        uri = S3Uri.of(source, "fileInput")
        return cls(
            source=uri,
            base=_base(S3Uri.of(hls, "destination"), uri),
            segment_s=hls.need("segmentLength"),
            rotate=video.only("rotate", "AUTO", "DEGREE_0") == "AUTO",
            renditions=_renditions(group),
        )

    @property
    def master(self) -> S3Uri:
        """Where the master playlist goes."""
        return self.base.with_suffix(".m3u8")

    def name(self, rendition: Rendition) -> S3Uri:
        """A rendition's output names without the ending."""
        return self.base.with_suffix(rendition.modifier)

    def arguments(self, media: Media) -> list[str]:
        """
        FFmpeg's, after the program's name: the input on standard input is decoded
        once, output N goes to ``N.m3u8``, ``N_00001.ts`` ... and ``N.master.m3u8``
        of the working folder.
        """
        head = ["-nostdin", "-hide_banner", "-loglevel", "error"]
        progress = ["-progress", "pipe:1", "-stats_period", "0.25"]
        guard = ["-protocol_whitelist", "fd", "-format_whitelist", FORMATS]
        guard += ["-max_pixels", str(MAX_PIXELS)]
        turn = [] if self.rotate else ["-noautorotate"]
        result = [*head, *progress, *guard, *turn, "-i", "fd:"]
        result += ["-filter_complex", self._filters(media)]
        for number, rendition in enumerate(self.renditions):
            result += self._output(number, rendition, media)
        return result

    def _filters(self, media: Media) -> str:
        width, height, aspect = media.turned(rotate=self.rotate)
        count = len(self.renditions)
        copies = "".join(f"[s{n}]" for n in range(count))
        graph = [f"[0:{media.video_index}]fps={media.frame_rate},split={count}{copies}"]
        for number, rendition in enumerate(self.renditions):
            size = "{}:{}".format(*rendition.size(width, height))
            graph.append(
                f"[s{number}]scale={size},setsar={aspect.numerator}/"
                f"{aspect.denominator},format=yuv420p[v{number}]"
            )
        return ";".join(graph)

    def _output(self, number: int, rendition: Rendition, media: Media) -> list[str]:
        result = ["-map", f"[v{number}]", *rendition.quality.arguments()]
        if rendition.audio and media.audio_index is not None:
            result += ["-map", f"0:{media.audio_index}", *rendition.audio.arguments()]
        result += ["-map_metadata", "-1", "-map_chapters", "-1", "-f", "hls"]
        result += ["-hls_time", str(self.segment_s), "-hls_playlist_type", "vod"]
        result += ["-hls_flags", "independent_segments", "-start_number", "1"]
        result += ["-hls_segment_filename", f"{number}_%05d.ts"]
        return [*result, "-master_pl_name", f"{number}.master.m3u8", f"{number}.m3u8"]


def _hls(group: Member) -> Member:
    settings = group.object("outputGroupSettings")
    settings.need("type")
    settings.only("type", "HLS_GROUP_SETTINGS")
    hls = settings.object("hlsGroupSettings")
    hls.without("encryption", "additionalManifests", "baseUrl")
    hls.only("segmentControl", "SEGMENTED_FILES")
    hls.only("directoryStructure", "SINGLE_DIRECTORY")
    hls.only("manifestCompression", "NONE")
    hls.only("outputSelection", "MANIFESTS_AND_SEGMENTS")
    return hls


def _base(destination: S3Uri, source: S3Uri) -> S3Uri:
    """A destination that is a folder takes the input's name."""
    if destination.key.endswith("/"):
        return destination.with_suffix(PurePosixPath(source.key).stem)
    return destination


def _renditions(group: Member) -> tuple[Rendition, ...]:
    outputs = group.objects("outputs")
    if not outputs:
        group.refuse("is required", "outputs")
    made: dict[str, Rendition] = {}
    for output in outputs:
        rendition = Rendition.of(output)
        if rendition.modifier in made:
            output.refuse("must differ between outputs", "nameModifier")
        made[rendition.modifier] = rendition
    return tuple(made.values())


def master_playlist(entries: list[tuple[str, str]], frame_rate: str) -> str:
    """
    The master of renditions in the job's order.

    Args:
        entries: For each, the other attributes and the file name of its playlist
            in the same folder.
        frame_rate: Of all of them, a fraction.
    """
    lines = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for attributes, name in entries:
        rate = f"{float(Fraction(frame_rate)):.3f}"
        lines += [
            f"#EXT-X-STREAM-INF:{attributes},FRAME-RATE={rate}",
            quote(name, safe=""),
        ]
    return "\n".join([*lines, ""])
