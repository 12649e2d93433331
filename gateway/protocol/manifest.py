"""
Manifests in: the report that completes a file, and where it will play.

A manifest may only name objects of its own file, under the output prefix of
our own bucket; otherwise whoever may report on one file could point players
anywhere.

Source: docs/protocol.md.
"""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote, unquote

from msgspec import Meta, Struct

from gateway.errors import InvalidError
from gateway.model import FileId, Playback, Rendition, Report, ReportType
from gateway.protocol import body
from gateway.protocol.report import Attempt, Moment, in_utc

MAX_RENDITIONS = 50
MAX_URL_CHARS = 2000

_Count = Annotated[int, Meta(ge=0, le=2**53)]


class _Rendition(Struct):
    playlist: str | None = None
    width: _Count | None = None
    height: _Count | None = None
    bandwidth: _Count | None = None
    average_bandwidth: _Count | None = None
    codecs: Annotated[str, Meta(max_length=200)] | None = None
    frame_rate: Annotated[float, Meta(ge=0, le=10_000)] | None = None


class _Body(Struct):
    master_playlist: str
    occurred_at: Moment
    job_id: str
    attempt: Attempt | None = None
    duration_ms: _Count | None = None
    renditions: Annotated[list[_Rendition], Meta(max_length=MAX_RENDITIONS)] = []
    sender: str | None = None


@dataclass(frozen=True, slots=True)
class Outputs:
    """
    Where renditions are and how players reach them.

    Attributes:
        bucket: The only bucket a manifest may name.
        prefix: Key prefix of renditions, ending in a slash.
        base_url: Stands before a key for players, ending in a slash.
    """

    bucket: str
    prefix: str
    base_url: str

    def url(self, field: str, uri: str, file_id: FileId) -> str:
        """
        Turn an ``s3://`` playlist of one file into the URL players use.

        Raises:
            InvalidError: It is not a playlist of this file in our bucket.
        """
        root = f"s3://{self.bucket}/"
        key = uri.removeprefix(root)
        own = f"{self.prefix}{file_id}/"
        if not uri.startswith(root):
            raise InvalidError(field, f"is not in {root}")
        if not key.startswith(own) or ".." in unquote(key).split("/"):
            raise InvalidError(field, f"is not under {own}")
        if not key.endswith(".m3u8"):
            raise InvalidError(field, "is not a .m3u8 playlist")
        body.clean(field, uri, max_chars=MAX_URL_CHARS)
        return self.base_url + quote(key)


def decode(raw: bytes, file_id: FileId, outputs: Outputs) -> Report:
    """
    Read one manifest.

    Raises:
        InvalidError: naming the field.
    """
    said = body.decode(raw, _Body)
    playback = Playback(
        hls_url=outputs.url("master_playlist", said.master_playlist, file_id),
        duration_ms=said.duration_ms,
        renditions=tuple(
            _rendition(f"renditions[{n}]", one, file_id, outputs)
            for n, one in enumerate(said.renditions)
        ),
    )
    return Report(
        type=ReportType.COMPLETED,
        occurred_at=in_utc("occurred_at", said.occurred_at),
        job_id=body.clean("job_id", said.job_id),
        attempt=said.attempt,
        playback=playback,
        sender=body.clean_or_none("sender", said.sender),
    )


def _rendition(
    field: str, said: _Rendition, file_id: FileId, outputs: Outputs
) -> Rendition:
    return Rendition(
        url=None
        if said.playlist is None
        else outputs.url(f"{field}.playlist", said.playlist, file_id),
        width=said.width,
        height=said.height,
        bandwidth=said.bandwidth,
        average_bandwidth=said.average_bandwidth,
        codecs=body.clean_or_none(f"{field}.codecs", said.codecs),
        frame_rate=said.frame_rate,
    )
