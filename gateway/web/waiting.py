"""
The waiting GETs: the blocking GET, the long-poll and the streams.

Each checks its request, parks its connection and is done; what follows is in
`gateway.parking`.
"""

import math
import random
import time
from collections.abc import Mapping

from gateway.auth import Viewer
from gateway.config import Config
from gateway.errors import InvalidError, NotFoundError, UnavailableError
from gateway.model import FILE_ID, FileId
from gateway.parking import Line, Lot, Poll, Stream, refuse
from gateway.protocol import cursor, longpoll
from gateway.protocol.http import Request
from gateway.web.access import Access

MAX_FILES = 100


class Waiting:
    """The routes that park."""

    def __init__(self, config: Config, lot: Lot, access: Access) -> None:
        self._config = config
        self._lot = lot
        self._access = access

    def file(self, line: Line, request: Request, file_id: FileId) -> None:
        """
        Show the current state, or wait for a newer one.

        Raises:
            GatewayError: No credential, or not for this file; no room; or
                ``wait`` is not seconds.
        """
        wait_s = self._wait_s(request)
        after = cursor.parse(request.argument("after"))
        if "if-none-match" in request.headers:
            after = cursor.from_etag(request.headers["if-none-match"])
        viewer = self._viewer(request, file_id)
        poll = Poll(
            self._lot,
            line,
            viewer,
            file_id=file_id,
            after=after,
            wait_s=self._allowed_wait_s(request, viewer, file_id, wait_s or 0),
            whole=True,
            prefers=wait_s is not None and request.argument("wait") is None,
        )
        line.park(poll)

    def events(self, line: Line, request: Request, file_id: FileId) -> None:
        """
        Follow one file: as a stream if the client can read one, else long-poll.

        Raises:
            GatewayError: as `file`.
        """
        viewer = self._viewer(request, file_id)
        after = cursor.from_request(request)
        if "text/event-stream" in request.headers.get("accept", "").lower():
            self._stream(line, request, viewer, {file_id: after}, numbered=True)
            return
        wait_s = self._wait_s(request)
        if wait_s is None:
            wait_s = min(longpoll.DEFAULT_WAIT_S, self._config.max_wait_seconds)
        poll = Poll(
            self._lot,
            line,
            viewer,
            file_id=file_id,
            after=after,
            wait_s=self._allowed_wait_s(request, viewer, file_id, wait_s),
            whole=False,
        )
        line.park(poll)

    def many(self, line: Line, request: Request) -> None:
        """
        Follow many files, each from its current state.

        Raises:
            InvalidError: No file is named, or more than `MAX_FILES`.
            GatewayError: as `file`.
        """
        viewer = self._access.viewer(request)
        file_ids = list(dict.fromkeys(request.arguments("file")))
        if not 1 <= len(file_ids) <= MAX_FILES:
            raise InvalidError("file", f"is not given 1 to {MAX_FILES} times")
        cursors = {FileId(file_id): cursor.CURRENT for file_id in file_ids}
        if not all(
            FILE_ID.fullmatch(one) and viewer.may_ever_see(one) for one in cursors
        ):
            raise NotFoundError
        self._stream(line, request, viewer, cursors, numbered=False)

    def _viewer(self, request: Request, file_id: FileId) -> Viewer:
        """Find out who asks; a guess at a file id costs the table no read."""
        viewer = self._access.viewer(request)
        if not viewer.may_ever_see(file_id):
            raise NotFoundError
        return viewer

    def _stream(
        self,
        line: Line,
        request: Request,
        viewer: Viewer,
        cursors: Mapping[FileId, int],
        *,
        numbered: bool,
    ) -> None:
        try:
            self._access.room(request, cursors)
        except UnavailableError:
            refuse(self._lot, line)
            return
        ends_at_s, at_end = self._planned_end(viewer)
        stream = Stream(
            self._lot,
            line,
            viewer,
            cursors=cursors,
            numbered=numbered,
            ends_at_s=ends_at_s,
            at_end=at_end,
        )
        line.park(stream)

    def _allowed_wait_s(
        self, request: Request, viewer: Viewer, file_id: FileId, wait_s: int
    ) -> int:
        """Let nobody wait without room, or for longer than they may see."""
        if wait_s:
            self._access.room(request, (file_id,))
        if viewer.expires_at is None:
            return wait_s
        return min(wait_s, math.ceil(viewer.expires_at - time.time()))

    def _wait_s(self, request: Request) -> int | None:
        return longpoll.wait_s(
            request.argument("wait"),
            request.headers.get("prefer"),
            max_s=self._config.max_wait_seconds,
        )

    def _planned_end(self, viewer: Viewer) -> tuple[float, str]:
        """When a stream ends by itself, and why; ages are spread by a fifth."""
        now_s = self._lot.wheel.now_s()
        age_s = self._config.stream_max_age_seconds * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load, guards nothing
        if viewer.expires_at is not None and viewer.expires_at - time.time() < age_s:
            return now_s + viewer.expires_at - time.time(), "token"
        return now_s + age_s, "age"
