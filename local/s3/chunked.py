"""
The ``aws-chunked`` transfer coding: bytes in, payload out, no I/O.

Payload is handed out before its signature is known to be right, so nothing made
of it may be shown to anyone until `ChunkDecoder.finish` has returned.

Source: Amazon S3 API Reference, "Signature calculations for the authorization
header: transferring payload in multiple chunks" and "Working with trailing
headers".
"""

import hashlib
import re
from collections.abc import Iterator

from local.s3 import sigv4
from local.s3.errors import S3Error

_MAX_LINE_BYTES = 4096
_CHUNK_HEAD = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?")
_TRAILER_SIGNATURE = "x-amz-trailer-signature"


class ChunkSigner:
    """The chain of signatures of one body; each one signs the one before."""

    def __init__(self, seed: sigv4.Signature) -> None:
        self._seed = seed
        self._previous = seed.value

    def check_chunk(self, signature: str, payload_sha256: str) -> None:
        """
        Raises:
            S3Error: SignatureDoesNotMatch.
        """
        self._check("PAYLOAD", signature, (sigv4.EMPTY_SHA256, payload_sha256))

    def check_trailers(self, signature: str, trailers: bytes) -> None:
        """
        Raises:
            S3Error: SignatureDoesNotMatch.
        """
        self._check("TRAILER", signature, (hashlib.sha256(trailers).hexdigest(),))

    def _check(self, kind: str, signature: str, hashes: tuple[str, ...]) -> None:
        text = "\n".join(
            (
                f"AWS4-HMAC-SHA256-{kind}",
                self._seed.timestamp,
                self._seed.scope,
                self._previous,
                *hashes,
            )
        )
        self._previous = sigv4.sign(self._seed.key, text)
        if not sigv4.same(self._previous, signature):
            raise S3Error("SignatureDoesNotMatch")


class ChunkDecoder:
    """
    Takes the coding off a body, in pieces of any size.

    Args:
        signer: Checks each chunk; None when chunks are not signed.
        has_trailers: Whether trailing headers were announced.

    Attributes:
        trailers: Trailing headers, once the last chunk has been read.
    """

    def __init__(self, *, signer: ChunkSigner | None, has_trailers: bool) -> None:
        self.trailers: dict[str, str] = {}
        self._signer = signer
        self._has_trailers = has_trailers
        self._buffer = bytearray()
        self._left_bytes = 0
        self._step = self._read_head
        self._done = False
        self._hash = hashlib.sha256()
        self._signature = ""
        self._trailer_lines: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[bytes]:
        """
        Take coded bytes and yield the payload in them.

        Raises:
            S3Error: InvalidRequest for broken coding, SignatureDoesNotMatch for
                a chunk that was not signed like this.
        """
        self._buffer += data
        while not self._done:
            piece = self._step()
            if piece is None:
                return
            if piece:
                yield piece
        if self._buffer:
            raise S3Error("InvalidRequest", "Bytes after the last chunk")

    def finish(self) -> None:
        """
        Raises:
            S3Error: IncompleteBody, when the last chunk has not been read.
        """
        if not self._done:
            raise S3Error("IncompleteBody")

    def _read_head(self) -> bytes | None:
        line = self._take_line()
        if line is None:
            return None
        found = _CHUNK_HEAD.fullmatch(line)
        if found is None or (found[2] is None) != (self._signer is None):
            raise S3Error("InvalidRequest", "A chunk has a malformed head")
        self._left_bytes = int(found[1], 16)
        self._signature = (found[2] or b"").decode()
        self._hash = hashlib.sha256()
        if self._left_bytes:
            self._step = self._read_payload
        else:
            self._check_chunk()
            self._step = self._read_trailer
        return b""

    def _read_payload(self) -> bytes | None:
        if not self._buffer:
            return None
        piece = bytes(self._buffer[: self._left_bytes])
        del self._buffer[: len(piece)]
        self._left_bytes -= len(piece)
        if self._signer:
            self._hash.update(piece)
        if not self._left_bytes:
            self._step = self._read_chunk_end
        return piece

    def _read_chunk_end(self) -> bytes | None:
        line = self._take_line()
        if line is None:
            return None
        if line:
            raise S3Error("InvalidRequest", "A chunk is longer than it says")
        self._check_chunk()
        self._step = self._read_head
        return b""

    def _read_trailer(self) -> bytes | None:
        line = self._take_line()
        if line is None:
            return None
        if line:
            self._add_trailer(line)
        else:
            self._check_trailers()
            self._done = True
        return b""

    def _take_line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end > _MAX_LINE_BYTES or (end < 0 and len(self._buffer) > _MAX_LINE_BYTES):
            raise S3Error("InvalidRequest", "A line between chunks is too long")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _add_trailer(self, line: bytes) -> None:
        name, colon, value = line.decode("ascii", "replace").partition(":")
        name = name.lower().strip()
        if not colon or not self._has_trailers or name in self.trailers:
            raise S3Error("InvalidRequest", "A trailing header is not expected")
        self.trailers[name] = value.strip()
        if name != _TRAILER_SIGNATURE:
            self._trailer_lines.append(f"{name}:{value.strip()}\n".encode())

    def _check_chunk(self) -> None:
        if self._signer:
            self._signer.check_chunk(self._signature, self._hash.hexdigest())

    def _check_trailers(self) -> None:
        signature = self.trailers.pop(_TRAILER_SIGNATURE, "")
        if self._signer and self._has_trailers:
            self._signer.check_trailers(signature, b"".join(self._trailer_lines))
