"""
The door: who is asking, and is there room for one more to wait.

A credential is looked for in ``Authorization``, then ``?token=``, then the
cookie, because a browser's EventSource can send no header.
"""

from collections import Counter

from gateway.auth import ApiKeys, Viewer, WatchTokens
from gateway.config import Config
from gateway.errors import UnauthorizedError, UnavailableError
from gateway.hub import Hub
from gateway.protocol.http import Request

COOKIE = "reelready"


class Access:
    """Checks credentials and limits."""

    def __init__(self, config: Config, hub: Hub) -> None:
        self._config = config
        self._hub = hub
        self._keys = ApiKeys(config.api_keys)
        self._tokens = WatchTokens(config.token_secrets)
        self._waiting: Counter[str] = Counter()

    @property
    def counts(self) -> bool:
        """Whether waiting clients are limited by address."""
        return self._config.max_subscribers_per_ip > 0

    def come(self, address: str) -> None:
        """Count one more that waits."""
        if self.counts:
            self._waiting[address] += 1

    def go(self, address: str) -> None:
        """Count one less."""
        if self.counts:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]

    def back_end(self, authorization: str | None) -> None:
        """
        Let only the app's own back end through.

        Raises:
            UnauthorizedError: There is no API key, or not one of ours.
        """
        presented = _bearer(authorization)
        if presented is None or not self._keys.accept(presented):
            raise UnauthorizedError("an API key is required")

    def viewer(self, request: Request) -> Viewer:
        """
        Find out whose eyes these are.

        Raises:
            UnauthorizedError: There is no credential, or it is not accepted.
        """
        presented = (
            _bearer(request.headers.get("authorization"))
            or request.argument("token")
            or request.cookie(COOKIE)
        )
        if not presented:
            raise UnauthorizedError("an API key or a watch token is required")
        if self._keys.accept(presented):
            return Viewer(everything=True)
        return self._tokens.read(presented)

    def room(self, address: str) -> None:
        """
        Check that one more may wait.

        Raises:
            UnavailableError: Draining, or too many are waiting already.
        """
        limit = self._config.max_subscribers_per_ip
        if self._hub.draining:
            raise UnavailableError("this gateway is shutting down")
        if len(self._hub) >= self._config.max_subscribers:
            raise UnavailableError("too many clients are waiting")
        if limit and self._waiting[address] >= limit:
            raise UnavailableError("too many clients of this address are waiting")


def _bearer(header: str | None) -> str | None:
    if header is None:
        return None
    scheme, _, credential = header.partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise UnauthorizedError("Authorization is not a bearer credential")
    return credential.strip()
