"""
The door: who is asking, and is there room for one more to wait.

A credential is looked for in ``Authorization``, then ``?token=``, then the
cookie, because a browser's EventSource can send no header.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from gateway.auth import ApiKeys, Viewer, WatchTokens
from gateway.config import Config
from gateway.errors import UnauthorizedError, UnavailableError
from gateway.hub import Hub

COOKIE = "reelready"


class Access:
    """Checks credentials and counts waiting clients."""

    def __init__(self, config: Config, hub: Hub) -> None:
        self._config = config
        self._hub = hub
        self._keys = ApiKeys(config.api_keys)
        self._tokens = WatchTokens(config.token_secrets)
        self._by_address: Counter[str] = Counter()

    def back_end(self, request: web.Request) -> None:
        """
        Let only the app's own back end through.

        Raises:
            UnauthorizedError: There is no API key, or not one of ours.
        """
        presented = _bearer(request)
        if presented is None or not self._keys.accept(presented):
            raise UnauthorizedError("an API key is required")

    def viewer(self, request: web.Request) -> Viewer:
        """
        Find out whose eyes these are.

        Raises:
            UnauthorizedError: There is no credential, or it is not accepted.
        """
        presented = (
            _bearer(request)
            or request.query.get("token")
            or request.cookies.get(COOKIE)
        )
        if not presented:
            raise UnauthorizedError("an API key or a watch token is required")
        if self._keys.accept(presented):
            return Viewer(everything=True)
        return self._tokens.read(presented)

    @contextmanager
    def waiting(self, request: web.Request) -> Iterator[None]:
        """
        Make room for one waiting client.

        Raises:
            UnavailableError: Draining, or too many are waiting already.
        """
        address = request.remote or ""
        limit = self._config.max_subscribers_per_ip
        if self._hub.draining:
            raise UnavailableError("this gateway is shutting down")
        if len(self._hub) >= self._config.max_subscribers:
            raise UnavailableError("too many clients are waiting")
        if limit and self._by_address[address] >= limit:
            raise UnavailableError("too many clients of this address are waiting")
        self._by_address[address] += 1
        try:
            yield
        finally:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]


def _bearer(request: web.Request) -> str | None:
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, credential = header.partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise UnauthorizedError("Authorization is not a bearer credential")
    return credential.strip()
