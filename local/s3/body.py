"""
A request body: received in pieces, and believed only when all of it is right.

`Body.receive` returns when every byte that was promised has come and every
hash, signature and checksum agrees; whoever commits what it wrote does so after.
"""

import asyncio
import re
from collections.abc import AsyncIterable, Iterable
from typing import Protocol

from aiohttp import ClientError, web

from local.s3 import checksums, sigv4
from local.s3.checksums import Digests
from local.s3.chunked import ChunkDecoder, ChunkSigner
from local.s3.errors import S3Error

MAX_OBJECT_BYTES = 5 << 30
"""Largest body of one PUT, POST or part."""

MAX_DOCUMENT_BYTES = 1 << 20
"""Largest XML or JSON document."""

CUT_OFF = (ClientError, web.RequestPayloadError, OSError, asyncio.IncompleteReadError)
"""How a connection that ends inside a body shows while it is read."""

_BATCH_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_UNSIGNED_CHUNKS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_TRAILER = "-TRAILER"
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)


class Sink(Protocol):
    """
    Where a body goes.

    Attributes:
        size: Bytes written so far.
        digests: Over them.
    """

    size: int
    digests: Digests

    def write(self, data: bytes) -> None: ...


class Body:
    """
    The body of one request.

    Args:
        signature: Of its head; None for an anonymous request.
        max_bytes: Largest payload to take.

    Attributes:
        size: Bytes of payload the head promises.

    Raises:
        S3Error: The head says that it is too large, has no length, or is
            protected in a way we cannot check.
    """

    def __init__(
        self,
        head: sigv4.RequestHead,
        content: AsyncIterable[bytes],
        signature: sigv4.Signature | None,
        *,
        max_bytes: int = MAX_OBJECT_BYTES,
    ) -> None:
        self._head = head
        self._content = content
        self._payload = signature.payload if signature else sigv4.UNSIGNED_PAYLOAD
        self._decoder = self._new_decoder(signature)
        self._trailer_names = _split(head.header("x-amz-trailer"))
        self.size = self._promised()
        if self.size > max_bytes:
            raise S3Error(
                "EntityTooLarge",
                details={
                    "ProposedSize": str(self.size),
                    "MaxSizeAllowed": str(max_bytes),
                },
            )

    def digests(self, algorithms: Iterable[str] = ()) -> Digests:
        """Return what has to be computed over this body, and `algorithms`."""
        announced = dict.fromkeys(self._trailer_names, "")
        wanted = {*algorithms, *self._checksums(), *checksums.named(announced)}
        return Digests(wanted, sha256=bool(_SHA256.fullmatch(self._payload)))

    async def receive(self, sink: Sink) -> None:
        """
        Write the whole payload to the sink and check it.

        Raises:
            S3Error: It was cut off, or is not what was signed or announced.
        """
        batch = bytearray()
        try:
            async for coded in self._content:
                for piece in self._decode(coded):
                    batch += piece
                if len(batch) >= _BATCH_BYTES:
                    await self._write(sink, batch)
        except CUT_OFF as error:
            raise S3Error("IncompleteBody") from error
        await self._write(sink, batch)
        await self._verify(sink)

    async def document(self) -> bytes:
        """
        Return the whole payload, of a request that carries a document.

        Raises:
            S3Error: As `receive`.
        """
        sink = _Memory(self.digests())
        await self.receive(sink)
        return bytes(sink.data)

    async def _write(self, sink: Sink, batch: bytearray) -> None:
        if sink.size + len(batch) > self.size:
            raise S3Error("IncompleteBody")
        if batch:
            await asyncio.to_thread(sink.write, bytes(batch))
            batch.clear()

    def _decode(self, coded: bytes) -> Iterable[bytes]:
        return self._decoder.feed(coded) if self._decoder else (coded,)

    async def _verify(self, sink: Sink) -> None:
        if self._decoder:
            self._decoder.finish()
        if sink.size != self.size:
            raise S3Error("IncompleteBody")
        if (
            _SHA256.fullmatch(self._payload)
            and sink.digests.payload_sha256 != self._payload
        ):
            raise S3Error("XAmzContentSHA256Mismatch")
        sink.digests.check_md5(self._head.header("content-md5"))
        sink.digests.check_checksums(self._checksums() | self._trailing_checksums())

    def _checksums(self) -> dict[str, str]:
        return checksums.named(dict(self._head.headers))

    def _trailing_checksums(self) -> dict[str, str]:
        trailers = self._decoder.trailers if self._decoder else {}
        if set(trailers) != set(self._trailer_names):
            raise S3Error("InvalidRequest", "Trailing headers are not those announced")
        return checksums.named(trailers)

    def _promised(self) -> int:
        name = "x-amz-decoded-content-length" if self._decoder else "content-length"
        length = self._head.header(name)
        if length is None:
            raise S3Error("MissingContentLength")
        if not _LENGTH.fullmatch(length):
            raise S3Error("InvalidArgument", f"{name} is not a length")
        return int(length)

    def _new_decoder(self, signature: sigv4.Signature | None) -> ChunkDecoder | None:
        if signature is None or self._payload == sigv4.UNSIGNED_PAYLOAD:
            return None
        if _SHA256.fullmatch(self._payload):
            return None
        if self._payload == _UNSIGNED_CHUNKS:
            return ChunkDecoder(signer=None, has_trailers=True)
        if self._payload.removesuffix(_TRAILER) == _SIGNED_CHUNKS:
            return ChunkDecoder(
                signer=ChunkSigner(signature),
                has_trailers=self._payload.endswith(_TRAILER),
            )
        if self._payload.startswith("STREAMING-"):
            raise S3Error("NotImplemented")
        raise S3Error(
            "InvalidArgument",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, "
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, "
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
        )


class _Memory:
    def __init__(self, digests: Digests) -> None:
        self.data = bytearray()
        self.digests = digests
        self.size = 0

    def write(self, data: bytes) -> None:
        self.data += data
        self.digests.update(data)
        self.size += len(data)


def _split(names: str | None) -> list[str]:
    return [name.strip().lower() for name in (names or "").split(",") if name.strip()]
