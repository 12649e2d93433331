"""
The door: who is asking, and is there room for one more to wait.

A credential is looked for in ``Authorization: Bearer``, then ``?token=``, then
the cookie, because a browser's EventSource can send no header.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from gateway.auth import ApiKeys, Viewer, WatchTokens
from gateway.config import Config, Network
from gateway.errors import UnauthorizedError, UnavailableError
from gateway.hub import Hub
from gateway.memory import Memory
from gateway.model import FileId
from gateway.protocol.http import Request
from gateway.telemetry import Metrics

COOKIE = "reelready"
MAX_HOPS = 20
SITE_BITS = 64
"""Of an IPv6 address: what one household or one machine is given (RFC 6177)."""

_REFUSALS = {
    "draining": "this gateway is shutting down",
    "subscribers": "too many clients are waiting",
    "files": "too many connections are open",
    "memory": "there is too little memory left",
    "address": "too many clients of this address are waiting",
    "file": "too many clients of this file are waiting",
}


class Access:
    """Checks credentials and limits."""

    def __init__(
        self, config: Config, hub: Hub, memory: Memory, metrics: Metrics
    ) -> None:
        self._config = config
        self._hub = hub
        self._memory = memory
        self._refused = metrics.refused
        self._keys = ApiKeys(config.api_keys)
        self._tokens = WatchTokens(config.token_secrets)
        self._waiting: Counter[str] = Counter()

    @property
    def counts(self) -> bool:
        """Whether waiting clients are limited by address."""
        return self._config.max_subscribers_per_ip > 0

    @property
    def is_memory_full(self) -> bool:
        """Whether little is left for whoever does not take what it asked for."""
        return self._memory.full

    def come(self, address: str) -> None:
        """Count one more that waits."""
        if self.counts:
            self._waiting[site(address)] += 1

    def go(self, address: str) -> None:
        """Count one less."""
        if self.counts:
            address = site(address)
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
        if presented is None:
            raise UnauthorizedError("an API key is required")
        if not self._keys.accept(presented):
            raise UnauthorizedError("the API key is not accepted")

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
        if "." not in presented:
            raise UnauthorizedError("the API key is not accepted")
        return self._tokens.read(presented)

    def client(self, peer: str, forwarded_for: str | None) -> str:
        """
        Find out from which address a request comes.

        Args:
            peer: Who is connected.
            forwarded_for: What ``X-Forwarded-For`` says; it is believed only as
                far as trusted proxies wrote it: up to the rightmost address that
                is not one of theirs.
        """
        if forwarded_for and _is_in(self._config.trusted_proxies, peer):
            hops = forwarded_for.split(",")[-MAX_HOPS:]
            for hop in map(str.strip, reversed(hops)):
                if not _is_address(hop):
                    break
                peer = hop
                if not _is_in(self._config.trusted_proxies, peer):
                    break
        return peer

    def room(self, request: Request, file_ids: Iterable[FileId]) -> None:
        """
        Check that one more may wait.

        Raises:
            UnavailableError: Not now: too many are waiting already, or too
                little is left of something they need.
        """
        reason = next(self._shortages(request, file_ids), None)
        if reason is not None:
            self._refused.labels(reason).inc()
            raise UnavailableError(_REFUSALS[reason])

    def _shortages(self, request: Request, file_ids: Iterable[FileId]) -> Iterator[str]:
        config, hub = self._config, self._hub
        of_address = config.max_subscribers_per_ip
        of_file = config.max_subscribers_per_file
        if hub.draining:
            yield "draining"
        if len(hub) >= config.max_subscribers:
            yield "subscribers"
        if self._memory.full:
            yield "memory"
        if request.in_reserve:
            yield "files"
        if of_address and self._waiting[site(request.remote)] >= of_address:
            yield "address"
        if of_file and any(hub.waiting_for(one) >= of_file for one in file_ids):
            yield "file"


def _bearer(header: str | None) -> str | None:
    """Read a bearer credential; another scheme is another's, say a proxy's password."""
    scheme, _, credential = (header or "").partition(" ")
    return credential.strip() or None if scheme.lower() == "bearer" else None


@lru_cache(4096)
def site(address: str) -> str:
    """Name what is counted as one address: all of an IPv6 network of 64 bits."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Address(int(found) >> SITE_BITS << SITE_BITS))


@lru_cache(4096)
def _is_in(networks: tuple[Network, ...], address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
