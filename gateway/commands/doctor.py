"""
`reelready doctor`: is everything there, and does an event get through?

First what stands behind the gateway, with the settings of this shell; then the
gateway itself, at the address that clients use: a file is registered, followed, and
ended, so that whatever stands in between has to show that it does not hold back.
"""

import asyncio
import base64
import hmac
import html
import json
import os
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import click
from rich.table import Table
from rich.text import Text
from yarl import URL

from gateway.commands import output
from gateway.config import Config
from gateway.model import FileId
from gateway.protocol.registration import Registration
from gateway.protocol.sse_parser import SseParser
from gateway.uploads import Upload, Uploads
from workers.checkup import (
    PROBE,
    Finding,
    Verdict,
    cause,
    doubtful,
    everything_behind,
    fine,
    skewed,
    wrong,
)

PROMPT_S = 1.0
"""What is sent at once and takes longer was held back by somebody."""

LIMIT_S = 10.0

_NEW = Registration(name=PROBE, content_type="video/mp4", size=1)
_TIMEOUT = aiohttp.ClientTimeout(total=LIMIT_S)
_CODE = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]+)</Message>")
_ACCESS = "AWS_REGION and credentials"
_SIGNS = {
    Verdict.FINE: ("ok", "green"),
    Verdict.DOUBTFUL: ("look", "yellow"),
    Verdict.WRONG: ("WRONG", "red"),
    Verdict.SKIPPED: ("-", "dim"),
}
_HOLDS_BACK = (
    "something between holds answers back: nginx: proxy_buffering off; Apache: SetEnv"
    " proxy-sendchunked; a CDN: no caching and no compression of /v1/"
)


@click.command(epilog="Example:  reelready doctor --url https://video.example.com/")
@click.option(
    "--url",
    metavar="URL",
    help="The gateway as clients see it  [default: REELREADY_PUBLIC_URL]",
)
@click.pass_context
def doctor(ctx: click.Context, url: str | None) -> None:
    """
    Find out what is wrong, and say what to do.

    Run it where the gateway runs, with its settings.  It registers one file, named
    reelready-doctor, and ends it.  Exit code 1: something is wrong.
    """
    config = Config.from_env()
    findings = asyncio.run(_examine(config, url or config.base_url))
    if any(one.verdict is Verdict.WRONG for one in findings):
        ctx.exit(1)


async def _examine(config: Config, url: str) -> list[Finding]:
    findings: list[Finding] = []
    for part in (
        everything_behind(config),
        _uploads(config),
        _gateway(config, URL(url)),
    ):
        async for finding in part:
            findings.append(finding)
            _tell(finding)
    return findings


def _tell(finding: Finding) -> None:
    if not output.is_terminal():
        output.json_line(finding)
        return
    sign, style = _SIGNS[finding.verdict]
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(width=5)
    table.add_column(width=18)
    table.add_column(overflow="fold")
    said = Text(output.clean(finding.said))
    table.add_row(Text(sign, style=style), finding.check, said)
    if finding.remedy:
        table.add_row("", "", Text("-> " + output.clean(finding.remedy), style="bold"))
    output.console().print(table)


async def _uploads(config: Config) -> AsyncIterator[Finding]:
    """Ask the storage what a browser asks, and upload."""
    check = "uploads"
    try:
        async with (
            Uploads(config.bucket, config.upload_prefix, life_s=60) as uploads,
            aiohttp.ClientSession(timeout=_TIMEOUT) as http,
        ):
            yield await _upload(check, http, uploads, config)
            upload = await uploads.sign(FileId(PROBE), _NEW, datetime.now(UTC))
            place = URL(upload.url, encoded=True)
            for origin in config.allowed_origins:
                yield await _preflight(check, http, place, origin)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        yield wrong(check, cause(error), _ACCESS)
    if not config.allowed_origins:
        said = (
            "REELREADY_ALLOWED_ORIGINS is not set: only the gateway's own page uploads"
        )
        yield Finding(check, Verdict.SKIPPED, said)


