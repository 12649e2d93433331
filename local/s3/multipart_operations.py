"""
What S3 does with multipart uploads: create, part, list, complete, abort.
"""

import asyncio
from urllib.parse import quote
from xml.etree import ElementTree as ET

from aiohttp import web

from local.s3 import checksums, multipart, notifications, objects, xmldoc
from local.s3.call import Call, empty, xml_response
from local.s3.checksums import Digests
from local.s3.errors import S3Error
from local.s3.multipart import MAX_PART_NUMBER, Named, Part, Upload
from local.s3.object_operations import describe
from local.s3.objects import StoredObject

_MAX_PARTS = 1000
_CHECKSUM = "Checksum"
_NAMED = ("PartNumber", "ETag")
_CHECKSUM_ELEMENTS = tuple(
    f"{_CHECKSUM}{name}" for name in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
)


async def create_upload(call: Call) -> web.Response:
    upload = await call.bucket.uploads.create(call.key, describe(call))
    return xml_response(
        xmldoc.document(
            "InitiateMultipartUploadResult",
            xmldoc.leaf("Bucket", call.bucket_name),
            xmldoc.leaf("Key", call.key),
            xmldoc.leaf("UploadId", upload.upload_id),
        )
    )


async def upload_part(call: Call) -> web.Response:
    bucket = call.bucket
    number = _number(call.query["partNumber"], MAX_PART_NUMBER)
    if number == 0:
        raise S3Error("InvalidArgument", "Part number must be at least 1")
    upload_id = call.query["uploadId"]
    bucket.uploads.get(upload_id, call.key)
    body = call.body()
    with bucket.incoming(body.digests()) as incoming:
        await body.receive(incoming)
        async with bucket.uploads.hold(upload_id, call.key) as upload:
            part = await bucket.uploads.put_part(upload, number, incoming)
    sums = {f"{checksums.PREFIX}{name}": sum_ for name, sum_ in part.checksums.items()}
    return empty(headers={"ETag": f'"{part.etag}"', **sums})


async def list_parts(call: Call) -> web.Response:
    upload = call.bucket.uploads.get(call.query["uploadId"], call.key)
    max_parts = min(_number(call.query.get("max-parts", "1000")), _MAX_PARTS)
    marker = _number(call.query.get("part-number-marker", "0"))
    following = [
        part for number, part in sorted(upload.parts.items()) if number > marker
    ]
    shown = following[:max_parts]
    return xml_response(
        xmldoc.document(
            "ListPartsResult",
            xmldoc.leaf("Bucket", call.bucket_name),
            xmldoc.leaf("Key", call.key),
            xmldoc.leaf("UploadId", upload.upload_id),
            xmldoc.leaf("PartNumberMarker", marker),
            xmldoc.leaf("NextPartNumberMarker", shown[-1].number if shown else marker),
            xmldoc.leaf("MaxParts", max_parts),
            xmldoc.leaf("IsTruncated", len(shown) < len(following)),
            *(_part_row(part) for part in shown),
            xmldoc.node("Initiator", xmldoc.leaf("ID", notifications.OWNER_ID)),
            xmldoc.node("Owner", xmldoc.leaf("ID", notifications.OWNER_ID)),
            xmldoc.leaf("StorageClass", "STANDARD"),
        )
    )


async def complete_upload(call: Call) -> web.Response:
    bucket, upload_id = call.bucket, call.query["uploadId"]
    bucket.uploads.get(upload_id, call.key)
    named = _named(await call.document())
    async with bucket.uploads.hold(upload_id, call.key) as upload:
        stored = await _assemble(call, upload, named)
        await bucket.uploads.remove(upload)
    call.announce("ObjectCreated:CompleteMultipartUpload", stored)
    path = f"/{call.bucket_name}/{quote(call.key)}"
    return xml_response(
        xmldoc.document(
            "CompleteMultipartUploadResult",
            xmldoc.leaf("Location", f"{call.request.url.origin()}{path}"),
            xmldoc.leaf("Bucket", call.bucket_name),
            xmldoc.leaf("Key", call.key),
            xmldoc.leaf("ETag", stored.quoted_etag),
        )
    )


async def abort_upload(call: Call) -> web.Response:
    uploads = call.bucket.uploads
    async with uploads.hold(call.query["uploadId"], call.key) as upload:
        await uploads.remove(upload)
    return empty(204)


async def _assemble(call: Call, upload: Upload, named: list[Named]) -> StoredObject:
    condition = objects.condition_from(call.headers)
    condition.check(call.key, call.bucket.objects.get(call.key))
    parts = upload.choose(named)
    promised = call.headers.get("x-amz-mp-object-size")
    size = sum(part.size for part in parts)
    if promised is not None and promised != str(size):
        raise S3Error("InvalidRequest", "The parts do not have the size promised")
    with call.bucket.incoming(Digests()) as incoming:
        await asyncio.to_thread(incoming.append_all, upload.paths(parts))
        return await call.bucket.commit(
            call.key,
            incoming,
            upload.description,
            condition=condition,
            etag=multipart.etag_of(parts),
        )


def _part_row(part: Part) -> str:
    return xmldoc.node(
        "Part",
        xmldoc.leaf("PartNumber", part.number),
        xmldoc.leaf("LastModified", objects.iso(part.modified_ms)),
        xmldoc.leaf("ETag", f'"{part.etag}"'),
        xmldoc.leaf("Size", part.size),
        *(
            xmldoc.leaf(f"{_CHECKSUM}{name.upper()}", value)
            for name, value in part.checksums.items()
        ),
    )


def _named(body: bytes) -> list[Named]:
    root = xmldoc.only(xmldoc.parse(body, "CompleteMultipartUpload"), "Part")
    if not 1 <= len(root) <= MAX_PART_NUMBER:
        raise S3Error("MalformedXML")
    return [_named_part(element) for element in root]


def _named_part(element: ET.Element) -> Named:
    xmldoc.only(element, *_NAMED, *_CHECKSUM_ELEMENTS)
    return Named(
        number=_number(xmldoc.text_of(element, "PartNumber"), MAX_PART_NUMBER),
        etag=xmldoc.text_of(element, "ETag").strip('"'),
        checksums={
            child.tag.removeprefix(_CHECKSUM).lower(): child.text or ""
            for child in element
            if child.tag in _CHECKSUM_ELEMENTS
        },
    )


def _number(text: str, most: int = 2**31 - 1) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > len(str(most)):
        raise S3Error("InvalidArgument", "An argument is not a number in its range")
    if int(text) > most:
        raise S3Error(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {most}, inclusive",
        )
    return int(text)
