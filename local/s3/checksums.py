"""
What is computed over a body while it passes, and what it has to be.

A checksum that we cannot compute is refused, never ignored.

Source: Amazon S3 User Guide, "Checking object integrity".
"""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Iterable, Mapping
from typing import Protocol

from local.s3.errors import S3Error

PREFIX = "x-amz-checksum-"
_NOT_VALUES = frozenset({"algorithm", "mode", "type"})


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def _new(algorithm: str) -> _Digest:
    match algorithm:
        case "crc32":
            return _Crc32()
        case "sha1":
            return hashlib.sha1(usedforsecurity=False)
        case "sha256":
            return hashlib.sha256()
        case _:
            raise S3Error(
                "NotImplemented", f"The checksum {algorithm!r} cannot be computed here"
            )


class Digests:
    """
    MD5 for the ETag, SHA-256 for the signature, and the checksums asked for.

    Args:
        algorithms: Of `crc32`, `sha1`, `sha256`.
        sha256: Whether the signature names a hash of the payload.

    Raises:
        S3Error: NotImplemented, for any other algorithm.
    """

    def __init__(self, algorithms: Iterable[str] = (), *, sha256: bool = False) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256() if sha256 else None
        self._checksums = {name: _new(name) for name in algorithms}

    def update(self, data: bytes) -> None:
        self._md5.update(data)
        if self._sha256:
            self._sha256.update(data)
        for checksum in self._checksums.values():
            checksum.update(data)

    @property
    def md5(self) -> str:
        """Hex; the ETag of an object sent in one piece."""
        return self._md5.hexdigest()

    @property
    def payload_sha256(self) -> str:
        """Hex; only when it was asked for."""
        return self._sha256.hexdigest() if self._sha256 else ""

    def checksums(self) -> dict[str, str]:
        """Return base64 values by algorithm."""
        return {
            name: base64.b64encode(checksum.digest()).decode()
            for name, checksum in self._checksums.items()
        }

    def check_checksums(self, expected: Mapping[str, str]) -> None:
        """
        Raises:
            S3Error: BadDigest, when one is not what the client computed.
        """
        computed = self.checksums()
        if any(computed.get(name) != value for name, value in expected.items()):
            raise S3Error("BadDigest")

    def check_md5(self, content_md5: str | None) -> None:
        """
        Raises:
            S3Error: InvalidDigest when the header is no MD5, BadDigest when it
                is another one.
        """
        if content_md5 is None:
            return
        try:
            expected = base64.b64decode(content_md5, validate=True)
        except (ValueError, binascii.Error) as error:
            raise S3Error("InvalidDigest") from error
        if len(expected) != self._md5.digest_size:
            raise S3Error("InvalidDigest")
        if expected != self._md5.digest():
            raise S3Error("BadDigest")


def named(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the checksums given in headers or trailers, by algorithm."""
    given = {
        name.lower().removeprefix(PREFIX): value
        for name, value in headers.items()
        if name.lower().startswith(PREFIX)
    }
    return {name: value for name, value in given.items() if name not in _NOT_VALUES}
