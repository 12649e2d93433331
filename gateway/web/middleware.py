"""
What every answer of aiohttp goes through: problems, CORS, headers, metrics.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.typedefs import Handler, Middleware

from gateway.errors import GatewayError
from gateway.telemetry import Metrics
from gateway.web.answers import Answer, error_answer, status_answer
from gateway.web.headers import CommonHeaders

_log = logging.getLogger("reelready.web")
_access_log = logging.getLogger("reelready.access")


def problems() -> Middleware:
    """Turn every error into a problem document; internals go to the log only."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except GatewayError as error:
            return _response(error_answer(error))
        except web.HTTPException as error:
            if error.status < 400:  # noqa: PLR2004 - redirects are no errors
                raise
            response = _response(status_answer(error.status, error.reason))
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001 - the last line of defence of one request
            # As it came: decoded, it could hold a line break.
            path = request.raw_path.partition("?")[0]
            _log.exception("%s %s failed", request.method, path)
            return _response(status_answer(500, "see the log"))

    return answer


def counted(metrics: Metrics) -> Middleware:
    """Count answers by route and status; each is the last of its connection."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unmatched"
        metrics.requests.labels(route, response.status).inc()
        # The next request on this connection may be one that only the door
        # serves, so it must come in there.
        response.force_close()
        return response

    return count


def preflights(common: CommonHeaders) -> Middleware:
    """Answer CORS preflights (Fetch standard, "CORS-preflight request")."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        asks = "Access-Control-Request-Method" in request.headers
        if request.method != "OPTIONS" or not asks:
            return await handler(request)
        headers = common.preflight(request.headers.get("Origin"))
        return web.Response(status=204, headers=headers)

    return answer


def finish_headers(
    common: CommonHeaders,
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Put on every head what browsers must be told."""

    async def finish(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(common.for_origin(request.headers.get("Origin")))

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
            request.raw_path.partition("?")[0],
            response.status,
            extra={
                "seconds": round(time, 4),
                "remote": cast("Any", request.protocol).client(request),
            },
        )


def _response(answer: Answer) -> web.Response:
    status, headers, body = answer
    return web.Response(status=status, headers=headers, body=body)
