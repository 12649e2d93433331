"""
What S3 does with buckets: create, head, list, and their documents.
"""

from urllib.parse import quote

from aiohttp import web

from local.s3 import cors, listing, notifications, objects, xmldoc
from local.s3.call import Call, empty, xml_response
from local.s3.errors import S3Error
from local.s3.store import Bucket

_OWNER = xmldoc.node(
    "Owner",
    xmldoc.leaf("ID", notifications.OWNER_ID),
    xmldoc.leaf("DisplayName", "local"),
)
_NO_CONSTRAINT = "us-east-1"


async def list_buckets(call: Call) -> web.Response:
    rows = (
        xmldoc.node(
            "Bucket",
            xmldoc.leaf("Name", bucket.name),
            xmldoc.leaf("CreationDate", objects.iso(bucket.created_ms)),
        )
        for _, bucket in sorted(call.account.store.buckets.items())
    )
    return xml_response(
        xmldoc.document("ListAllMyBucketsResult", _OWNER, xmldoc.node("Buckets", *rows))
    )


async def create_bucket(call: Call) -> web.Response:
    call.account.store.check_new(call.bucket_name)
    body = await call.document() if call.request.can_read_body else b""
    region = _NO_CONSTRAINT
    if body:
        root = xmldoc.parse(body, "CreateBucketConfiguration")
        xmldoc.only(root, "LocationConstraint")
        region = next(iter(xmldoc.texts_of(root, "LocationConstraint")), region)
    if region != call.account.region:
        raise S3Error("IllegalLocationConstraintException")
    call.account.store.create(call.bucket_name)
    return empty(headers={"Location": f"/{call.bucket_name}"})


async def head_bucket(call: Call) -> web.Response:
    return empty(headers={"x-amz-bucket-region": call.account.region})


async def get_location(call: Call) -> web.Response:
    region = call.account.region
    return xml_response(
        xmldoc.document(
            "LocationConstraint", "" if region == _NO_CONSTRAINT else region
        )
    )


async def put_cors(call: Call) -> web.Response:
    bucket = call.bucket
    rules = cors.from_document(await call.document())
    await bucket.configure(cors=cors.to_document(rules).decode())
    return empty()


async def get_cors(call: Call) -> web.Response:
    if not call.bucket.cors_rules:
        raise S3Error("NoSuchCORSConfiguration")
    return xml_response(cors.to_document(call.bucket.cors_rules))


async def delete_cors(call: Call) -> web.Response:
    await call.bucket.configure(cors=None)
    return empty(204)


async def put_policy(call: Call) -> web.Response:
    bucket = call.bucket
    body = await call.document()
    try:
        policy = body.decode()
    except UnicodeDecodeError as error:
        raise S3Error("MalformedPolicy") from error
    await bucket.configure(policy=policy)
    return empty(204)


async def get_policy(call: Call) -> web.Response:
    if call.bucket.policy is None:
        raise S3Error("NoSuchBucketPolicy", details={"BucketName": call.bucket_name})
    return web.Response(text=call.bucket.policy, content_type="application/json")


async def delete_policy(call: Call) -> web.Response:
    await call.bucket.configure(policy=None)
    return empty(204)


async def put_notification(call: Call) -> web.Response:
    bucket = call.bucket
    configuration = notifications.from_document(await call.document())
    document = notifications.to_document(configuration).decode()
    await bucket.configure(notification=document)
    return empty()


async def get_notification(call: Call) -> web.Response:
    return xml_response(notifications.to_document(call.bucket.notification))


async def list_objects(call: Call) -> web.Response:
    query = call.query
    if query.get("encoding-type", "url") != "url":
        raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request")
    token = query.get("continuation-token")
    page = listing.page(
        call.bucket.objects,
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        after=listing.after_token(token) if token else query.get("start-after", ""),
        max_keys=_max_keys(query.get("max-keys")),
    )
    return xml_response(_list_document(call, page))


def _max_keys(text: str | None) -> int:
    if text is None:
        return listing.MAX_KEYS
    if not text.isascii() or not text.isdecimal() or len(text) > len("2147483647"):
        raise S3Error("InvalidArgument", "Provided max-keys not an integer")
    return min(int(text), listing.MAX_KEYS)


def _list_document(call: Call, page: listing.Page) -> bytes:
    query, bucket = call.query, call.bucket
    encoding = query.get("encoding-type")

    def shown(text: str) -> str:
        return quote(text, safe="/-_.*") if encoding else text

    owner = _OWNER if query.get("fetch-owner") == "true" else ""
    delimiter = query.get("delimiter") or None
    start_after = query.get("start-after")
    return xmldoc.document(
        "ListBucketResult",
        xmldoc.leaf("Name", bucket.name),
        xmldoc.leaf("Prefix", shown(query.get("prefix", ""))),
        xmldoc.optional("Delimiter", delimiter and shown(delimiter)),
        xmldoc.optional("StartAfter", start_after and shown(start_after)),
        xmldoc.leaf("MaxKeys", _max_keys(query.get("max-keys"))),
        xmldoc.optional("EncodingType", encoding),
        xmldoc.leaf("KeyCount", len(page)),
        xmldoc.leaf("IsTruncated", page.next_token is not None),
        xmldoc.optional("ContinuationToken", query.get("continuation-token")),
        xmldoc.optional("NextContinuationToken", page.next_token),
        *(_row(bucket, key, shown(key), owner) for key in page.keys),
        *(
            xmldoc.node("CommonPrefixes", xmldoc.leaf("Prefix", shown(prefix)))
            for prefix in page.prefixes
        ),
    )


def _row(bucket: Bucket, key: str, shown_key: str, owner: str) -> str:
    stored = bucket.objects[key]
    return xmldoc.node(
        "Contents",
        xmldoc.leaf("Key", shown_key),
        xmldoc.leaf("LastModified", objects.iso(stored.modified_ms)),
        xmldoc.leaf("ETag", stored.quoted_etag),
        xmldoc.leaf("Size", stored.size),
        owner,
        xmldoc.leaf("StorageClass", "STANDARD"),
    )