async def _upload(
    check: str, http: aiohttp.ClientSession, uploads: Uploads, config: Config
) -> Finding:
    """
    Upload, as nobody could who stores anything by it.

    S3 documents the 404 of what would replace nothing, that this needs s3:PutObject
    and s3:GetObject ("Conditional writes"), and that a tag needs s3:PutObjectTagging
    ("PutObject").  Not documented, and not tried against AWS: that rights are judged
    before the condition, the one of the tag among them.
    """
    now = datetime.now(UTC)
    status, code, said = await _put(http, await uploads.sign_probe(PROBE, _NEW, now))
    place = f"{config.bucket}/{config.upload_prefix}*"
    if code == "AccessDenied":
        untagged = await uploads.sign_probe(PROBE, _NEW, now, is_tagged=False)
        _, without, _ = await _put(http, untagged)
        if without == code:
            remedy = (
                f"storage above comes first; then allow s3:PutObject on {place}, beside"
                " s3:PutObjectTagging"
            )
        else:
            remedy = f"allow s3:PutObjectTagging on {place}"
        return wrong(check, f"an upload is forbidden: {said}", remedy)
    if code in {"NoSuchKey", "PreconditionFailed"}:
        return fine(check, f"{place} can be uploaded to")
    if status == 200:  # noqa: PLR2004 - OK
        said = f"{config.upload_prefix}{PROBE} was stored, though it replaced nothing"
        return wrong(
            check, said, "use a storage that knows If-Match; delete the object"
        )
    return wrong(check, f"an upload is answered {status}: {said}", _ACCESS)


async def _put(http: aiohttp.ClientSession, upload: Upload) -> tuple[int, str, str]:
    """Gives the status, S3's code, and what it says."""
    headers = upload.headers or {}
    place = URL(upload.url, encoded=True)
    async with http.put(
        place, data=b"x" * _NEW.size, headers=headers, allow_redirects=False
    ) as answer:
        text = (await answer.read()).decode(errors="replace")
    code = _CODE.search(text)
    message = _MESSAGE.search(text)
    said = html.unescape(message[1]) if message else answer.reason or ""
    return answer.status, code[1] if code else "", said


async def _preflight(
    check: str, http: aiohttp.ClientSession, place: URL, origin: str
) -> Finding:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type,if-none-match,x-amz-tagging",
    }
    async with http.options(place, headers=asked) as answer:
        allowed = answer.headers.get("Access-Control-Allow-Origin", "")
    if answer.ok and allowed in {origin, "*"}:
        return fine(check, f"a page of {origin} may upload")
    remedy = (
        "let the bucket's CORS rules allow that origin, PUT and POST, and the headers"
        " content-type, if-none-match and x-amz-tagging"
    )
    return wrong(check, f"a page of {origin} may not upload ({answer.status})", remedy)


class _NoGatewayError(Exception):
    """Something else answers."""


async def _gateway(config: Config, url: URL) -> AsyncIterator[Finding]:
    """Ask the gateway where clients ask it."""
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as http:
            async for finding in _answers(http, url):
                yield finding
            async for finding in _delivery(http, url, config):
                yield finding
    except _NoGatewayError as error:
        remedy = (
            "look at the proxy in front of it, and at REELREADY_PUBLIC_URL or --url"
        )
        yield wrong("gateway", str(error), remedy)
    except TimeoutError:
        said = f"{url} does not answer in {LIMIT_S:.0f} s"
        yield wrong("gateway", said, "is the gateway up, and is the way to it open?")
    except (aiohttp.ClientError, OSError) as error:
        yield wrong("gateway", f"{url}: {cause(error)}", _reach(url, error))


