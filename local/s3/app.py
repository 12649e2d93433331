"""
The HTTP side of the stand-in: finds the operation, the signer and the answer.

The order of checks is S3's: is it a preflight, who signed it, is there such an
operation, may they, is there such a bucket.  Nothing of a body is read before.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote_to_bytes

from aiohttp import web

from local.s3 import (
    authentication,
    bucket_operations,
    cors,
    form_upload,
    object_operations,
    operations,
    sigv4,
    xmldoc,
)
from local.s3.body import MAX_OBJECT_BYTES
from local.s3.call import Account, Announce, Call
from local.s3.errors import S3Error
from local.s3.store import Store

_log = logging.getLogger(__name__)

_CALL = web.RequestKey("s3.call", Call)
_ANONYMOUS = frozenset({object_operations.get_object})


class S3:
    """
    The stand-in.

    Args:
        root: Folder for everything that is kept; made when it is not there.
        access_keys: Secret by access key id; all of them are the account's own.
        region: The only one that signatures may name.
        on_event: Gets each event notification after its object was committed:
            a dict with ``Records``, as a function gets it, or an EventBridge
            event.  It is called on the event loop once the response has been
            written, should only hand over, and cannot fail the request.
        max_object_bytes: Largest body of one PUT, POST or part.
        now: The clock signatures are checked against.
    """

    def __init__(
        self,
        root: Path,
        *,
        access_keys: Mapping[str, str],
        region: str,
        on_event: Announce,
        max_object_bytes: int = MAX_OBJECT_BYTES,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._account = Account(
            store=Store(root),
            access_keys=dict(access_keys),
            region=region,
            on_event=on_event,
            now=now,
            max_object_bytes=max_object_bytes,
        )

    def app(self) -> web.Application:
        """Return a new application that answers for this account."""
        app = web.Application()
        app.router.add_route(
            "*", r"/{path:[\s\S]*}", self._handle, expect_handler=_expect
        )
        app.on_response_prepare.append(_decorate)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call: Call | None = None
        try:
            call = request[_CALL] = self._call(request)
            return await self._perform(call)
        except S3Error as error:
            return _refusal(request, error, call)
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001 - bugs become InternalError
            _log.exception("%s %s failed", request.method, request.raw_path)
            return _refusal(request, S3Error("InternalError"), call)

    def _call(self, request: web.Request) -> Call:
        raw_path, _, raw_query = request.raw_path.partition("?")
        if not raw_path.startswith("/"):
            raise S3Error("InvalidURI")
        raw_bucket, _, raw_key = raw_path[1:].partition("/")
        query = sigv4.parse_query(raw_query)
        return Call(
            account=self._account,
            request=request,
            head=sigv4.RequestHead(
                request.method,
                raw_path,
                raw_query,
                [(name.lower(), value) for name, value in request.headers.items()],
            ),
            bucket_name=_decode(raw_bucket),
            key=_decode(raw_key),
            query=dict(reversed(query)),
        )

    async def _perform(self, call: Call) -> web.StreamResponse:
        account, method = self._account, call.request.method
        if method == "OPTIONS":
            return _preflight(call)
        call.signature = authentication.verify(
            call.head,
            access_keys=account.access_keys,
            region=account.region,
            now=account.now(),
        )
        operation = operations.find(call)
        _authorise(call, operation)
        if call.bucket_name and operation is not bucket_operations.create_bucket:
            account.store.get(call.bucket_name)
        return await operation(call)


def _authorise(call: Call, operation: operations.Operation) -> None:
    """
    Let the account do everything and everybody read what is public.

    A form is signed by its policy, which is checked where it is read.
    """
    if call.signature is not None or operation is form_upload.post_object:
        return
    if operation not in _ANONYMOUS:
        raise S3Error("AccessDenied")
    bucket = call.bucket
    # Whoever may not list may not find out which keys there are not.
    if not bucket.is_public(call.key) or call.key not in bucket.objects:
        raise S3Error("AccessDenied")


def _preflight(call: Call) -> web.Response:
    headers = call.headers
    allowed = cors.preflight(
        call.bucket.cors_rules if call.bucket_name else (),
        headers.get("Origin"),
        headers.get("Access-Control-Request-Method"),
        headers.get("Access-Control-Request-Headers"),
    )
    return web.Response(headers=allowed)


def _refusal(request: web.Request, error: S3Error, call: Call | None) -> web.Response:
    ids = (
        (xmldoc.leaf("RequestId", call.request_id), xmldoc.leaf("HostId", call.host_id))
        if call
        else ()
    )
    body = xmldoc.document(
        "Error",
        xmldoc.leaf("Code", error.code),
        xmldoc.leaf("Message", error.message),
        *(xmldoc.leaf(name, value) for name, value in error.details.items()),
        xmldoc.leaf("Resource", request.raw_path.partition("?")[0]),
        *ids,
        namespace=None,
    )
    response = web.Response(
        status=error.status, body=body, headers={"Content-Type": xmldoc.CONTENT_TYPE}
    )
    if call is None or call.waits_for_continue:
        # The body was not asked for and may never come: nothing can follow it.
        response.force_close()
    return response


async def _expect(_: web.Request) -> None:
    """Leave ``100 Continue`` to the operation, which may refuse instead."""


async def _decorate(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "AmazonS3"
    call = request.get(_CALL)
    if call is None:
        return
    response.headers["x-amz-request-id"] = call.request_id
    response.headers["x-amz-id-2"] = call.host_id
    bucket = call.account.store.buckets.get(call.bucket_name)
    if bucket is not None and request.method != "OPTIONS":
        response.headers.update(
            cors.actual(
                bucket.cors_rules, request.headers.get("Origin"), request.method
            )
        )


def _decode(raw: str) -> str:
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise S3Error("InvalidURI") from error
