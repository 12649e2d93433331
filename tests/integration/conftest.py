"""A real gateway on a real Postgres, and a hand that signs like a Lambda."""

import asyncio
import base64
import contextlib
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import asyncpg
import pytest
import uvloop
from standardwebhooks import Webhook

from gateway.app import Gateway as BuiltGateway
from gateway.app import gateway as build_gateway
from gateway.config import Config
from tests.integration.wire import UPLOADED, request, served

API_KEY = "k" * 40
TOKEN_SECRET = "t" * 40
INGEST_KEY = b"i" * 24
BUCKET = "reelready-test"
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def config_for(database_url: str, **settings: Any) -> Config:
    """Settings of a gateway under test."""
    values: dict[str, Any] = {
        "database_url": database_url,
        "listen_database_url": database_url,
        "bucket": BUCKET,
        "playback_base_url": "https://play.example.com/",
        "public_url": "https://gateway.example.com/",
        "ingest_secrets": (INGEST_KEY,),
        "api_keys": (API_KEY,),
        "token_secrets": (TOKEN_SECRET,),
    }
    return Config(**values | settings)


@dataclass
class Frame:
    """One dispatched frame, with the fields that stand in it and no others."""

    event: str
    id: str
    data: str
    retry: str

    def json(self) -> Any:
        """The data, decoded."""
        return json.loads(self.data)


@dataclass
class Gateway:
    """
    A gateway that listens, and what one does with it.

    Attributes:
        http: A session with the API key on it.
    """

    url: str
    http: aiohttp.ClientSession
    config: Config
    built: BuiltGateway

    async def create(self, **body: Any) -> dict[str, Any]:
        """Register a file; returns the whole answer."""
        said = {"name": "a.mp4", "content_type": "video/mp4", "size": 10} | body
        async with self.http.post(f"{self.url}/v1/files", json=said) as answer:
            assert 201 == answer.status, await answer.text()
            created: dict[str, Any] = await answer.json()
        return created

    async def new_file(self, **body: Any) -> str:
        """Register a file; returns its id."""
        file_id: str = (await self.create(**body))["file"]["id"]
        return file_id

    async def post(
        self,
        file_id: str,
        kind: str,
        body: dict[str, Any] | bytes,
        *,
        webhook_id: str | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """POST a signed report or manifest; returns status and answer."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = signed(raw, webhook_id=webhook_id)
        path = f"{self.url}/v1/files/{file_id}/{kind}"
        async with self.http.post(path, data=raw, headers=headers) as answer:
            return answer.status, await answer.json()

    async def report(self, file_id: str, kind: str, **fields: Any) -> dict[str, Any]:
        """Report something that must be accepted."""
        webhook_id = fields.pop("webhook_id", None)
        body = {"type": kind, "occurred_at": "2026-01-02T03:04:05Z"} | fields
        status, answer = await self.post(
            file_id, "reports", body, webhook_id=webhook_id
        )
        assert 200 == status, answer
        return answer

    async def complete(self, file_id: str, **fields: Any) -> dict[str, Any]:
        """Post a manifest that must be accepted."""
        status, answer = await self.post(
            file_id, "manifest", manifest_of(file_id) | fields
        )
        assert 200 == status, answer
        return answer

    async def stream(
        self, path: str, *, most: int | None = None, **request: Any
    ) -> list[Frame]:
        """
        Read a stream to its end, or `most` frames of it.

        Heartbeats are left out.
        """
        frames: list[Frame] = []
        async with self.open_stream(path, **request) as stream:
            async for frame in stream:
                frames.append(frame)
                if len(frames) == most:
                    break
        return frames

    @contextlib.asynccontextmanager
    async def open_stream(
        self, path: str, *, headers: dict[str, str] | None = None, **request: Any
    ) -> AsyncIterator[AsyncIterator[Frame]]:
        """Open a stream; frames but heartbeats come out as they arrive."""
        headers = {"Accept": "text/event-stream"} | (headers or {})
        async with self.http.get(
            f"{self.url}{path}", headers=headers, **request
        ) as answer:
            assert 200 == answer.status, await answer.text()
            assert "text/event-stream; charset=utf-8" == answer.headers["Content-Type"]
            yield _frames(answer)

    async def fetch(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Ask the database behind the gateway's back."""
        connection = await asyncpg.connect(self.config.database_url)
        try:
            return [tuple(row) for row in await connection.fetch(sql, *arguments)]
        finally:
            await connection.close()

    async def state(self, file_id: str) -> dict[str, Any]:
        """Read the current FILE."""
        async with self.http.get(f"{self.url}/v1/files/{file_id}") as answer:
            assert 200 == answer.status
            state: dict[str, Any] = await answer.json()
        return state


async def _frames(answer: aiohttp.ClientResponse) -> AsyncIterator[Frame]:
    fields: dict[str, str] = {}
    async for line in answer.content:
        name, _, value = line.decode().rstrip("\n").partition(":")
        if name or value:
            fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields and fields.get("event") != "hb":
            yield Frame(
                fields.get("event", "message"),
                fields.get("id", ""),
                fields["data"],
                fields.get("retry", ""),
            )
        fields = {}


def manifest_of(file_id: str) -> dict[str, Any]:
    """What the Lambda posts for a finished job."""
    base = f"s3://{BUCKET}/video/hls/{file_id}/master"
    return {
        "job_id": "j-1",
        "occurred_at": "2026-01-02T03:05:05Z",
        "master_playlist": f"{base}.m3u8",
        "duration_ms": 30500,
        "renditions": [{"playlist": f"{base}_480.m3u8", "width": 854, "height": 480}],
    }


def signed(
    raw: bytes, *, webhook_id: str | None = None, at: float | None = None
) -> dict[str, str]:
    """Sign as the Standard Webhooks library does."""
    webhook_id = webhook_id or f"w-{secrets.token_hex(8)}"
    moment = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    hook = Webhook("whsec_" + base64.b64encode(INGEST_KEY).decode())
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": hook.sign(webhook_id, moment, raw.decode()),
    }


