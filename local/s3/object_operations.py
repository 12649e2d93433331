"""
What S3 does with objects: put, get, head, delete, copy, and their tags.
"""

import asyncio
from urllib.parse import unquote

from aiohttp import web

from local.s3 import checksums, download, objects, tags, xmldoc
from local.s3.call import Call, empty, xml_response
from local.s3.checksums import Digests
from local.s3.errors import S3Error
from local.s3.objects import Description, StoredObject
from local.s3.store import Bucket

_MAX_METADATA_BYTES = 2048
DEFAULT_TYPE = "binary/octet-stream"
KEPT = (
    "Content-Type",
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Expires",
)
META = "x-amz-meta-"
_OVERRIDES = {f"response-{name.lower()}": name for name in KEPT}


def describe(call: Call) -> Description:
    """
    Read what the headers of a write say about the object.

    Raises:
        S3Error: A tag or metadata is over a limit.
    """
    headers = {
        name: _readable(call.headers[name]) for name in KEPT if name in call.headers
    }
    headers.setdefault("Content-Type", DEFAULT_TYPE)
    codings = [one.strip() for one in headers.pop("Content-Encoding", "").split(",")]
    codings = [one for one in codings if one and one != "aws-chunked"]
    if codings:
        headers["Content-Encoding"] = ",".join(codings)
    metadata = {
        name.lower().removeprefix(META): _readable(value)
        for name, value in call.headers.items()
        if name.lower().startswith(META)
    }
    if sum(len(name + value) for name, value in metadata.items()) > _MAX_METADATA_BYTES:
        raise S3Error("MetadataTooLarge")
    return Description(
        headers=headers,
        metadata=metadata,
        tags=tags.from_header(call.headers.get("x-amz-tagging")),
    )


async def put_object(call: Call) -> web.Response:
    bucket = call.bucket
    description = describe(call)
    condition = objects.condition_from(call.headers)
    condition.check(call.key, bucket.objects.get(call.key))
    body = call.body()
    with bucket.incoming(body.digests()) as incoming:
        await body.receive(incoming)
        stored = await bucket.commit(
            call.key, incoming, description, condition=condition
        )
    call.announce("ObjectCreated:Put", stored)
    return empty(headers={"ETag": stored.quoted_etag, **_checksum_headers(stored)})


async def get_object(call: Call) -> web.StreamResponse:
    stored, file = await call.bucket.open(call.key)
    try:
        headers = download.headers_of(stored)
        if download.is_unchanged(call.request, stored):
            del headers["Content-Type"]
            return empty(304, headers)
        span = download.span_of(_range(call, stored), stored.size)
        if not span.partial and call.headers.get("x-amz-checksum-mode") == "ENABLED":
            headers |= _checksum_headers(stored)
        headers |= _overrides(call)
        return await download.send(call.request, file, span, stored.size, headers)
    finally:
        await asyncio.to_thread(file.close)


async def delete_object(call: Call) -> web.Response:
    await call.bucket.delete(call.key)
    return empty(204)


async def get_tagging(call: Call) -> web.Response:
    stored = call.bucket.get(call.key)
    return xml_response(tags.to_document(stored.description.tags))


async def put_tagging(call: Call) -> web.Response:
    bucket = call.bucket
    bucket.get(call.key)
    await bucket.retag(call.key, tags.from_document(await call.document()))
    return empty()


async def delete_tagging(call: Call) -> web.Response:
    await call.bucket.retag(call.key, {})
    return empty(204)


async def copy_object(call: Call) -> web.Response:
    source_bucket, source_key = _copy_source(call)
    condition = objects.condition_from(call.headers)
    source, file = await source_bucket.open(source_key)
    try:
        _check_source(call, source)
        description = _copied_description(call, source)
        same_place = (source_bucket, source_key) == (call.bucket, call.key)
        if same_place and description == source.description:
            raise S3Error(
                "InvalidRequest",
                "This copy request is illegal because it is trying to copy an object "
                "to itself without changing the object's metadata or tags.",
            )
        with call.bucket.incoming(Digests(source.checksums)) as incoming:
            await asyncio.to_thread(incoming.append, file)
            stored = await call.bucket.commit(
                call.key, incoming, description, condition=condition
            )
    finally:
        await asyncio.to_thread(file.close)
    call.announce("ObjectCreated:Copy", stored)
    return xml_response(
        xmldoc.document(
            "CopyObjectResult",
            xmldoc.leaf("LastModified", objects.iso(stored.modified_ms)),
            xmldoc.leaf("ETag", stored.quoted_etag),
        )
    )


def _copy_source(call: Call) -> tuple[Bucket, str]:
    text = unquote(call.headers["x-amz-copy-source"])
    name, _, key = text.removeprefix("/").partition("/")
    if not key:
        raise S3Error("InvalidArgument", "Invalid copy source object key")
    if "?versionId=" in key:
        raise S3Error("NotImplemented")
    return call.account.store.get(name), key


def _check_source(call: Call, source: StoredObject) -> None:
    wanted = call.headers.get("x-amz-copy-source-if-match")
    unwanted = call.headers.get("x-amz-copy-source-if-none-match")
    if (wanted is not None and wanted.strip('"') not in {"*", source.etag}) or (
        unwanted is not None and unwanted.strip('"') in {"*", source.etag}
    ):
        raise S3Error("PreconditionFailed")


def _copied_description(call: Call, source: StoredObject) -> Description:
    given = describe(call)
    new_metadata = _replaces(call, "x-amz-metadata-directive")
    new_tags = _replaces(call, "x-amz-tagging-directive")
    kept = source.description
    return Description(
        headers=given.headers if new_metadata else kept.headers,
        metadata=given.metadata if new_metadata else kept.metadata,
        tags=given.tags if new_tags else kept.tags,
    )


def _replaces(call: Call, directive: str) -> bool:
    value = call.headers.get(directive, "COPY")
    if value not in {"COPY", "REPLACE"}:
        raise S3Error("InvalidArgument", f"Unknown {directive}.")
    return value == "REPLACE"


def _range(call: Call, stored: StoredObject) -> str | None:
    if call.headers.get("If-Range", stored.quoted_etag) != stored.quoted_etag:
        return None
    return call.headers.get("Range")


def _checksum_headers(stored: StoredObject) -> dict[str, str]:
    return {
        f"{checksums.PREFIX}{name}": value for name, value in stored.checksums.items()
    }


def _overrides(call: Call) -> dict[str, str]:
    given = {
        header: call.query[name]
        for name, header in _OVERRIDES.items()
        if name in call.query
    }
    if given and call.signature is None:
        raise S3Error(
            "InvalidRequest",
            "Request specific response headers cannot be used for anonymous GET "
            "requests.",
        )
    if any(not value.isprintable() or not value.isascii() for value in given.values()):
        raise S3Error("InvalidArgument", "A response header is not valid")
    return given


def _readable(value: str) -> str:
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
