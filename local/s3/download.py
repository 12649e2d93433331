"""
GET and HEAD of an object: conditions, ranges, and the bytes by sendfile.

Source: RFC 9110, sections 13 and 14; Amazon S3 API Reference, "GetObject".
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from typing import BinaryIO

from aiohttp import web

from local.s3.errors import S3Error
from local.s3.objects import StoredObject

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_READ_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes to send; `partial` when a range was asked for."""

    start: int
    count: int
    partial: bool = False


def span_of(header: str | None, size: int) -> Span:
    """
    Read a ``Range`` header; one that is malformed or multiple asks for all.

    Raises:
        S3Error: InvalidRange, for bytes that are not there.
    """
    found = _RANGE.fullmatch(header or "")
    if found is None or found[1] + found[2] == "":
        return Span(0, size)
    if found[1]:
        start = int(found[1])
        end = min(int(found[2]) + 1 if found[2] else size, size)
        if found[2] and int(found[2]) < start:
            return Span(0, size)
    else:
        start, end = max(0, size - int(found[2])), size
    if start >= size:
        raise S3Error(
            "InvalidRange",
            details={"RangeRequested": header or "", "ActualObjectSize": str(size)},
        )
    return Span(start, end - start, partial=True)


def is_unchanged(request: web.Request, stored: StoredObject) -> bool:
    """
    Apply the conditions of a read.

    Returns:
        Whether the client has the object already: 304.

    Raises:
        S3Error: PreconditionFailed.
    """
    modified = datetime.fromtimestamp(stored.modified_ms // 1000, UTC)
    if_match = request.headers.get("If-Match")
    unmodified_since = request.if_unmodified_since
    if if_match is not None:
        if not _lists(if_match, stored):
            raise S3Error("PreconditionFailed", details={"Condition": "If-Match"})
    elif unmodified_since is not None and modified > unmodified_since:
        raise S3Error(
            "PreconditionFailed", details={"Condition": "If-Unmodified-Since"}
        )

    if_none_match = request.headers.get("If-None-Match")
    if if_none_match is not None:
        return _lists(if_none_match, stored)
    modified_since = request.if_modified_since
    return modified_since is not None and modified <= modified_since


def headers_of(stored: StoredObject) -> dict[str, str]:
    """Return the headers that describe an object."""
    described = stored.description
    headers = dict(described.headers)
    for name, value in described.metadata.items():
        headers[f"x-amz-meta-{name}"] = value
    if described.tags:
        headers["x-amz-tagging-count"] = str(len(described.tags))
    headers |= {
        "ETag": stored.quoted_etag,
        "Last-Modified": stored.last_modified,
        "Accept-Ranges": "bytes",
    }
    return {name: _sendable(value) for name, value in headers.items()}


async def send(
    request: web.Request,
    file: BinaryIO,
    span: Span,
    size: int,
    headers: Mapping[str, str],
) -> web.StreamResponse:
    """Send part of a file as the response."""
    response = web.StreamResponse(status=206 if span.partial else 200, headers=headers)
    response.content_length = span.count
    if span.partial:
        last = span.start + span.count - 1
        response.headers["Content-Range"] = f"bytes {span.start}-{last}/{size}"
    await response.prepare(request)
    if request.method != "HEAD" and span.count:
        await _send_file(request, response, file, span)
    await response.write_eof()
    return response


async def _send_file(
    request: web.Request, response: web.StreamResponse, file: BinaryIO, span: Span
) -> None:
    if request.transport is None:
        raise ConnectionResetError
    loop = asyncio.get_running_loop()
    try:
        await loop.sendfile(
            request.transport, file, span.start, span.count, fallback=False
        )
    except (NotImplementedError, asyncio.SendfileNotAvailableError):
        await _send_pieces(response, file, span)


async def _send_pieces(
    response: web.StreamResponse, file: BinaryIO, span: Span
) -> None:
    file.seek(span.start)
    left = span.count
    while left:
        piece = await asyncio.to_thread(file.read, min(left, _READ_BYTES))
        if not piece:
            raise ConnectionResetError
        await response.write(piece)
        left -= len(piece)


def _lists(header: str, stored: StoredObject) -> bool:
    etags = {one.strip().removeprefix("W/").strip('"') for one in header.split(",")}
    return bool(etags & {"*", stored.etag})


def _sendable(value: str) -> str:
    return value if value.isascii() else Header(value, "utf-8", 10**6).encode()
