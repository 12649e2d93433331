"""
What can be asked of a gateway, each as one call.

The only module here that knows its address and its credential; both go into
requests to that address and nowhere else.
"""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import aiohttp
import msgspec
from yarl import URL

from gateway.client import answers, sending
from gateway.client.errors import NotAGatewayError, NotPlayableError, RefusedError
from gateway.client.following import Following, Page
from gateway.client.registered import Registered
from gateway.errors import InvalidError, UnavailableError
from gateway.model import FileState, Status

HEARTBEAT_S = 15.0
"""What the gateway promises at least; 2.5 of them without a byte is a mute stream."""

_STREAM_TIMEOUT = aiohttp.ClientTimeout(
    total=None, sock_connect=10.0, sock_read=2.5 * HEARTBEAT_S
)
_ASK_TIMEOUT = aiohttp.ClientTimeout(total=30.0, sock_connect=10.0)

Connection = Literal["connecting", "live", "busy", "offline", "done"]

_FILE_ID = re.compile(r"[0-9a-z-]{1,64}", re.ASCII)
_NO_CONTENT = 204
_Answer = TypeVar("_Answer")


class _StoryPage(msgspec.Struct, frozen=True):
    file: dict[str, Any]
    events: list[dict[str, Any]]
    after: int


class Client:
    """
    One gateway; an async context manager.

    Args:
        url: The gateway, e.g. ``http://127.0.0.1:8080/``.
        api_key: Of the app's back end; may do everything.
        token: A watch token instead; may read and watch.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, token: str | None = None
    ) -> None:
        self._url = url.rstrip("/") + "/"
        credential = api_key or token
        self._headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await self._opened().close()

    async def register(
        self,
        name: str,
        *,
        content_type: str,
        size_bytes: int,
        owner: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Registered:
        """
        Announce a file; what comes back lets its bytes in.

        Raises:
            RefusedError: The gateway does not accept it; the text names the field.
            UnavailableError: The gateway is not there, or cannot now.
        """
        said: dict[str, Any] = {
            "name": _unicode(name),
            "content_type": content_type,
            "size": size_bytes,
            "metadata": metadata or {},
        }
        if owner is not None:
            said["owner"] = _unicode(owner)
        return await self._ask(
            "POST", "v1/files", Registered, msgspec.json.encode(said)
        )

    async def send(
        self,
        registered: Registered,
        path: Path,
        *,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> None:
        """
        Send the bytes of a registered file.

        Args:
            on_bytes: Called with how many bytes are on their way in all; starts
                over when the sending does.

        Raises:
            OSError: The file cannot be opened.
            UploadError: The storage refused it, or could not be reached.
        """
        await sending.send(
            self._opened(),
            URL(registered.upload.url, encoded=True),
            registered.upload.headers,
            sending.Content(path, registered.file.size, on_bytes),
        )

    async def upload(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        content_type: str | None = None,
        owner: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> Registered:
        """
        Register a file of this machine and send it; raises as both.

        Args:
            name: What people see; default: the file's own.
            content_type: Default: guessed from `name`.
        """
        path = Path(path)
        name = name or path.name
        registered = await self.register(
            name,
            content_type=content_type or sending.content_type(name),
            size_bytes=await asyncio.to_thread(sending.size_bytes, path),
            owner=owner,
            metadata=metadata,
        )
        await self.send(registered, path, on_bytes=on_bytes)
        return registered

    async def file(self, file_id: str) -> FileState:
        """
        Read the state of a file now.

        Raises:
            RefusedError: No such file, or not yours.
            UnavailableError: The gateway is not there, or cannot now.
        """
        return await self._ask("GET", _path(file_id), FileState)

    async def history(self, file_id: str) -> dict[str, Any]:
        """Read ``file`` and all its ``events``, as written; raises as `file`."""
        path = f"{_path(file_id)}/history?after="
        page = await self._ask("GET", f"{path}0", _StoryPage)
        events = page.events
        while page.events and page.after < page.file.get("seq", 0):
            page = await self._ask("GET", f"{path}{page.after}", _StoryPage)
            events += page.events
        return {"file": page.file, "events": events}

    async def watch(
        self,
        file_id: str,
        *,
        after: int | None = None,
        on_connection: Callable[[Connection], None] = lambda _: None,
    ) -> AsyncGenerator[FileState]:
        """
        Follow a file to its end, across restarts and lost connections.

        Args:
            after: The seq you already have; None begins with the current state.
            on_connection: Told how the connection fares.

        Yields:
            Each newer state, never an older one; only after the gateway declares
            the cursor unknown may seq step back.

        Raises:
            RefusedError: No such file, or not yours (any more).
            NotAGatewayError: No gateway was heard, or it streams what none does.
        """
        following = Following(after)
        while not following.final:
            on_connection("connecting")
            try:
                stream = self._stream(file_id, following, on_connection)
                async with contextlib.aclosing(stream):
                    async for state in stream:
                        yield state
                if following.silent:
                    following.failed()
            except UnavailableError as error:
                following.failed(at_least_s=error.retry_after_s)
            except (aiohttp.ClientError, OSError):
                following.failed()
            if following.silent:
                for state in await self._states_now(file_id, following):
                    yield state
            if not following.final:
                on_connection("busy" if following.refused else "offline")
                await asyncio.sleep(following.delay_s())
        on_connection("done")

    async def ready(self, file_id: str, *, timeout_s: float | None = None) -> FileState:
        """
        Wait until a file plays.

        Raises:
            NotPlayableError: It ended otherwise.
            TimeoutError: It has not ended after `timeout_s`.
            RefusedError: No such file, or not yours.
        """
        state = None
        async with asyncio.timeout(timeout_s):
            async for newer in self.watch(file_id):
                state = newer
        if state is None or state.status is not Status.PLAYABLE:
            raise NotPlayableError(state or await self.file(file_id))
        return state

    async def _stream(
        self,
        file_id: str,
        following: Following,
        on_connection: Callable[[Connection], None],
    ) -> AsyncGenerator[FileState]:
        url = f"{self._url}{_path(file_id)}/events"
        following.begin()
        async with self._opened().get(
            url,
            headers=self._headers | _stream_headers(following.cursor),
            allow_redirects=False,
            timeout=_STREAM_TIMEOUT,
        ) as answer:
            if answer.status == _NO_CONTENT:
                following.final = True
                return
            try:
                await answers.check(answer)
                answers.check_type(answer, "text/event-stream")
            except (NotAGatewayError, RefusedError) as error:
                if following.heard and not answers.is_ours(error):
                    # What stands in front is restarted, too, and says what it likes.
                    raise UnavailableError(str(error)) from error
                raise
            following.opened()
            live = False
            async for chunk in answer.content.iter_any():
                states = _fed(following, chunk, url)
                if not live and not following.refused:
                    live = True
                    on_connection("live")
                for state in states:
                    yield state
                if following.final:
                    return

    async def _states_now(self, file_id: str, following: Following) -> list[FileState]:
        """Ask without a wait, which is answered when no stream can be had."""
        after = "" if following.cursor is None else f"&after={following.cursor}"
        path = f"{_path(file_id)}/events?wait=0{after}"
        try:
            return following.catch_up(await self._ask("GET", path, Page))
        except UnavailableError as error:
            following.unanswered(at_least_s=error.retry_after_s)
        except (NotAGatewayError, RefusedError) as error:
            if answers.is_ours(error) or not following.heard:
                raise
            following.unanswered()
        return []

    async def _ask(
        self, method: str, path: str, shape: type[_Answer], body: bytes | None = None
    ) -> _Answer:
        url = self._url + path
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self._opened().request(
                method,
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=_ASK_TIMEOUT,
            ) as answer:
                await answers.check(answer)
                answers.check_type(answer, "application/json")
                return msgspec.json.decode(await answer.read(), type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotAGatewayError(
                url, f"answers what no gateway does: {error}"
            ) from error
        except TimeoutError:
            raise UnavailableError(f"{self._url} does not answer") from None
        except (aiohttp.ClientError, OSError) as error:
            why = f"{self._url} cannot be reached: {_cause(error)}"
            raise UnavailableError(why) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use `async with Client(...)`")
        return self._session


def _cause(error: Exception) -> str:
    """Say why there is no connection; aiohttp says again to where, and ``ssl:default``."""
    if isinstance(error, aiohttp.ClientSSLError):
        return str(error)
    if not isinstance(error, aiohttp.ClientConnectorError):
        return str(error)
    cause = error.os_error
    if isinstance(cause, socket.gaierror) or cause.errno is None:
        return cause.strerror or str(cause)
    return os.strerror(cause.errno)


def _path(file_id: str) -> str:
    if not _FILE_ID.fullmatch(file_id):
        raise InvalidError("id", f"{file_id!r} is not a file id")
    return f"v1/files/{file_id}"


def _stream_headers(cursor: int | None) -> dict[str, str]:
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
    return headers if cursor is None else headers | {"Last-Event-ID": str(cursor)}


def _fed(following: Following, chunk: bytes, url: str) -> list[FileState]:
    try:
        return following.feed(chunk)
    except ValueError as error:
        raise NotAGatewayError(url, f"streams what no gateway does: {error}") from error


def _unicode(text: str) -> str:
    # File names and arguments may hold bytes that are no text.
    return text.encode("utf-8", "replace").decode()
