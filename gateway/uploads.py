"""
Signed uploads: what lets one browser put one object, once, and no other.

The signature covers the key, the length, the type, the tag and, for a PUT, that
nothing is there yet.  Virtual addressing, because the global host answers a
fresh bucket with a redirect that breaks browser uploads.

Source: docs/decisions/0006-uploads.md; S3 User Guide, "Presigned URLs",
"Conditional writes" (which a POST policy does not know).
"""

import logging
import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError
from msgspec import UNSET, Struct, UnsetType

from gateway.errors import ConfigError, UnavailableError
from gateway.model import FileId
from gateway.protocol.registration import Registration, extension

_log = logging.getLogger("reelready.uploads")

TAG = "file_id"
"""The object tag that repeats what the key says."""

_PARAMETERS = {
    "Content-Type": "ContentType",
    "If-Match": "IfMatch",
    "If-None-Match": "IfNoneMatch",
    "x-amz-tagging": "Tagging",
}
_NO_ETAG = f'"{"0" * 32}"'


class Upload(Struct, frozen=True, kw_only=True):
    """
    How to upload, as the contract shows it.

    Attributes:
        headers: With a PUT: to be sent exactly so; the browser adds the length.
        fields: With a POST: the form fields before ``file``.
        expires_at: When it ends, or the credentials do that signed it.
    """

    method: str
    url: str
    headers: dict[str, str] | UnsetType = UNSET
    fields: dict[str, str] | UnsetType = UNSET
    expires_at: datetime


class Uploads:
    """
    Signs uploads with the credentials of this machine.

    Region, endpoint and credentials are AWS's own environment variables.

    Raises:
        ConfigError: There is no region or no credentials; on entering.
    """

    def __init__(self, bucket: str, prefix: str, *, life_s: int) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._life_s = life_s
        self._stack = AsyncExitStack()
        self._s3: Any = None
        self._credentials: Any = None

    async def __aenter__(self) -> Self:
        session = get_session()
        # botocore itself only knows AWS_DEFAULT_REGION.
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        if region is None:
            raise ConfigError("AWS_REGION", "is not set (where the bucket is)")
        self._credentials = await session.get_credentials()
        self._s3 = await self._stack.enter_async_context(
            session.create_client(
                "s3",
                region_name=region,
                config=AioConfig(
                    signature_version="s3v4", s3={"addressing_style": "virtual"}
                ),
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        # aiohttp remembers handlers for ever, and they know this object.
        self._s3 = self._credentials = None
        await self._stack.aclose()

    async def sign(self, file_id: FileId, said: Registration, now: datetime) -> Upload:
        """
        Sign the upload that a registration asked for.

        Raises:
            UnavailableError: The credentials cannot be had now.
        """
        try:
            return await self._sign(file_id, said, now)
        except (BotoCoreError, ClientError) as error:
            _log.error("cannot sign an upload: %s", error)
            raise UnavailableError("uploads cannot be signed") from error

    async def sign_probe(
        self, name: str, said: Registration, now: datetime, *, is_tagged: bool = True
    ) -> Upload:
        """
        Sign an upload of which nothing is stored, whoever sends it.

        It is to replace an object that is not there (``If-Match``), which S3
        answers with 404 to who may upload, and with 403 to who may not.  What
        it makes of both conditions in one request is not documented, so this
        one takes the place of the other.

        Raises:
            BotoCoreError: The credentials cannot be had now.
        """
        headers = {"Content-Type": said.content_type, "If-Match": _NO_ETAG}
        if is_tagged:
            headers["x-amz-tagging"] = urlencode({TAG: name})
        return await self._sign_put(
            f"{self._prefix}{name}",
            headers,
            said,
            now + timedelta(seconds=self._life_s),
        )

    async def _sign(self, file_id: FileId, said: Registration, now: datetime) -> Upload:
        key = f"{self._prefix}{file_id}{extension(said.name)}"
        expires_at = await self._ends_at(now + timedelta(seconds=self._life_s))
        if said.upload == "post":
            return await self._sign_post(key, file_id, said, expires_at)
        headers = {
            "Content-Type": said.content_type,
            "If-None-Match": "*",
            "x-amz-tagging": urlencode({TAG: file_id}),
        }
        return await self._sign_put(key, headers, said, expires_at)

    async def _ends_at(self, expires_at: datetime) -> datetime:
        """
        Say when a signature ends: no later than the credentials that make it.

        Source: S3 User Guide, "Presigned URLs", on temporary credentials.
        """
        if not isinstance(self._credentials, AioRefreshableCredentials):
            return expires_at
        # Refreshes them when they have little left, as signing would; if others do
        # so meanwhile, those it is signed with live longer.
        await self._credentials.get_frozen_credentials()
        end = self._credentials._expiry_time  # noqa: SLF001 - told in no other way
        return expires_at if end is None else min(expires_at, end.astimezone(UTC))

    async def origin(self) -> str:
        """
        Name the origin that browsers upload to, for a security policy.

        Raises:
            ConfigError: There are no credentials to sign with.
        """
        try:
            url = await self._s3.generate_presigned_url(
                "put_object", Params={"Bucket": self._bucket, "Key": "x"}
            )
        except (BotoCoreError, ClientError) as error:
            raise ConfigError("AWS_ACCESS_KEY_ID", str(error)) from error
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}"

    async def _sign_put(
        self,
        key: str,
        headers: dict[str, str],
        said: Registration,
        expires_at: datetime,
    ) -> Upload:
        url = await self._s3.generate_presigned_url(
            "put_object",
            Params={
                "Bucket": self._bucket,
                "Key": key,
                "ContentLength": said.size,
                **{_PARAMETERS[name]: value for name, value in headers.items()},
            },
            ExpiresIn=self._life_s,
        )
        return Upload(method="PUT", url=url, headers=headers, expires_at=expires_at)

    async def _sign_post(
        self, key: str, file_id: FileId, said: Registration, expires_at: datetime
    ) -> Upload:
        fields = {
            "Content-Type": said.content_type,
            "tagging": f"<Tagging><TagSet><Tag><Key>{TAG}</Key>"
            f"<Value>{file_id}</Value></Tag></TagSet></Tagging>",
        }
        signed = await self._s3.generate_presigned_post(
            self._bucket,
            key,
            Fields=dict(fields),
            Conditions=[
                *({name: value} for name, value in fields.items()),
                ["content-length-range", said.size, said.size],
            ],
            ExpiresIn=self._life_s,
        )
        return Upload(
            method="POST",
            url=signed["url"],
            fields=signed["fields"],
            expires_at=expires_at,
        )
