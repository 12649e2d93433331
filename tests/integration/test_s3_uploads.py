"""
Uploads by PUT: as the gateway signs them, sent by a browser, and bodies in signed
chunks, which boto3 never sends over HTTP.
"""

import base64
import hashlib
import hmac
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import aiohttp
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from yarl import URL

from tests import s3_server
from tests.integration.s3_bucket import (
    KEY,
    ORIGIN,
    browsing,
    nothing_was_stored,
    served_bucket,
    signing,
)
from tests.s3_server import REGION, Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served_bucket(tmp_path / "s3") as running:
        yield running


@pytest.fixture
async def signer(server: Server) -> AsyncIterator[Any]:
    async with signing(server) as client:
        yield client


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    async with browsing() as session:
        yield session


async def test_the_signed_put_of_the_gateway(server, signer, browser):
    url = await signer.generate_presigned_url(
        "put_object",
        Params={
            "Bucket": "media",
            "Key": KEY,
            "Tagging": "file_id=1&a=%ED%95%9C",
            "ContentType": "video/mp4",
            "ContentLength": 5,
            "IfNoneMatch": "*",
        },
        ExpiresIn=60,
    )
    headers = {
        "Content-Type": "video/mp4",
        "x-amz-tagging": "file_id=1&a=%ED%95%9C",
        "If-None-Match": "*",
    }
    async with browser.put(
        URL(url, encoded=True), data=b"video", headers=headers
    ) as answer:
        assert 200 == answer.status
        assert ORIGIN == answer.headers["Access-Control-Allow-Origin"]
        assert "ETag" == answer.headers["Access-Control-Expose-Headers"]
        assert "Origin" in answer.headers["Vary"]
        assert f'"{hashlib.md5(b"video").hexdigest()}"' == answer.headers["ETag"]

    tags = await signer.get_object_tagging(Bucket="media", Key=KEY)
    assert {"file_id": "1", "a": "한"} == {
        one["Key"]: one["Value"] for one in tags["TagSet"]
    }
    assert [("ObjectCreated:Put", KEY)] == server.events.names_and_keys(1)


def chunked(
    server: Server, pieces: list[bytes], *, trailer: bytes | None
) -> tuple[dict[str, str], bytes]:
    """Sign a body in chunks, written from the documentation and not from us."""
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    headers = {
        "x-amz-content-sha256": kind if trailer is None else f"{kind}-TRAILER",
        "x-amz-decoded-content-length": str(sum(map(len, pieces))),
        "content-encoding": "aws-chunked",
    }
    if trailer is not None:
        headers["x-amz-trailer"] = trailer.partition(b":")[0].decode()
    request = AWSRequest("PUT", f"{server.url}/media/k", headers=headers)
    request.context["payload_signing_enabled"] = True
    auth = S3SigV4Auth(
        Credentials(s3_server.ACCESS_KEY, s3_server.SECRET_KEY), "s3", REGION
    )
    auth.payload = lambda _: headers["x-amz-content-sha256"]
    auth.add_auth(request)
    signed = dict(request.headers)
    previous = signed["Authorization"].rpartition("=")[2]
    at = signed["X-Amz-Date"]
    scope = f"{at[:8]}/{REGION}/s3/aws4_request"
    key = f"AWS4{s3_server.SECRET_KEY}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    empty = hashlib.sha256(b"").hexdigest()
    body = b""
    for piece in [*pieces, b""]:
        digest = hashlib.sha256(piece).hexdigest()
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{at}\n{scope}\n{previous}\n{empty}\n{digest}"
        previous = hmac.digest(key, text.encode(), "sha256").hex()
        body += b"%x;chunk-signature=%s\r\n" % (len(piece), previous.encode())
        body += piece + (b"\r\n" if piece else b"")
    if trailer is not None:
        digest = hashlib.sha256(trailer + b"\n").hexdigest()
        text = f"AWS4-HMAC-SHA256-TRAILER\n{at}\n{scope}\n{previous}\n{digest}"
        previous = hmac.digest(key, text.encode(), "sha256").hex()
        body += trailer + b"\r\nx-amz-trailer-signature:%s\r\n" % previous.encode()
    return signed, body + b"\r\n"


def crc32(data: bytes) -> bytes:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big"))


PIECES = [b"a" * 65536, b"b" * 1024]
TRAILER = b"x-amz-checksum-crc32:" + crc32(b"".join(PIECES))


@pytest.mark.parametrize("trailer", [None, TRAILER])
async def test_a_body_in_signed_chunks_is_taken_apart(server, signer, browser, trailer):
    headers, body = chunked(server, PIECES, trailer=trailer)

    async with browser.put(
        f"{server.url}/media/k", data=body, headers=headers
    ) as answer:
        assert 200 == answer.status, await answer.text()

    got = await signer.get_object(Bucket="media", Key="k")
    assert b"".join(PIECES) == await got["Body"].read()
    assert "ContentEncoding" not in got


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"aaaa\r\n", b"aaab\r\n", "SignatureDoesNotMatch"),
        (b"10000;", b"0ffff;", "InvalidRequest"),
        (TRAILER, TRAILER[:-8] + b"AAAAAA==", "SignatureDoesNotMatch"),
        (b"x-amz-trailer-signature:", b"x-amz-trailer-other:", "SignatureDoesNotMatch"),
        (b"\r\n\r\n", b"\r\n", "IncompleteBody"),
    ],
)
async def test_a_chunk_or_trailer_that_was_changed_is_refused(
    server, signer, browser, old, new, code
):
    headers, body = chunked(server, PIECES, trailer=TRAILER)
    assert 1 == body.count(old)

    async with browser.put(
        f"{server.url}/media/k", data=body.replace(old, new), headers=headers
    ) as answer:
        refusal = ET.fromstring(await answer.text()).findtext("Code")

    assert code == refusal
    assert await nothing_was_stored(server, signer)


async def test_a_signed_trailer_with_a_wrong_checksum_is_refused(
    server, signer, browser
):
    wrong = b"x-amz-checksum-crc32:" + crc32(b"something else")
    headers, body = chunked(server, PIECES, trailer=wrong)

    async with browser.put(
        f"{server.url}/media/k", data=body, headers=headers
    ) as answer:
        refusal = ET.fromstring(await answer.text()).findtext("Code")

    assert "BadDigest" == refusal
    assert await nothing_was_stored(server, signer)
