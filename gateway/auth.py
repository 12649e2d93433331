"""
Who may do what: API keys, watch tokens, ingest signatures.

Every compare of a secret is constant-time.  Nothing here logs.
"""

import base64
import hmac
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gateway.errors import InvalidError, UnauthorizedError
from gateway.model import FileId
from gateway.protocol import jws

AUDIENCE = "reelready"
SIGNATURE_TOLERANCE_S = 300
CLOCK_LEEWAY_S = 60
"""How far ahead the clock of a back end that mints tokens may be."""

MAX_EXPIRY_S = 253_402_300_799
"""The last second of the year 9999."""

MAX_WEBHOOK_ID_CHARS = 200
_WEBHOOK_ID = re.compile(r"[\x21-\x7e]{1,200}")
_TIMESTAMP = re.compile(r"\d{1,12}", re.ASCII)


class Viewer(msgspec.Struct, frozen=True):
    """
    Whoever asks to see a file.

    Attributes:
        everything: An API key: the app's own back end.
        files: File ids that a watch token names.
        owner: Whose files a watch token names.
        expires_at: When that ends, in Unix seconds; None: never.
    """

    everything: bool = False
    files: frozenset[str] = frozenset()
    owner: str | None = None
    expires_at: float | None = None

    def may_ever_see(self, file_id: FileId) -> bool:
        """Whether this file can be theirs to see, whoever owns it."""
        return self.everything or self.owner is not None or file_id in self.files

    def may_see(self, file_id: FileId, owner: str | None) -> bool:
        """Whether this file of this owner is theirs to see."""
        return (
            self.everything
            or file_id in self.files
            or (self.owner is not None and self.owner == owner)
        )


class ApiKeys:
    """The keys of the app's back end."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = [_bytes(key) for key in keys]

    def accept(self, presented: str) -> bool:
        """Compare with every key, in a time that tells nothing but their lengths."""
        said = _bytes(presented)
        matches = [hmac.compare_digest(said, known) for known in self._keys]
        return any(matches)


class WatchTokens:
    """
    JSON Web Tokens that let a browser see some files (RFC 7519).

    One algorithm, several secrets for rotation; the first one signs.
    """

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._keys = [secret.encode() for secret in secrets]

    def mint(self, file_id: FileId, *, life_s: int) -> tuple[str, float]:
        """Make a token for one file; returns it and its Unix expiry."""
        expires_at = int(time.time()) + life_s
        claims = {"aud": AUDIENCE, "exp": expires_at, "files": [file_id]}
        return jws.sign(claims, self._keys[0]), expires_at

    def read(self, token: str) -> Viewer:
        """
        Check a token.

        Raises:
            UnauthorizedError: It is not one of ours, or has expired.
        """
        try:
            said = jws.verify(token, self._keys).decode()
            claims = msgspec.json.decode(said, type=_Claims)
        except (ValueError, RecursionError):
            raise UnauthorizedError("the watch token is not valid") from None
        return claims.viewer(time.time())


class _Claims(msgspec.Struct):
    """What a watch token says (RFC 7519 section 4.1)."""

    aud: str | list[str]
    exp: float
    nbf: float = 0
    files: Any = None
    owner: Any = None

    def viewer(self, now_s: float) -> Viewer:
        """
        Take them at their word.

        Raises:
            UnauthorizedError: They are not meant for us, or not for now.
        """
        audience = [self.aud] if isinstance(self.aud, str) else self.aud
        if AUDIENCE not in audience or self.nbf > now_s + CLOCK_LEEWAY_S:
            raise UnauthorizedError("the watch token is not valid")
        if self.exp > MAX_EXPIRY_S:
            raise UnauthorizedError("the watch token's exp is not Unix seconds")
        if self.exp <= now_s:
            raise UnauthorizedError("the watch token has expired")
        files = self.files if isinstance(self.files, list) else ()
        return Viewer(
            files=frozenset(one for one in files if isinstance(one, str)),
            owner=self.owner if isinstance(self.owner, str) and self.owner else None,
            expires_at=self.exp,
        )


class Signatures:
    """
    Standard Webhooks signatures of the Lambdas.

    Source: Standard Webhooks 1.0.0, "Verifying webhook authenticity".
    """

    def __init__(
        self, keys: tuple[bytes, ...], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._clock = clock

    def verify(self, headers: Mapping[str, str], body: bytes) -> str:
        """
        Check who sent a body.

        Returns:
            The ``webhook-id``.

        Raises:
            UnauthorizedError: A header is missing, the signature is not one of
                ours, or the timestamp is more than five minutes off.
            InvalidError: The id is not printable ASCII of 200 characters at most.
        """
        webhook_id = headers.get("webhook-id", "")
        timestamp = headers.get("webhook-timestamp", "")
        signatures = headers.get("webhook-signature", "")
        if not (webhook_id and timestamp and signatures):
            raise UnauthorizedError(
                "webhook-id, webhook-timestamp and webhook-signature are required"
            )
        if not _WEBHOOK_ID.fullmatch(webhook_id):
            raise InvalidError("webhook-id", "is not printable ASCII, at most 200")
        if not _TIMESTAMP.fullmatch(timestamp):
            raise UnauthorizedError("webhook-timestamp is not Unix seconds")
        if abs(self._clock() - int(timestamp)) > SIGNATURE_TOLERANCE_S:
            raise UnauthorizedError("webhook-timestamp is more than 5 minutes off")
        if not self._signed(f"{webhook_id}.{timestamp}.".encode() + body, signatures):
            raise UnauthorizedError("webhook-signature does not match")
        return webhook_id

    def _signed(self, content: bytes, signatures: str) -> bool:
        expected = [
            base64.b64encode(hmac.digest(key, content, "sha256")) for key in self._keys
        ]
        offered = [
            word.removeprefix("v1,").encode("utf-8", "replace")
            for word in signatures.split()[:16]
            if word.startswith("v1,")
        ]
        matches = [hmac.compare_digest(one, two) for one in offered for two in expected]
        return any(matches)


def _bytes(secret: str) -> bytes:
    return secret.encode("utf-8", "surrogateescape")
