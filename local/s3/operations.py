"""
Which operation a request asks for; and ``NotImplemented`` for what is not here.

A request names an operation by its method, by whether it has a key, and by the
sub-resources in its query.  Sub-resources and headers of S3 that nothing here
understands are refused: ignoring one would do something else than was asked.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from local.s3 import (
    bucket_operations,
    form_upload,
    multipart_operations,
    object_operations,
)
from local.s3.call import Call
from local.s3.errors import S3Error
from local.s3.objects import checked_key

Operation = Callable[[Call], Awaitable[web.StreamResponse]]

_SUBRESOURCES = frozenset(
    [
        "abac",
        "accelerate",
        "acl",
        "analytics",
        "attributes",
        "cors",
        "delete",
        "encryption",
        "intelligent-tiering",
        "inventory",
        "legal-hold",
        "lifecycle",
        "list-type",
        "location",
        "logging",
        "metadataConfiguration",
        "metadataTable",
        "metrics",
        "notification",
        "object-lock",
        "ownershipControls",
        "partNumber",
        "policy",
        "policyStatus",
        "publicAccessBlock",
        "renameObject",
        "replication",
        "requestPayment",
        "restore",
        "retention",
        "select",
        "session",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
    ]
)

_ACCOUNT_OPERATIONS: dict[str, Operation] = {
    "GET": bucket_operations.list_buckets,
}

_BUCKET_OPERATIONS: dict[str, Operation] = {
    "PUT": bucket_operations.create_bucket,
    "HEAD": bucket_operations.head_bucket,
    "POST": form_upload.post_object,
    "GET list-type": bucket_operations.list_objects,
    "GET location": bucket_operations.get_location,
    "PUT cors": bucket_operations.put_cors,
    "GET cors": bucket_operations.get_cors,
    "DELETE cors": bucket_operations.delete_cors,
    "PUT policy": bucket_operations.put_policy,
    "GET policy": bucket_operations.get_policy,
    "DELETE policy": bucket_operations.delete_policy,
    "PUT notification": bucket_operations.put_notification,
    "GET notification": bucket_operations.get_notification,
}

_OBJECT_OPERATIONS: dict[str, Operation] = {
    "PUT": object_operations.put_object,
    "PUT copy": object_operations.copy_object,
    "GET": object_operations.get_object,
    "HEAD": object_operations.get_object,
    "DELETE": object_operations.delete_object,
    "GET tagging": object_operations.get_tagging,
    "PUT tagging": object_operations.put_tagging,
    "DELETE tagging": object_operations.delete_tagging,
    "POST uploads": multipart_operations.create_upload,
    "PUT partNumber uploadId": multipart_operations.upload_part,
    "GET uploadId": multipart_operations.list_parts,
    "POST uploadId": multipart_operations.complete_upload,
    "DELETE uploadId": multipart_operations.abort_upload,
}

_UNDERSTOOD_HEADERS = frozenset(
    f"x-amz-{name}"
    for name in [
        "checksum-algorithm",
        "checksum-mode",
        "checksum-type",
        "content-sha256",
        "copy-source",
        "copy-source-if-match",
        "copy-source-if-none-match",
        "date",
        "decoded-content-length",
        "expected-bucket-owner",
        "metadata-directive",
        "mp-object-size",
        "sdk-checksum-algorithm",
        "source-expected-bucket-owner",
        "tagging",
        "tagging-directive",
        "trailer",
        "user-agent",
    ]
)
_UNDERSTOOD_PREFIXES = ("x-amz-meta-", "x-amz-checksum-")


def find(call: Call) -> Operation:
    """
    Raises:
        S3Error: NotImplemented, or MethodNotAllowed for what S3 has not either.
    """
    if call.key:
        checked_key(call.key)
        operations = _OBJECT_OPERATIONS
    else:
        operations = _BUCKET_OPERATIONS if call.bucket_name else _ACCOUNT_OPERATIONS
    method = call.request.method
    parts = sorted(_SUBRESOURCES & set(call.query))
    if "x-amz-copy-source" in call.headers:
        parts.append("copy")
    operation = operations.get(" ".join((method, *parts)))
    if operation is None:
        known = method in operations or method in {"GET", "DELETE"}
        raise S3Error("NotImplemented" if parts or known else "MethodNotAllowed")
    if method in {"PUT", "POST"}:
        _check_headers(call)
    return operation


def _check_headers(call: Call) -> None:
    for name, _ in call.head.headers:
        if (
            name.startswith("x-amz-")
            and name not in _UNDERSTOOD_HEADERS
            and not name.startswith(_UNDERSTOOD_PREFIXES)
        ):
            raise S3Error("NotImplemented", details={"Header": name})
