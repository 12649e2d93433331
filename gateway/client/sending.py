"""
The bytes of one file on their way to a signed upload.

The file is never held in memory and exactly the signed length is sent: a file
that changes meanwhile ends the upload instead of storing half a video.

Source: S3 PutObject; RFC 9110 section 10.1.1 (``Expect: 100-continue``), which
lets the storage refuse before the bytes are sent.
"""

import asyncio
import mimetypes
import os
import random
import re
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import aiohttp
from yarl import URL

from gateway.client import answers
from gateway.client.errors import UploadError

CHUNK_BYTES = 128 * 1024
CONNECT_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 60.0
"""The sending is given up when no chunk gets through for so long."""

MAX_ATTEMPTS = 4
_FIRST_BACKOFF_S = 0.5

_UNKNOWN_TYPE = "application/octet-stream"
_VIDEO_TYPES = {
    ".m2ts": "video/mp2t",
    ".mkv": "video/x-matroska",
    ".mts": "video/mp2t",
    ".mxf": "application/mxf",
    ".ts": "video/mp2t",
}

_ALREADY_THERE = 412
_CONFLICT = 409
_STALLED = "RequestTimeout"
"""S3's word, with a 400, when no byte came for too long."""

_XML_ERROR = re.compile(r"<(Code|Message)>([^<]{1,500})</\1>")


@dataclass(frozen=True, slots=True)
class Content:
    """
    What is to be sent.

    Attributes:
        size_bytes: What the upload was signed for.
        on_bytes: Called with how many bytes are on their way in all.
    """

    path: Path
    size_bytes: int
    on_bytes: Callable[[int], None]


class _PassingError(Exception):
    """This attempt failed; another one may not."""


def content_type(name: str) -> str:
    """Guess the media type from a file's name."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a name, not a path of this machine
    return _VIDEO_TYPES.get(suffix) or mimetypes.guess_type(name)[0] or _UNKNOWN_TYPE


def size_bytes(path: Path) -> int:
    """
    Size of a regular file.

    Raises:
        OSError: It is not there or may not be looked at.
        UploadError: It has no size: a folder, a pipe, a device.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise UploadError("is not a regular file")
    return found.st_size


async def send(
    session: aiohttp.ClientSession,
    url: URL,
    headers: Mapping[str, str],
    content: Content,
) -> None:
    """
    PUT a file, again if the connection breaks.

    Raises:
        OSError: The file cannot be opened.
        UploadError: The storage refused it, or could not be reached.
    """
    problem = ""
    for attempt in range(MAX_ATTEMPTS):
        if attempt:
            most_s = _FIRST_BACKOFF_S * 2**attempt
            await asyncio.sleep(random.uniform(0, most_s))  # noqa: S311 - spreads a herd, guards nothing
        try:
            return await _attempt(session, url, headers, content, again=attempt > 0)
        except _PassingError as error:
            problem = str(error)
    raise UploadError(f"the storage could not be reached: {problem}")


async def _attempt(
    session: aiohttp.ClientSession,
    url: URL,
    headers: Mapping[str, str],
    content: Content,
    *,
    again: bool,
) -> None:
    with await asyncio.to_thread(content.path.open, "rb") as file:
        try:
            async with (
                asyncio.timeout(STALL_TIMEOUT_S) as stall,
                session.put(
                    url,
                    data=_chunks(file, content, stall),
                    headers={**headers, "Content-Length": str(content.size_bytes)},
                    expect100=True,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT_S),
                ) as answer,
            ):
                await _check(answer, again=again)
        except TimeoutError:
            raise _PassingError("no byte got through for too long") from None
        except aiohttp.ClientError as error:
            if isinstance(error.__cause__, UploadError):
                raise error.__cause__ from None
            raise _PassingError(str(error) or type(error).__name__) from error


async def _chunks(
    file: BinaryIO, content: Content, stall: asyncio.Timeout
) -> AsyncIterator[bytes]:
    left = content.size_bytes
    content.on_bytes(0)
    while left:
        chunk = await asyncio.to_thread(_read, file, left)
        yield chunk
        left -= len(chunk)
        content.on_bytes(content.size_bytes - left)
        stall.reschedule(asyncio.get_running_loop().time() + STALL_TIMEOUT_S)


def _read(file: BinaryIO, left: int) -> bytes:
    try:
        chunk = file.read(min(left, CHUNK_BYTES))
        longer = len(chunk) == left and file.read(1)
    except OSError as error:
        raise UploadError(f"cannot be read: {error.strerror}") from error
    if not chunk or longer:
        raise UploadError("changed while it was being sent")
    return chunk


async def _check(answer: aiohttp.ClientResponse, *, again: bool) -> None:
    if answer.ok and answer.status < 300:  # noqa: PLR2004 - a redirect is no storage
        return
    if again and answer.status == _ALREADY_THERE:
        # Overwriting is signed away: the attempt that broke had arrived after all.
        return
    text = (await answers.start_of(answer)).decode("utf-8", "replace")
    said = dict(_XML_ERROR.findall(text))
    problem = ": ".join(said.values()) or f"HTTP {answer.status}"
    passing = answer.status >= 500 or answer.status == _CONFLICT  # noqa: PLR2004 - server errors
    if passing or said.get("Code") == _STALLED:
        raise _PassingError(problem)
    raise UploadError(f"the storage refused it: {problem}")