@contextlib.asynccontextmanager
async def running_gateway(config: Config) -> AsyncIterator[Gateway]:
    """Serve on a free port of loopback."""
    async with (
        build_gateway(config) as built,
        built.listening("127.0.0.1", 0) as server,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {API_KEY}"}) as http,
    ):
        host, port = server.sockets[0].getsockname()[:2]
        one = Gateway(f"http://{host}:{port}", http, config, built)
        await _ready(one)
        yield one


async def _ready(one: Gateway) -> None:
    """Wait until the listener has heard its echo; bounded by the test's timeout."""
    while True:
        async with one.http.get(f"{one.url}/readyz") as answer:
            if answer.status == 200:
                return


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials to sign with; nothing is ever sent anywhere."""
    monkeypatch.setenv("AWS_REGION", "ap-northeast-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")


@pytest.fixture
def make_gateway():
    """Make a gateway on a database of your own, as an async context manager."""

    def make(
        database_url: str, **settings: Any
    ) -> contextlib.AbstractAsyncContextManager[Gateway]:
        return running_gateway(config_for(database_url, **settings))

    return make


@pytest.fixture
def sign():
    """`signed`, for tests that put the headers on themselves."""
    return signed


@pytest.fixture
async def gateway(shared_database_url: str) -> AsyncIterator[Gateway]:
    """A gateway with everyday settings."""
    async with running_gateway(config_for(shared_database_url)) as one:
        yield one


@pytest.fixture
def gateway_with(shared_database_url: str):
    """Make a gateway with settings of your own, as an async context manager."""

    def make(**settings: Any) -> contextlib.AbstractAsyncContextManager[Gateway]:
        return running_gateway(config_for(shared_database_url, **settings))

    return make


@pytest.fixture(params=LOOPS)
def new_loop(request):
    """Both kinds of loop that the gateway runs on."""
    return LOOPS[request.param]


@pytest.fixture
def place(gateway_with, new_loop, caplog):
    """A gateway; whatever is sent to it, it has nothing to complain about."""
    with (
        caplog.at_level(logging.INFO, "reelready.access"),
        served(gateway_with, new_loop) as one,
    ):
        yield one
    assert [] == [one for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.fixture
def post(sign):
    """Write a signed POST."""

    def write(path, body=UPLOADED, headers=None):
        return request("POST", path, sign(body) | (headers or {}), body)

    return write


@pytest.fixture
def post_chunked(sign):
    """Write a signed POST whose body comes in the chunks it is given as."""

    def write(path, *chunks, headers=None, end=b"0\r\n\r\n"):
        said = sign(b"".join(chunks)) | {"Transfer-Encoding": "chunked"}
        framed = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks)
        return request("POST", path, said | (headers or {}), framed + end)

    return write
