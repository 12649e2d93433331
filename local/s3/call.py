"""
One request on its way through: what was asked, by whom, of which bucket.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from local.s3 import notifications, sigv4, xmldoc
from local.s3.body import MAX_DOCUMENT_BYTES, MAX_OBJECT_BYTES, Body
from local.s3.errors import S3Error
from local.s3.objects import StoredObject
from local.s3.store import Bucket, Store

_log = logging.getLogger(__name__)

Announce = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    What all requests share.

    Attributes:
        access_keys: Secret by access key id.
        on_event: Gets every event notification, on the event loop.
        now: The clock signatures are checked against.
        max_object_bytes: Largest body of one PUT, POST or part.
    """

    store: Store
    access_keys: Mapping[str, str]
    region: str
    on_event: Announce
    now: Callable[[], datetime]
    max_object_bytes: int = MAX_OBJECT_BYTES


@dataclass(slots=True, kw_only=True)
class Call:
    """
    One request.

    Attributes:
        bucket_name: Empty for a request about all buckets.
        key: Empty for a request about a bucket.
        query: First value by name.
        signature: None for an anonymous request.
    """

    account: Account
    request: web.Request
    head: sigv4.RequestHead
    bucket_name: str
    key: str
    query: dict[str, str]
    signature: sigv4.Signature | None = None
    request_id: str = field(default_factory=lambda: secrets.token_hex(8).upper())
    host_id: str = field(default_factory=lambda: secrets.token_urlsafe(42))
    _continued: bool = False

    @property
    def bucket(self) -> Bucket:
        """
        Raises:
            S3Error: NoSuchBucket.
        """
        return self.account.store.get(self.bucket_name)

    @property
    def headers(self) -> Mapping[str, str]:
        return self.request.headers

    @property
    def waits_for_continue(self) -> bool:
        """Whether the client holds its body back until it is asked for."""
        expect = self.headers.get("Expect", "").lower()
        return expect == "100-continue" and not self._continued

    def body(self) -> Body:
        """
        Return the body, telling a client that waits for it to go on.

        Raises:
            S3Error: Its head already says that it cannot be taken.
        """
        body = Body(
            self.head,
            self.request.content.iter_any(),
            self.signature,
            max_bytes=self.account.max_object_bytes,
        )
        self.go_on()
        return body

    async def document(self) -> bytes:
        """
        Return the document in the body.

        Raises:
            S3Error: As `Body`; MaxMessageLengthExceeded over 1 MiB.
        """
        body = self.body()
        if body.size > MAX_DOCUMENT_BYTES:
            raise S3Error("MaxMessageLengthExceeded")
        return await body.document()

    def go_on(self) -> None:
        """Send ``100 Continue``, once, to a client that expects it."""
        if self.waits_for_continue and self.request.transport is not None:
            self._continued = True
            self.request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def announce(
        self, event_name: str, stored: StoredObject, *, access_key: str | None = None
    ) -> None:
        """
        Hand over the notifications of a commit, when this turn is over.

        Args:
            access_key: Of a form's policy; by default of the request.
        """
        signer = self.signature.access_key if self.signature else "Anonymous"
        change = notifications.Change(
            event_name=event_name,
            region=self.account.region,
            bucket=self.bucket_name,
            key=stored.key,
            size=stored.size,
            etag=stored.etag,
            sequencer=stored.sequencer,
            at=datetime.fromtimestamp(stored.modified_ms / 1000, UTC),
            access_key=access_key or signer,
            source_ip=self.request.remote or "",
            request_id=self.request_id,
            host_id=self.host_id,
        )
        loop = asyncio.get_running_loop()
        for event in notifications.events(self.bucket.notification, change):
            # Not now: whatever the receiver does, the response is written first.
            loop.call_soon(_hand_over, self.account.on_event, event)


def _hand_over(on_event: Announce, event: dict[str, Any]) -> None:
    try:
        on_event(event)
    except Exception:  # noqa: BLE001 - not the uploader's fault
        _log.exception("the receiver of S3 events failed")


def xml_response(
    body: bytes, *, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a document as S3 sends it."""
    return web.Response(
        body=body, headers={"Content-Type": xmldoc.CONTENT_TYPE, **(headers or {})}
    )


def empty(status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a response without a body."""
    return web.Response(status=status, headers=headers)