def _reach(url: URL, error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        return f"the name {url.host} has no address: add it to the DNS"
    if isinstance(error, aiohttp.ClientSSLError):
        return "the certificate is not accepted: is it of this name, and complete?"
    return "is the gateway up, and is REELREADY_PUBLIC_URL or --url its address?"


async def _answers(http: aiohttp.ClientSession, url: URL) -> AsyncIterator[Finding]:
    async with http.get(url / "readyz") as answer:
        said = await answer.read()
        date = answer.headers.get("Date", "")
    try:
        checks = dict[str, Any](json.loads(said)["checks"])
    except (ValueError, KeyError, TypeError):
        msg = f"{url / 'readyz'} answers {answer.status}, as no gateway does"
        raise _NoGatewayError(msg) from None
    if missing := [name for name, is_so in checks.items() if not is_so]:
        remedy = "what is said of the database, doorbell and relay above; else its log"
        yield wrong("gateway", f"is not ready: {', '.join(missing)}", remedy)
    else:
        yield fine("gateway", f"{url} is ready")
    with suppress(ValueError, TypeError):
        ahead = datetime.now(UTC) - parsedate_to_datetime(date)
        yield skewed("clock", ahead.total_seconds(), "the gateway or its proxy")


async def _delivery(
    http: aiohttp.ClientSession, url: URL, config: Config
) -> AsyncIterator[Finding]:
    """Follow a file through whatever stands between, from its first event to the end."""
    key = {"Authorization": f"Bearer {config.api_keys[0]}"}
    new = {"name": PROBE, "content_type": "video/mp4", "size": 1}
    async with http.post(
        url / "v1/files", json=new, headers=key, allow_redirects=False
    ) as answer:
        if answer.status != 201:  # noqa: PLR2004 - Created
            yield _not_registered(answer)
            return
        file_id = (await answer.json())["file"]["id"]
    place = url / "v1/files" / file_id
    status = 0
    try:
        asked_s = time.monotonic()
        head = key | {"Accept": "text/event-stream"}
        async with http.get(place / "events", headers=head) as stream:
            if stream.status != 200:  # noqa: PLR2004 - OK
                said = f"a stream is answered {stream.status}"
                yield wrong("delivery", said, "look at the proxy in front of it")
                return
            events = _events(stream)
            await anext(events)
            yield _prompt("first event", time.monotonic() - asked_s)
            if encoding := stream.headers.get("Content-Encoding"):
                said = f"a stream is compressed ({encoding})"
                yield doubtful("delivery", said, "compress no text/event-stream")
            reported_s = time.monotonic()
            status = await _end(http, place, config)
            if status == 200:  # noqa: PLR2004 - OK
                await anext(events)
                yield _prompt("event", time.monotonic() - reported_s)
    except TimeoutError:
        yield wrong("delivery", "a stream does not come through", _HOLDS_BACK)
    except (aiohttp.ClientError, StopAsyncIteration) as error:
        said = f"a stream is cut off: {cause(error)}"
        yield wrong("delivery", said, "look at the timeouts of what stands between")
    finally:
        # Nobody will upload it.
        status = status or await _end(http, place, config)
    if status != 200:  # noqa: PLR2004 - OK
        remedy = (
            "do this shell and the gateway have the same REELREADY_INGEST_SECRETS, and"
            " are their clocks right?"
        )
        yield wrong("report", f"a report is answered {status}", remedy)


def _not_registered(answer: aiohttp.ClientResponse) -> Finding:
    said = f"registering a file is answered {answer.status}"
    if answer.status == 401:  # noqa: PLR2004 - Unauthorized
        remedy = "do this shell and the gateway have the same REELREADY_API_KEYS?"
    elif place := answer.headers.get("Location"):
        remedy = f"--url, REELREADY_PUBLIC_URL: it leads to {place}"
    else:
        remedy = "look at the gateway's log, and at the proxy in front of it"
    return wrong("delivery", said, remedy)


def _prompt(what: str, took_s: float) -> Finding:
    said = f"{what} after {took_s * 1000:.0f} ms"
    if took_s <= PROMPT_S:
        return fine("delivery", said)
    return doubtful("delivery", said, _HOLDS_BACK)


async def _events(stream: aiohttp.ClientResponse) -> AsyncIterator[str]:
    parser = SseParser()
    async for chunk in stream.content.iter_any():
        for frame in parser.feed(chunk):
            if frame.type == "message":
                yield frame.data


async def _end(http: aiohttp.ClientSession, place: URL, config: Config) -> int:
    """Report that nothing more will come of it, as a Lambda would."""
    now = datetime.now(UTC)
    body = json.dumps({"type": "canceled", "occurred_at": now.isoformat()}).encode()
    name, at = f"doctor-{os.urandom(8).hex()}", str(int(now.timestamp()))
    signed = hmac.digest(
        config.ingest_secrets[0], f"{name}.{at}.".encode() + body, "sha256"
    )
    headers = {
        "webhook-id": name,
        "webhook-timestamp": at,
        "webhook-signature": "v1," + base64.b64encode(signed).decode(),
    }
    async with http.post(place / "reports", data=body, headers=headers) as answer:
        return answer.status
