"""
What serves the other routes: aiohttp's own connection, but in our words.

By itself aiohttp answers what it cannot read with the very bytes, which may be
a credential, and with its name and version; and where asyncio is debugged, what
nobody foresaw with a traceback.
"""

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web

from gateway.protocol.http import MAX_HEAD_BYTES
from gateway.telemetry import Metrics
from gateway.web.answers import status_answer
from gateway.web.headers import CommonHeaders
from gateway.web.middleware import AccessLog

_FIRST_SERVER_ERROR = 500

_log = logging.getLogger("reelready.web")


class ColdConnection(web.RequestHandler):
    """One connection that the door has handed over."""

    __slots__ = ("_client", "_common", "_on_lost", "_requests")

    def __init__(
        self,
        server: web.Server,
        common: CommonHeaders,
        metrics: Metrics,
        client: Callable[[str, str | None], str],
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log_class=AccessLog,
            # A packed body is refused; unpacking it first would be for nothing.
            auto_decompress=False,
            # Nobody who was refused holds a descriptor for a body that never comes.
            lingering_time=0,
            # The door has read the head before, with a limit of its own.
            max_line_size=MAX_HEAD_BYTES,
            max_field_size=MAX_HEAD_BYTES,
        )
        self._common = common
        self._client = client
        self._requests = metrics.requests
        self._on_lost = on_lost

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, and let the door know."""
        super().connection_lost(exc)
        self._on_lost()

    def client(self, request: web.BaseRequest) -> str:
        """Find out from which address a request comes, as `Access.client` does."""
        forwarded_for = request.headers.get("X-Forwarded-For")
        return self._client(request.remote or "", forwarded_for)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = _FIRST_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> web.StreamResponse:
        """
        Answer what could not be read, or failed outside of every middleware.

        Raises:
            ConnectionError: Part of another answer has left already.
        """
        if status >= _FIRST_SERVER_ERROR:
            _log.error("a request failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        detail = "see the log" if status >= _FIRST_SERVER_ERROR else "cannot be read"
        _, headers, body = status_answer(status, detail)
        response = web.Response(status=status, headers=headers, body=body)
        response.headers.update(self._common.for_origin(None))
        response.force_close()
        self._requests.labels("unmatched", status).inc()
        return response
