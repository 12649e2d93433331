"""A body goes to its sink in bounded pieces and is checked at its end."""

import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import pytest

from local.s3.body import Body
from local.s3.checksums import Digests
from local.s3.errors import S3Error
from local.s3.sigv4 import UNSIGNED_PAYLOAD, RequestHead, Signature

PIECE = bytes(64 << 10)


class Sink:
    """Remembers the size of what it was given at once."""

    def __init__(self, digests: Digests) -> None:
        self.size = 0
        self.digests = digests
        self.sizes: list[int] = []

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self.sizes.append(len(data))
        self.digests.update(data)


async def stream(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def head(**headers: str) -> RequestHead:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return RequestHead("PUT", "/b/k", "", named)


def signed(payload: str) -> Signature:
    return Signature(
        access_key="a", payload=payload, scope="", timestamp="", value="", key=b""
    )


async def receive(body: Body) -> Sink:
    sink = Sink(body.digests())
    await body.receive(sink)
    return sink


async def test_a_large_body_is_never_held_as_a_whole():
    pieces = (PIECE for _ in range(160))

    sink = await receive(Body(head(content_length=str(10 << 20)), stream(pieces), None))

    assert 10 << 20 == sink.size
    assert max(sink.sizes) <= (1 << 20) + len(PIECE)


@pytest.mark.parametrize("length", [2, 4])
async def test_a_body_has_the_length_it_promised(length):
    body = Body(head(content_length=str(length)), stream([b"abc"]), None)

    with pytest.raises(S3Error, match="IncompleteBody"):
        await receive(body)


async def test_a_connection_that_breaks_is_an_incomplete_body():
    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise ConnectionResetError

    with pytest.raises(S3Error, match="IncompleteBody"):
        await receive(Body(head(content_length="3"), broken(), None))


async def test_the_signed_hash_is_the_hash_of_the_payload():
    digest = hashlib.sha256(b"abc").hexdigest()
    right = Body(head(content_length="3"), stream([b"abc"]), signed(digest))
    wrong = Body(head(content_length="3"), stream([b"abd"]), signed(digest))

    assert digest == (await receive(right)).digests.payload_sha256
    with pytest.raises(S3Error, match="XAmzContentSHA256Mismatch"):
        await receive(wrong)


async def test_a_trailing_checksum_is_checked():
    coded = b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:%s\r\n\r\n"
    promised = head(
        content_length="99",
        x_amz_decoded_content_length="3",
        x_amz_trailer="x-amz-checksum-crc32",
    )
    signature = signed("STREAMING-UNSIGNED-PAYLOAD-TRAILER")

    right = Body(promised, stream([coded % b"NSRBwg=="]), signature)
    wrong = Body(promised, stream([coded % b"AAAAAA=="]), signature)
    absent = Body(promised, stream([b"3\r\nabc\r\n0\r\n\r\n"]), signature)

    assert {"crc32": "NSRBwg=="} == (await receive(right)).digests.checksums()
    with pytest.raises(S3Error, match="BadDigest"):
        await receive(wrong)
    with pytest.raises(S3Error, match="InvalidRequest"):
        await receive(absent)


@pytest.mark.parametrize(
    ("headers", "payload", "code"),
    [
        ({}, UNSIGNED_PAYLOAD, "MissingContentLength"),
        ({"content_length": "x"}, UNSIGNED_PAYLOAD, "InvalidArgument"),
        ({"content_length": "-1"}, UNSIGNED_PAYLOAD, "InvalidArgument"),
        ({"content_length": "11"}, UNSIGNED_PAYLOAD, "EntityTooLarge"),
        ({"content_length": "1"}, "abc", "InvalidArgument"),
        (
            {"content_length": "1"},
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
            "NotImplemented",
        ),
        (
            {"content_length": "1"},
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            "MissingContentLength",
        ),
    ],
)
def test_a_head_that_cannot_be_kept_to_is_refused_at_once(headers, payload, code):
    with pytest.raises(S3Error, match=code):
        Body(head(**headers), stream([]), signed(payload), max_bytes=10)


def test_a_checksum_we_cannot_compute_is_refused():
    body = Body(head(content_length="1", x_amz_checksum_crc32c="A"), stream([]), None)

    with pytest.raises(S3Error, match="NotImplemented"):
        body.digests()


async def test_a_document_is_the_payload():
    body = Body(
        replace(head(content_length="3"), method="POST"), stream([b"a", b"bc"]), None
    )

    assert b"abc" == await body.document()
