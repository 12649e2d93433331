"""
A browser's POST upload: ``multipart/form-data`` in, an object out.

The fields come before the file, so everything about the form is decided before
a byte of the file is taken; only its size is known at the end.

Source: Amazon S3 API Reference, "POST Object".
"""

import asyncio
import re
from pathlib import PurePosixPath
from urllib.parse import quote

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from local.s3 import checksums, post_policy, tags, xmldoc
from local.s3.body import CUT_OFF
from local.s3.call import Call, empty, xml_response
from local.s3.checksums import Digests
from local.s3.disk import IncomingFile
from local.s3.errors import S3Error
from local.s3.object_operations import DEFAULT_TYPE, KEPT, META
from local.s3.objects import Condition, Description, StoredObject, checked_key

MAX_FIELDS_BYTES = 20 << 10
"""All fields before the file together."""

_FILE_NAME = "${filename}"
_READ_BYTES = 1 << 18
_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_BROKEN = (
    HttpProcessingError,
    ValueError,
    AssertionError,
    RuntimeError,
    LookupError,
)
"""What aiohttp's reader raises for bodies that are no form."""

_UNDERSTOOD = frozenset(
    {"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"}
)
_NOT_BUILT = frozenset({"acl", "redirect", "success_action_redirect"})


async def post_object(call: Call) -> web.Response:
    if call.head.header("content-length") is None:
        raise S3Error("MissingContentLength")
    if call.request.content_type != "multipart/form-data":
        raise S3Error(
            "InvalidRequest",
            "Bucket POST must be of the enclosure-type multipart/form-data",
        )
    call.go_on()
    try:
        return await _receive(call)
    except CUT_OFF as error:
        raise S3Error("IncompleteBody") from error
    except _BROKEN as error:
        raise S3Error("MalformedPOSTRequest") from error


async def _receive(call: Call) -> web.Response:
    reader = await call.request.multipart()
    fields, file = await _read_fields(reader)
    if "key" not in fields:
        raise S3Error(
            "InvalidArgument", "Bucket POST must contain a field named 'key'."
        )
    fields["key"] = fields["key"].replace(_FILE_NAME, base_name(file.filename or ""))
    account = call.account
    approval = post_policy.approve(
        fields,
        call.bucket_name,
        access_keys=account.access_keys,
        region=account.region,
        now=account.now(),
    )
    call.key = checked_key(fields["key"])
    stored = await _store(call, fields, file, reader, approval)
    call.announce("ObjectCreated:Post", stored, access_key=approval.access_key)
    return _answer(call, fields, stored)


async def _read_fields(
    reader: MultipartReader,
) -> tuple[dict[str, str], BodyPartReader]:
    fields: dict[str, str] = {}
    left = MAX_FIELDS_BYTES
    while True:
        part = await reader.next()
        if not isinstance(part, BodyPartReader):
            raise S3Error(
                "InvalidArgument",
                "POST requires exactly one file upload per request.",
            )
        name = (part.name or "").lower()
        if name == "file":
            return fields, part
        if not name or name in fields:
            raise S3Error("InvalidArgument", "Each form field needs a name of its own")
        value = await _read_field(part, left)
        left -= len(name) + len(value)
        fields[name] = value.decode()


async def _read_field(part: BodyPartReader, most: int) -> bytes:
    value = bytearray()
    while piece := await part.read_chunk(_READ_BYTES):
        value += piece
        if len(value) > most:
            raise S3Error("MaxPostPreDataLengthExceededError")
    return bytes(value)


async def _store(
    call: Call,
    fields: dict[str, str],
    file: BodyPartReader,
    reader: MultipartReader,
    approval: post_policy.Approval,
) -> StoredObject:
    description = _describe(fields)
    sums = checksums.named(fields)
    most = call.account.max_object_bytes
    if approval.max_bytes is not None:
        most = min(most, approval.max_bytes)
    with call.bucket.incoming(Digests(sums)) as incoming:
        size = await _read_file(file, incoming, most)
        while await reader.next() is not None:
            continue
        _check_size(size, approval.min_bytes, most)
        incoming.digests.check_checksums(sums)
        return await call.bucket.commit(
            call.key, incoming, description, condition=Condition()
        )


async def _read_file(file: BodyPartReader, incoming: IncomingFile, most: int) -> int:
    """Write up to `most` bytes; read the rest too, for the browser to get an answer."""
    size = 0
    while piece := await file.read_chunk(_READ_BYTES):
        size += len(piece)
        if size <= most:
            await asyncio.to_thread(incoming.write, piece)
    return size


def _check_size(size: int, least: int, most: int) -> None:
    if size > most:
        raise S3Error(
            "EntityTooLarge",
            details={"ProposedSize": str(size), "MaxSizeAllowed": str(most)},
        )
    if size < least:
        raise S3Error(
            "EntityTooSmall",
            details={"ProposedSize": str(size), "MinSizeAllowed": str(least)},
        )


def _describe(fields: dict[str, str]) -> Description:
    for name in fields:
        known = name in _UNDERSTOOD or name.startswith((META, checksums.PREFIX))
        if name in _NOT_BUILT or (name.startswith("x-amz-") and not known):
            raise S3Error("NotImplemented", details={"Header": name})
    headers = {name: fields[name.lower()] for name in KEPT if name.lower() in fields}
    metadata = {
        name.removeprefix(META): value
        for name, value in fields.items()
        if name.startswith(META)
    }
    # They come back as response headers, where a line break would forge others.
    if not all(_HEADER_NAME.fullmatch(name) for name in metadata):
        raise S3Error("InvalidArgument", "A metadata name is no header name")
    if not all(
        value.isprintable() for value in (*headers.values(), *metadata.values())
    ):
        raise S3Error("InvalidArgument", "A field holds control characters")
    return Description(
        headers={"Content-Type": DEFAULT_TYPE, **headers},
        metadata=metadata,
        tags=tags.from_document(fields["tagging"].encode())
        if "tagging" in fields
        else {},
    )


def _answer(call: Call, fields: dict[str, str], stored: StoredObject) -> web.Response:
    path = f"/{call.bucket_name}/{quote(stored.key)}"
    location = f"{call.request.url.origin()}{path}"
    headers = {"ETag": stored.quoted_etag, "Location": location}
    match fields.get("success_action_status"):
        case "201":
            body = xmldoc.document(
                "PostResponse",
                xmldoc.leaf("Location", location),
                xmldoc.leaf("Bucket", call.bucket_name),
                xmldoc.leaf("Key", stored.key),
                xmldoc.leaf("ETag", stored.quoted_etag),
                namespace=None,
            )
            response = xml_response(body, headers=headers)
            response.set_status(201)
            return response
        case "200":
            return empty(200, headers)
        case _:
            return empty(204, headers)


def base_name(file_name: str) -> str:
    """Return the last part of a path, of Unix or Windows."""
    return PurePosixPath(file_name.replace("\\", "/")).name
