"""
The one manifest builder: what completes a file, from a COMPLETE event or from
a GetJob answer; no I/O.

The one rule: a finished job must complete its file.  Missing paths, zero
durations, unknown fields and groups cost detail, never the completion; only a
job without any master playlist is an error.

HLSFileManifestSaver builds from the event.  The reconciler builds from GetJob,
which has no paths: they follow from the job's own settings.

Source: MediaConvert user guide, "COMPLETE" and "Settings for HLS output";
docs/protocol.md.
"""

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypedDict

from lambdas.errors import NoPlaylistError
from lambdas.playlist import Variant
from lambdas.reports import time_from_datetime

Json = Mapping[str, Any]


class Rendition(TypedDict):
    """One quality; null is what nobody said.  Bandwidths in bits a second."""

    playlist: str
    width: int | None
    height: int | None
    bandwidth: int | None
    average_bandwidth: int | None
    codecs: str | None
    frame_rate: float | None


class Manifest(TypedDict):
    """The body of ``POST /v1/files/<id>/manifest``."""

    job_id: str
    attempt: int
    occurred_at: str
    master_playlist: str
    duration_ms: int | None
    renditions: list[Rendition]


def attempt_of(user_metadata: object) -> int:
    """Which attempt a job is; 1 for a job that does not say."""
    said = user_metadata.get("attempt") if isinstance(user_metadata, Mapping) else None
    if isinstance(said, str) and said.isascii() and said.isdigit():
        return max(1, int(said[:6]))
    return 1


def named_master(detail: Json) -> str | None:
    """The master playlist that a COMPLETE event names, if it does."""
    for group in _mappings(detail.get("outputGroupDetails")):
        for path in _strings(group.get("playlistFilePaths")):
            if _is_playlist(path):
                return path
    return None


def derived_master(detail: Json, *, output_prefix: str, file_id: str) -> str:
    """
    The master playlist our own jobs write, for an event that does not name it.

    Raises:
        NoPlaylistError: The job made something, but no HLS; or no bucket is
            known.
    """
    groups = list(_mappings(detail.get("outputGroupDetails")))
    if groups and not list(_hls_groups(groups)):
        msg = "the job has outputs, and none is HLS"
        raise NoPlaylistError(msg)
    bucket = _bucket(detail, groups)
    if bucket is None:
        msg = "the event names no playlist and no bucket"
        raise NoPlaylistError(msg)
    return f"s3://{bucket}/{output_prefix}{file_id}/master.m3u8"


def manifest_from_event(
    detail: Json, *, master_playlist: str, occurred_at: str
) -> Manifest:
    """
    Build from the ``detail`` of a COMPLETE event.

    A rendition whose playlist the event does not name is left out: nothing
    could play it.
    """
    groups = _hls_groups(_mappings(detail.get("outputGroupDetails")))
    outputs = [
        output for group in groups for output in _mappings(group.get("outputDetails"))
    ]
    renditions = []
    for output in outputs:
        video = output.get("videoDetails")
        video = video if isinstance(video, Mapping) else {}
        renditions += [
            _rendition(path, video.get("widthInPx"), video.get("heightInPx"))
            for path in _strings(output.get("outputFilePaths"))
            if _is_playlist(path)
        ]
    return {
        "job_id": detail["jobId"],
        "attempt": attempt_of(detail.get("userMetadata")),
        "occurred_at": occurred_at,
        "master_playlist": master_playlist,
        "duration_ms": _longest(output.get("durationInMs") for output in outputs),
        "renditions": renditions,
    }


def manifest_from_job(job: Json) -> Manifest:
    """
    Build from the ``Job`` of a GetJob answer, as boto3 and aiobotocore spell it.

    Raises:
        NoPlaylistError: The job has no HLS group or is not finished.
    """
    finished_at = job.get("Timing", {}).get("FinishTime")
    if finished_at is None:
        msg = f"job {job['Id']} is not finished"
        raise NoPlaylistError(msg)
    number, group = _hls_group_of(job)
    base = _output_base(job, group)
    outputs = group.get("Outputs", [])
    details = _details_of(job, number, len(outputs))
    return {
        "job_id": job["Id"],
        "attempt": attempt_of(job.get("UserMetadata")),
        "occurred_at": time_from_datetime(finished_at),
        "master_playlist": f"{base}.m3u8",
        "duration_ms": _longest(detail.get("DurationInMs") for detail in details),
        "renditions": [
            _rendition(
                f"{base}{output.get('NameModifier', '')}.m3u8",
                detail.get("VideoDetails", {}).get("WidthInPx"),
                detail.get("VideoDetails", {}).get("HeightInPx"),
            )
            for output, detail in zip(outputs, details, strict=True)
        ],
    }


