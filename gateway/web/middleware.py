"""
What every answer goes through: problems for errors, CORS, headers, metrics.

The one table from our errors to HTTP status is here.
"""

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.typedefs import Handler, Middleware

from gateway.errors import (
    GatewayError,
    InvalidError,
    NotFoundError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from gateway.protocol import problem
from gateway.telemetry import Metrics

_STATUS: dict[type[GatewayError], int] = {
    InvalidError: 422,
    UnauthorizedError: 401,
    NotFoundError: 404,
    TooLargeError: 413,
    UnavailableError: 503,
    GatewayError: 500,
}
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}

_ALLOW_HEADERS = "Authorization, Content-Type, If-None-Match, Last-Event-ID, Prefer"
_ALLOW_METHODS = "GET, HEAD, POST, OPTIONS"
_EXPOSE_HEADERS = "ETag, Location, Preference-Applied, Retry-After"
_PREFLIGHT_MAX_AGE_S = "600"

_log = logging.getLogger("reelready.web")
_access_log = logging.getLogger("reelready.access")


def problems() -> Middleware:
    """Turn every error into a problem document; internals go to the log only."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except GatewayError as error:
            return _of(error)
        except web.HTTPException as error:
            if error.status < 400:  # noqa: PLR2004 - redirects are no errors
                raise
            return _problem(
                problem.encode(
                    _HTTP_CODES.get(error.status, "bad_request"),
                    error.status,
                    error.reason,
                ),
                error.status,
                {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {},
            )
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001 - the last line of defence of one request
            _log.exception("%s %s failed", request.method, request.path)
            return _problem(problem.encode("internal", 500, "see the log"), 500, {})

    return answer


def counted(metrics: Metrics) -> Middleware:
    """Count answers by route and status."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unmatched"
        metrics.requests.labels(route, response.status).inc()
        return response

    return count


def preflights(origins: tuple[str, ...]) -> Middleware:
    """Answer CORS preflights (Fetch standard, "CORS-preflight request")."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        asks = "Access-Control-Request-Method" in request.headers
        if request.method != "OPTIONS" or not asks:
            return await handler(request)
        response = web.Response(status=204)
        if request.headers.get("Origin") in origins:
            response.headers["Access-Control-Allow-Methods"] = _ALLOW_METHODS
            response.headers["Access-Control-Allow-Headers"] = _ALLOW_HEADERS
            response.headers["Access-Control-Max-Age"] = _PREFLIGHT_MAX_AGE_S
        return response

    return answer


def finish_headers(
    origins: tuple[str, ...],
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Put on every head, streams too, what browsers must be told."""

    async def finish(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers["Server"] = "reelready"
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        if not origins:
            return
        headers["Vary"] = "Origin"
        origin = request.headers.get("Origin")
        if origin in origins:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Credentials"] = "true"
            headers["Access-Control-Expose-Headers"] = _EXPOSE_HEADERS

    return finish


class AccessLog(AbstractAccessLogger):
    """One line per answer; never the query, where a token may be."""

    @property
    def enabled(self) -> bool:
        """Whether anybody reads these lines."""
        return _access_log.isEnabledFor(logging.INFO)

    def log(
        self, request: web.BaseRequest, response: web.StreamResponse, time: float
    ) -> None:
        """Write the line; `time` is in seconds."""
        _access_log.info(
            "%s %s %d",
            request.method,
            request.path,
            response.status,
            extra={"seconds": round(time, 4), "remote": request.remote},
        )


def _of(error: GatewayError) -> web.Response:
    status = next(code for kind, code in _STATUS.items() if isinstance(error, kind))
    headers = {}
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = 'Bearer realm="reelready"'
    if isinstance(error, UnavailableError):
        headers["Retry-After"] = str(error.retry_after_s)
    return _problem(problem.of(error, status), status, headers)


def _problem(body: bytes, status: int, headers: dict[str, str]) -> web.Response:
    headers |= {"Content-Type": problem.CONTENT_TYPE, "Cache-Control": "no-store"}
    return web.Response(body=body, status=status, headers=headers)
