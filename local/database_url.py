"""
A person's own `DATABASE_URL`: whether it can be one, and what may be shown of it.

Nothing that could be a piece of the password is ever shown, so what only looks
like a URL is refused without quoting any of it.

Source: RFC 3986; PostgreSQL 18, "Connection URIs".
"""

import re
from urllib.parse import parse_qs, urlsplit

_SCHEMES = frozenset({"postgres", "postgresql"})
_HOST = re.compile(r"(?:\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]{1,5}))?")
_MAX_PORT = 65_535
_DEFAULT_PORT = "5432"


def is_database_url(text: str) -> bool:
    """
    Whether user, password and hosts can be told apart, and the ports are some.

    One host or several with commas between them; none, as in
    `postgresql:///video?host=/run/postgresql`, is allowed.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    # A bare @, /, ? or # in the password moves its @ out of its place.
    astray = parts.path + parts.fragment + (parts.query if parts.netloc else "")
    return (
        parts.scheme in _SCHEMES
        and parts.netloc.count("@") <= 1
        and "@" not in astray
        and all(map(_is_host, _hosts(parts.netloc).split(",")))
    )


def where(url: str) -> str:
    """Host, port and database of a URL that is one: what a person may be shown."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    hosts = _hosts(parts.netloc) or query.get("host", ["localhost"])[-1]
    if ":" in hosts.rpartition("]")[2]:
        return hosts + parts.path
    return f"{hosts}:{query.get('port', [_DEFAULT_PORT])[-1]}{parts.path}"


def _hosts(netloc: str) -> str:
    return netloc.rpartition("@")[2]


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and int(found[1] or _DEFAULT_PORT) <= _MAX_PORT