def with_variants(manifest: Manifest, variants: Iterable[Variant]) -> Manifest:
    """
    Fill what is unknown from the master playlist.

    What MediaConvert said stays.  Renditions are taken from the playlist only
    when MediaConvert named none, and only from beside the playlist.
    """
    folder = manifest["master_playlist"].rpartition("/")[0]
    by_playlist = {
        f"{folder}/{variant.uri}": variant
        for variant in variants
        if _is_beside(variant.uri)
    }
    renditions = manifest["renditions"] or [
        _rendition(playlist, None, None) for playlist in by_playlist
    ]
    return {
        **manifest,
        "renditions": [
            _filled(rendition, by_playlist.get(rendition["playlist"]))
            for rendition in renditions
        ],
    }


def _filled(rendition: Rendition, variant: Variant | None) -> Rendition:
    if variant is None:
        return rendition
    return {
        "playlist": rendition["playlist"],
        "width": rendition["width"] or variant.width,
        "height": rendition["height"] or variant.height,
        "bandwidth": variant.bandwidth,
        "average_bandwidth": variant.average_bandwidth,
        "codecs": variant.codecs,
        "frame_rate": variant.frame_rate,
    }


def _rendition(playlist: str, width: object, height: object) -> Rendition:
    return {
        "playlist": playlist,
        "width": _positive(width),
        "height": _positive(height),
        "bandwidth": None,
        "average_bandwidth": None,
        "codecs": None,
        "frame_rate": None,
    }


def _hls_groups(groups: Iterable[Json]) -> Iterator[Json]:
    """Groups that can hold playlists; a group that does not say can."""
    for group in groups:
        kind = group.get("type")
        if not isinstance(kind, str) or kind in {"HLS_GROUP", "CMAF_GROUP"}:
            yield group


def _bucket(detail: Json, groups: list[Json]) -> str | None:
    metadata = detail.get("userMetadata")
    said = metadata.get("bucket") if isinstance(metadata, Mapping) else None
    if isinstance(said, str) and said:
        return said
    for group in groups:
        for output in _mappings(group.get("outputDetails")):
            for path in _strings(output.get("outputFilePaths")):
                if path.startswith("s3://"):
                    return path.removeprefix("s3://").partition("/")[0]
    return None


def _hls_group_of(job: Json) -> tuple[int, Json]:
    for number, group in enumerate(job.get("Settings", {}).get("OutputGroups", [])):
        if "HlsGroupSettings" in group.get("OutputGroupSettings", {}):
            return number, group
    msg = f"job {job['Id']} has no HLS group"
    raise NoPlaylistError(msg)


def _output_base(job: Json, group: Json) -> str:
    """A destination that ends in a slash takes its name from the input."""
    destination = group["OutputGroupSettings"]["HlsGroupSettings"].get(
        "Destination", ""
    )
    if not destination.startswith("s3://"):
        msg = f"job {job['Id']} has no destination in S3"
        raise NoPlaylistError(msg)
    if not destination.endswith("/"):
        return str(destination)
    inputs = job["Settings"].get("Inputs", [])
    name = posixpath.basename(inputs[0].get("FileInput", "")) if inputs else ""
    stem = posixpath.splitext(name)[0]
    if not stem:
        msg = f"job {job['Id']} names its playlist after an input it does not have"
        raise NoPlaylistError(msg)
    return f"{destination}{stem}"


def _details_of(job: Json, number: int, count: int) -> list[Json]:
    """What GetJob says of each output of one group; {} where it says nothing."""
    groups = job.get("OutputGroupDetails", [])
    details = groups[number].get("OutputDetails", []) if number < len(groups) else []
    return [*details, *({} for _ in range(count))][:count]


def _longest(durations: Iterable[object]) -> int | None:
    """The longest in ms; accelerated jobs say 0 for what they do not know."""
    return max(filter(None, map(_positive, durations)), default=None)


def _positive(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None


def _is_playlist(path: str) -> bool:
    return path.startswith("s3://") and path.endswith(".m3u8")


def _is_beside(uri: str) -> bool:
    """Whether a variant is a plain file in the master playlist's folder."""
    return uri.endswith(".m3u8") and not set(uri) & set("/\\:?#") and uri != ".m3u8"


def _mappings(value: object) -> Iterator[Json]:
    if isinstance(value, list):
        yield from (entry for entry in value if isinstance(entry, Mapping))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, list):
        yield from (entry for entry in value if isinstance(entry, str))
