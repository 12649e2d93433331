"""Registering files, and telling the whole story of one."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.auth import WatchTokens
from gateway.config import Config
from gateway.errors import NotFoundError
from gateway.model import FileId, FileState
from gateway.protocol import cursor, registration
from gateway.store.files import Files, new_file_id
from gateway.store.history import History
from gateway.uploads import Upload, Uploads
from gateway.web.access import Access
from gateway.web.body import read_body

if TYPE_CHECKING:
    from gateway.tracing import Tracing


class _Watch(Struct, frozen=True):
    """How to follow a file: nothing can happen before cursor `after`."""

    events_url: str
    token: str
    expires_at: datetime
    after: int


class _Registered(Struct, frozen=True):
    file: FileState
    upload: Upload
    watch: _Watch


class FileRoutes:
    """The routes of the app's back end."""

    def __init__(
        self,
        config: Config,
        access: Access,
        files: Files,
        history: History,
        uploads: Uploads,
        tracing: "Tracing | None" = None,
    ) -> None:
        self._config = config
        self._access = access
        self._files = files
        self._history = history
        self._uploads = uploads
        self._tracing = tracing
        self._tokens = WatchTokens(config.token_secrets)

    async def create(self, request: web.Request) -> web.Response:
        """
        Register a file: its row, a signed upload, a watch token.

        Raises:
            UnauthorizedError: No API key.
            InvalidError: naming the field; nothing was stored.
            UnavailableError: It cannot be signed or stored now; nothing was.
        """
        self._access.back_end(request.headers.get("Authorization"))
        said = registration.decode(
            await read_body(request), max_upload_bytes=self._config.max_upload_bytes
        )
        file_id = new_file_id()
        upload = await self._uploads.sign(file_id, said, datetime.now(UTC))
        began_ns = time.time_ns()
        state = await self._files.create(file_id, said)
        if self._tracing is not None:
            self._tracing.registered(state.id, began_ns)
        answer = _Registered(state, upload, self._watch(state))
        return web.Response(
            status=201,
            body=msgspec.json.encode(answer),
            content_type="application/json",
            charset="utf-8",
            headers={"Location": f"/v1/files/{state.id}", "Cache-Control": "no-store"},
        )

    async def story(self, request: web.Request) -> web.Response:
        """
        Tell a page of the retained events of a file, who sent each and when.

        Raises:
            UnauthorizedError: No API key.
            NotFoundError: There is no such file.
        """
        self._access.back_end(request.headers.get("Authorization"))
        story = await self._history.story(
            FileId(request.match_info["file_id"]),
            cursor.parse(request.query.get("after")),
        )
        if story is None:
            raise NotFoundError
        return web.Response(
            body=msgspec.json.encode(story),
            content_type="application/json",
            charset="utf-8",
            headers={"Cache-Control": "no-store"},
        )

    def _watch(self, state: FileState) -> _Watch:
        token, expires_at = self._tokens.mint(
            state.id, life_s=self._config.watch_token_seconds
        )
        return _Watch(
            events_url=f"{self._config.base_url}v1/files/{state.id}/events",
            token=token,
            expires_at=datetime.fromtimestamp(expires_at, UTC),
            after=state.seq,
        )
