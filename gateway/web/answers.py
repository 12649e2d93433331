"""The one table from our errors to HTTP status, whichever way they go out."""

import random

from gateway.errors import (
    GatewayError,
    InvalidError,
    NotFoundError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from gateway.protocol import problem

RETRY_SPREAD_S = 3
"""Whoever is refused comes back up to so much later: not all at once."""

Answer = tuple[int, list[tuple[str, str]], bytes]

_STATUS: dict[type[GatewayError], int] = {
    InvalidError: 422,
    UnauthorizedError: 401,
    NotFoundError: 404,
    TooLargeError: 413,
    UnavailableError: 503,
    GatewayError: 500,
}
_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    500: "internal",
}
_PROBLEM = [("Content-Type", problem.CONTENT_TYPE), ("Cache-Control", "no-store")]


def error_answer(error: GatewayError) -> Answer:
    """Answer an error that was raised on purpose."""
    status = next(code for kind, code in _STATUS.items() if isinstance(error, kind))
    headers = list(_PROBLEM)
    if isinstance(error, UnauthorizedError):
        headers.append(("WWW-Authenticate", 'Bearer realm="reelready"'))
    if isinstance(error, UnavailableError):
        retry_after_s = error.retry_after_s + random.randint(0, RETRY_SPREAD_S)  # noqa: S311 - spreads load, guards nothing
        headers.append(("Retry-After", str(retry_after_s)))
    return status, headers, problem.of(error, status)


def status_answer(status: int, detail: str) -> Answer:
    """Answer what HTTP itself refuses."""
    body = problem.encode(_CODES.get(status, "bad_request"), status, detail)
    return status, list(_PROBLEM), body
