"""
New files in: what an app's back end POSTs to ``/v1/files``.

The name is only ever shown, never used as a key; the key is the id and a safe
extension, because names with ``+``, spaces and other scripts do not survive
every hop (S3 form-encodes keys in its events).

Source: docs/protocol.md.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway.errors import InvalidError
from gateway.protocol import body

MAX_NAME_CHARS = 255
MAX_METADATA_BYTES = 4096
MAX_METADATA_DEPTH = 32

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,63}/[\w!#$&^.+-]{1,63}", re.ASCII)
_VIDEO_APPLICATIONS = frozenset(
    f"application/{kind}"
    for kind in ("octet-stream", "mp4", "mxf", "ogg", "x-matroska", "x-mpegts")
)
_NUL = re.compile(rb"(?<!\\)(\\\\)*\\u0000")
_EXTENSION = re.compile(r"\.([a-z0-9]{1,8})\Z", re.ASCII)


class Registration(Struct, frozen=True):
    """
    A file about to be uploaded.

    Attributes:
        content_type: Signed into the upload; parameters are not accepted.
        size: In bytes; the upload must have exactly this many.
        upload: Which kind of signed upload is wanted.
    """

    name: str
    content_type: str
    size: int
    owner: str | None = None
    metadata: Mapping[str, Any] = {}
    upload: Literal["put", "post"] = "put"


def extension(name: str) -> str:
    """``.mov`` of a name in lower case, or nothing if it is not plain."""
    match = _EXTENSION.search(name.lower())
    return match[0] if match else ""


def decode(raw: bytes, *, max_upload_bytes: int) -> Registration:
    """
    Read one registration.

    Raises:
        InvalidError: naming the field.
    """
    said = body.decode(raw, Registration)
    body.clean("name", said.name, max_chars=MAX_NAME_CHARS)
    body.clean_or_none("owner", said.owner)
    _check_media_type(said.content_type)
    if not 1 <= said.size <= max_upload_bytes:
        raise InvalidError("size", f"is not from 1 to {max_upload_bytes} bytes")
    if _deeper(said.metadata, MAX_METADATA_DEPTH):
        raise InvalidError("metadata", f"is nested over {MAX_METADATA_DEPTH} deep")
    metadata = msgspec.json.encode(said.metadata)
    if len(metadata) > MAX_METADATA_BYTES:
        raise InvalidError("metadata", f"is over {MAX_METADATA_BYTES} bytes of JSON")
    if _NUL.search(metadata):
        # Postgres keeps it, and then cannot read any field beside it.
        raise InvalidError("metadata", "holds U+0000")
    return said


def _deeper(value: Any, levels: int) -> bool:
    """Whether JSON is nested more than so many levels deep."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(one, levels - 1) for one in inner)


def _check_media_type(content_type: str) -> None:
    if not _MEDIA_TYPE.fullmatch(content_type):
        raise InvalidError("content_type", "is not a media type like video/mp4")
    kind = content_type.lower()
    if not (kind.startswith(("video/", "audio/")) or kind in _VIDEO_APPLICATIONS):
        raise InvalidError("content_type", f"{content_type} is not a video")
