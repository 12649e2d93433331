"""
No secret and no token in any log, answer or metric (A5).

A real gateway logs all it can, down to what asyncio and aiohttp say when they
are debugged; clients show it their credentials in every place where one may
stand, and in some where none may; Postgres and Redis die meanwhile.
"""

import asyncio
import base64
import os
import re
import secrets
import signal
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from bench.children import Children
from bench.peers.redis import redis
from bench.server import get, post
from bench.soak.stage import Stage

TALKATIVE = """
import functools, logging
from gateway import app, telemetry
from gateway.cli import main

def start_logging(**how):
    telemetry.start_logging(**how | {"level": logging.DEBUG})
    logging.getLogger("asyncio").setLevel(logging.DEBUG)
    logging.getLogger("reelready.test").debug("everything is logged")

app.start_logging = start_logging
main(["serve"])
"""
REPORT = b'{"type":"uploaded","occurred_at":"2026-01-02T03:04:05Z"}'


class Keyed(Stage):
    """A stage whose gateways sign uploads with a key that can be looked for."""

    aws_key = secrets.token_urlsafe(30)

    def environment(self):
        return super().environment() | {"AWS_SECRET_ACCESS_KEY": self.aws_key}


async def ask(stage: Stage, raw: bytes, *, wait_s: float = 3.0) -> bytes:
    """Send any bytes; read what comes back for a while."""
    heard = b""
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    try:
        async with asyncio.timeout(wait_s):
            writer.write(raw)
            while more := await reader.read(65536):
                heard += more
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return heard


def shown_everywhere(credential: str, file_id: str) -> list[bytes]:
    """Requests that hold one credential, in the right places and in wrong ones."""
    path, quoted = f"/v1/files/{file_id}", quote(credential, safe="")
    close, bearer = "Connection: close", f"Authorization: Bearer {credential}"
    heads = [
        get(f"{path}?token={quoted}", close),
        get(f"{path}/events?wait=0&token={quoted}", close),
        get(f"{path}/events?token={quoted}", close, "Accept: text/event-stream"),
        get(f"/v1/events?file={file_id}&token={quoted}", close),
        get(path, close, bearer),
        get(path, close, f"Authorization: Basic {credential}"),
        get(path, close, f"Authorization: {credential}"),
        get(path, close, f"Cookie: reelready={credential}"),
        get(path, close, f"Cookie: other={credential}; reelready=x"),
        get(f"{path}/history", close, bearer),
        get(f"{path}/history?token={quoted}", close),
        get(f"/?token={quoted}", close, f"Referer: https://a.example/?t={credential}"),
        get(f"/none?token={quoted}", close, f"User-Agent: {credential}"),
        get(f"/static/none.js?token={quoted}", close),
        get(f"{path}?wait={quoted}", close, bearer),
        get(f"{path}/events?after={quoted}&wait=0", close, bearer),
        get(f"{path}/events?wait=0", close, bearer, f"Last-Event-ID: {credential}"),
        get(path, close, bearer, f"If-None-Match: {credential}"),
        get(path, close, bearer, f"Origin: {credential}"),
        get(f"{path}?{'a&' * 300}token={quoted}", close),
    ]
    return [
        *(head + b"\r\n" for head in heads),
        # Broken, where the credential stands: in the line, a name, a body.
        f"GET {path}?token={credential} HTTP/9.9\r\n\r\n".encode(),
        f"GET {path}\r\nAuthorization: {credential}\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: h\r\n{credential}\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: h\r\nX: {credential}\0\r\n\r\n".encode(),
        f"{credential} / HTTP/1.1\r\nHost: h\r\n\r\n".encode(),
        b"POST /v1/files HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
        + f"{bearer}\r\n\r\n5;{credential}\r\n{credential}\r\n\r\n".encode(),
        post("/v1/files", f'{{"name": "{credential}'.encode(), close, bearer),
        post("/v1/files", f'{{"size": "{credential}"}}'.encode(), close, bearer),
        post(f"{path}/reports", REPORT, close, f"webhook-signature: {credential}"),
        post(f"{path}/reports", REPORT, close, f"webhook-id: {credential}", bearer),
        # Cut off: the gateway gives up on it.
        f"GET {path}?token={credential} HTTP/1.1\r\n{bearer}\r\n".encode(),
    ]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("has_redis", "complaint"),
    [
        (False, b"listener lost: "),
        (True, b"REELREADY_REDIS_URL: cannot be reached"),
    ],
)
async def test_no_secret_gets_into_a_log_an_answer_or_a_metric(
    monkeypatch, has_redis, complaint
):
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    of_redis, settings = secrets.token_urlsafe(24), {"ACCESS_LOG": "on"}
    async with (
        Children() as children,
        redis(children) as server,
        Keyed(settings=settings) as stage,
    ):
        if has_redis:
            settings["REDIS_URL"] = server.url.replace("//", f"//:{of_redis}@")
        of_postgres = urlsplit(stage.url).password
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(stage.url, password="another")
        await stage.start_gateway(("-c", TALKATIVE))
        await stage.ready()
        known = stage.known
        whsec = "whsec_" + base64.b64encode(known.ingest).decode()
        key = f"Authorization: Bearer {known.api_key}"
        said = b'{"name":"a.mp4","content_type":"video/mp4","size":1}'
        created = await ask(stage, post("/v1/files", said, key, "Connection: close"))
        file_id = re.search(rb'"id":"([^"]+)"', created)[1].decode()
        token = re.search(rb'"token":"([^"]+)"', created)[1].decode()
        stranger = f"{token.rpartition('.')[0]}.{secrets.token_urlsafe(32)}"
        credentials = [known.api_key, token, stranger, whsec, known.token]
        signed = known.signed("w-1", REPORT)
        report = post(f"/v1/files/{file_id}/reports", REPORT, *signed)
        asked = [raw for one in credentials for raw in shown_everywhere(one, file_id)]

        answers = await asyncio.gather(*(ask(stage, raw) for raw in [report, *asked]))
        os.kill(server.pid, signal.SIGKILL)
        stage.kill_postgres()
        answers += await asyncio.gather(*(ask(stage, raw) for raw in asked))
        await stage.start_postgres()
        answers.append(await stage.ask("/metrics"))
        answers.append(await stage.ask("/page.json"))
        await stage.end_gateway()
        log = stage.children.log("gateway").read_bytes()

    assert answers[0].startswith(b"HTTP/1.1 200 ")
    assert b"everything is logged" in log
    assert b'"DEBUG"' in log
    assert log.count(b"reelready.access") > 100
    assert complaint in log
    for secret in [
        *credentials,
        of_postgres,
        of_redis,
        stage.aws_key,
        token.rpartition(".")[2],
        known.ingest.hex(),
        whsec.removeprefix("whsec_"),
        repr(known.ingest)[2:-1],
        signed[2].rpartition(",")[2],
    ]:
        for form in {secret, quote(secret, safe=""), secret[:24]}:
            assert form.encode() not in log, form
            assert not [one for one in answers if form.encode() in one], form
