"""
What comes in may not open files, blow up memory, or write into logs and
metrics (H3, H4, H10).
"""

import asyncio
import contextlib
import gzip
import json
import logging
import re
import sys
import threading
import zlib
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from bench.procfs import rss_kib
from bench.soak.stage import Stage
from gateway.telemetry import Metrics, start_logging
from gateway.web.cold import ColdConnection
from gateway.web.connection import HOT_ROUTES
from gateway.web.headers import CommonHeaders
from gateway.web.routes import routes
from tests.integration.wire import request, served

ROOT = Path(__file__).parents[2]
CODINGS = ["gzip", "deflate", "br", "zstd", "x-gzip", "GZIP", "gzip, identity", "a"]


@pytest.fixture
def place(gateway_with):
    with served(gateway_with, asyncio.new_event_loop) as one:
        yield one


BOMB_BYTES = 200 * 1024 * 1024
BOMBS_AT_ONCE = 50


def bomb() -> bytes:
    """Zeros without end, as small as gzip makes them."""
    squeeze = zlib.compressobj(9, wbits=31)
    block = bytes(1024 * 1024)
    blocks = b"".join(squeeze.compress(block) for _ in range(BOMB_BYTES // len(block)))
    return blocks + squeeze.flush()


@pytest.mark.timeout(120)
async def test_fifty_zip_bombs_at_once_are_refused_and_cost_little():
    """
    H3: nobody unpacks them.  Each is sent whole, at the doors that take bodies.
    """
    packed = bomb()
    async with Stage() as stage:
        await stage.start_gateway()
        await stage.ready()
        before = rss_kib(stage.pids())
        highest = before

        async def send(path: str) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
            headers = {
                "Authorization": f"Bearer {stage.known.api_key}",
                "Content-Encoding": "gzip",
            }
            with contextlib.suppress(ConnectionError):
                writer.write(request("POST", path, headers, packed))
                await writer.drain()
            head = await reader.readuntil(b"\r\n")
            writer.close()
            return head

        async def watch() -> None:
            nonlocal highest
            while True:
                highest = max(highest, rss_kib(stage.pids()))
                await asyncio.sleep(0.01)

        watching = asyncio.create_task(watch())
        paths = ["/v1/files", "/v1/files/f-1/reports", "/v1/files/f-1/manifest"]
        heads = await asyncio.gather(
            *(send(paths[n % len(paths)]) for n in range(BOMBS_AT_ONCE))
        )
        watching.cancel()

    assert len(packed) < 256 * 1024
    assert {b"HTTP/1.1 422 Unprocessable Entity\r\n"} == set(heads)
    assert highest - before <= 64 * 1024


async def test_a_cookie_of_backslashes_costs_nothing():
    """A parser that is quadratic in them would be at it for a minute and more."""
    fields = {"Authorization": "", "Cookie": 'reelready="' + "\\" * 15_000 + '"'}
    async with Stage() as stage:
        await stage.start_gateway()
        await stage.ready()

        async def send() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
            writer.write(request("GET", "/v1/files/f-1", fields))
            head = await reader.readuntil(b"\r\n")
            writer.close()
            return head

        heads = await asyncio.gather(*(send() for _ in range(100)))

    assert {b"HTTP/1.1 401 Unauthorized\r\n"} == set(heads)


@pytest.mark.parametrize("coding", CODINGS)
def test_no_coding_of_a_body_is_taken(place, sign, coding, caplog):
    body = b'{"name": "a.mp4", "content_type": "video/mp4", "size": 1}'
    for path, raw in (
        ("/v1/files", body),
        ("/v1/files", gzip.compress(body)),
        ("/v1/files/f-1/reports", body),
    ):
        headers = {"Content-Encoding": coding, "Connection": "close"}
        if path != "/v1/files":
            headers |= sign(raw)
        with place.wire() as wire:
            wire.send(request("POST", path, headers, raw))

            assert 422 == wire.answer().status
    assert [] == [one for one in caplog.records if one.levelno >= logging.WARNING]


UNREADABLE = [
    b"GET http://secret[/ HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET http://h:secret/healthz HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET http://h:99999999/secret HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /v1/files HTTP/1.1\r\nHost:\r\nTransfer-Encoding: chunked\r\n\r\n0;secret\n\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n",
]


@pytest.mark.parametrize("raw", UNREADABLE)
def test_what_aiohttp_cannot_read_is_refused_in_our_words(place, raw):
    """
    H11: neither its name and version nor the bytes themselves; and it is counted.
    """
    with place.wire() as wire:
        wire.send(raw)
        answer = wire.answer()
        rest = wire.rest_or_reset()

    assert 400 == answer.status
    assert "application/problem+json" == answer.headers["content-type"]
    assert "reelready" == answer.headers["server"]
    assert b"secret" not in answer.body + rest
    assert 'route="unmatched",status="400"} 1.0' in place.metrics()


class Opened:
    """Paths of our code that were opened; once added, a hook cannot be removed."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.listens = threading.Event()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in {"open", "os.scandir", "os.listdir"} and self.listens.is_set():
            self.paths.append(str(arguments[0]))


TRAVERSALS = [
    "/static/../config.py",
    "/static/..%2fconfig.py",
    "/static/%2e%2e/config.py",
    "/static/%2e%2e%2fconfig.py",
    "/static/..%5cconfig.py",
    "/static/....//config.py",
    "/static//etc/passwd",
    "/static/%2fetc%2fpasswd",
    "/static/index.html%00.js",
    "/static/index.html/",
    "/static/",
    "/static",
    "/static/.",
    "/static/%c0%ae%c0%ae/config.py",
    "/static/page.js/../../config.py",
    "//static/page.js",
    "/../gateway/static/page.js",
    "/openapi.yaml/../config.py",
    "/page.json%00",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/etc/passwd",
    "/.git/config",
    "/static/%70age.js",
    "/static/page.js?x=/etc/passwd",
    "/",
    "/openapi.yaml",
    "/static/page.css",
]


def test_no_url_opens_a_file(place):
    """
    H4: what the page needs was read at the start.
    """
    opened = Opened()
    with place.wire() as wire:
        wire.send(request("GET", "/static/page.js"))
        assert 200 == wire.answer().status
    opened.listens.set()
    seen = {}
    for path in TRAVERSALS:
        with place.wire() as wire:
            wire.send(request("GET", path))
            answer = wire.answer()
        seen[path] = answer.status
        assert b"root:" not in answer.body
        assert b"class Config" not in answer.body
    opened.listens.clear()

    assert [] == opened.paths
    ours = {path for path, status in seen.items() if status == 200}
    assert ours == {
        "/static/%70age.js",
        "/static/page.js?x=/etc/passwd",
        "/",
        "/openapi.yaml",
        "/static/page.css",
    }
    assert {200, 404} == set(seen.values())


HOSTILE_TEXTS = [
    "a\nb",
    "a\r\n2026-01-02 CRITICAL forged",
    "\x1b[2J\x1b[31mred",
    "\x1b]0;title\x07",
    "\u202egpj.exe",
    "\u2066rtl\u2069",
    "a\u2028b\u2029c",
    "\x85next",
    "\x00nul",
    "\x9b31m",
    '{"level": "ERROR"}',
    "%s %d %(name)s",
    "한글 🎬",
]


def test_whatever_is_logged_is_one_line_of_plain_json(place, capfd):
    """
    H10: nothing a client sends makes a second line, or moves a terminal's cursor.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    start_logging(access=True)
    try:
        for text in HOSTILE_TEXTS:
            logging.getLogger("reelready.test").warning("of a client: %s", text)
            raw = text.encode("utf-8", "surrogatepass")
            quoted = "".join(f"%{octet:02x}" for octet in raw)
            for path in (
                f"/{quoted}",
                f"/v1/files/{quoted}",
                f"/static/{quoted}?{quoted}",
            ):
                with place.wire() as wire:
                    wire.send(
                        request(
                            "GET",
                            path,
                            {"User-Agent": quoted, "Referer": quoted, "Origin": quoted},
                        )
                    )
                    wire.answer()
            with place.wire() as wire:
                wire.send(b"GET /" + raw + b" HTTP/1.1\r\nHost: h\r\n\r\n")
                wire.half_close()
                wire.rest_or_reset()
    finally:
        for written in root.handlers:
            written.flush()
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("aiohttp.server").disabled = False
    said = capfd.readouterr().err

    lines = said.removesuffix("\n").split("\n")
    assert len(lines) >= len(HOSTILE_TEXTS) * 4
    assert {"level", "logger", "message", "time"} <= set.intersection(
        *(set(json.loads(line)) for line in lines)
    )
    assert all(0x20 <= ord(letter) < 0x7F for line in lines for letter in line)
    shown = [json.loads(line)["message"] for line in lines]
    for text in HOSTILE_TEXTS:
        assert f"of a client: {text}" in shown


MAX_SERIES = 300


def series(place) -> list[str]:
    text = place.metrics()
    return [line for line in text.splitlines() if line and line[0] != "#"]


def test_no_load_makes_more_than_300_series(place, sign):
    """
    H10: labels come from our own lists, never from a request.
    """
    file_id = place.new_file()
    methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"]
    paths = [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.yaml",
        "/page.json",
        "/static/page.js",
        "/static/none",
        "/v1/files",
        f"/v1/files/{file_id}",
        "/v1/files/none",
        f"/v1/files/{file_id}/history",
        f"/v1/files/{file_id}/events?wait=0",
        f"/v1/files/{file_id}/events?wait=x",
        f"/v1/files/{file_id}/reports",
        f"/v1/files/{file_id}/manifest",
        f"/v1/events?file={file_id}",
        *(f"/nothing/{n}" for n in range(50)),
        *(f"/v1/files/x{n}?wait=0" for n in range(50)),
    ]
    for path in paths:
        for method in methods:
            for headers in (
                {},
                {"Authorization": ""},
                {"If-None-Match": '"1"'},
                {"Content-Encoding": "gzip"},
            ):
                with place.wire() as wire:
                    wire.send(
                        request(method, path, headers | {"Connection": "close"}, b"{}")
                    )
                    wire.head()
    found = series(place)

    assert 80 < len(found) <= MAX_SERIES
    assert not [line for line in found if file_id in line or "nothing/" in line]


def test_all_routes_and_answers_together_stay_under_the_bound(place):
    """Every route with every status there is, which no load comes near."""
    table = routes(files=_Any(), health=_Any(), page=_Any())
    known = {one.path for one in table} | {path for _, path in HOT_ROUTES.values()}
    statuses = [200, 201, 204, 304, 400, 401, 404, 405, 413, 422, 500, 503]
    others = [one for one in series(place) if "http_requests_total" not in one]

    assert len(others) + (len(known) + 1) * len(statuses) <= MAX_SERIES


class _Any:
    def __getattr__(self, _: str) -> object:
        return lambda *_: None


def test_who_is_refused_holds_no_connection_for_a_body_that_never_comes(place):
    """
    Else a few hundred of them would take every descriptor from health and ingest.
    """
    with place.wire() as wire:
        wire.sock.settimeout(5)
        wire.send(b"POST /v1/files HTTP/1.1\r\nHost: g\r\nContent-Length: 999\r\n\r\n")

        assert b"HTTP/1.1 401 " == wire.rest()[:13]


def test_labels_are_never_made_from_a_request():
    """Whatever is counted by a label is written in the code, or a table of it."""
    labelled = [
        (path.name, found)
        for path in sorted((ROOT / "gateway").rglob("*.py"))
        for found in re.findall(r"\.labels\(([^)]*)\)", path.read_text("utf-8"))
    ]
    known = {'"poll"', '"sse"', "reason", '"behind"', '"refused"', "route, status"}
    odd = [one for one in labelled if one[1] not in known]

    assert 5 < len(labelled)
    assert set(odd) <= {
        ("cold.py", '"unmatched", status'),
        ("ingest.py", "outcome"),
        ("middleware.py", "route, response.status"),
    }


async def test_what_nobody_foresaw_is_a_problem_without_a_traceback(caplog):
    """H11: also where asyncio is debugged, and where no middleware is around it."""

    async def fail(request: web.BaseRequest) -> web.Response:
        raise RuntimeError("a secret of ours")

    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    metrics = Metrics()
    common = CommonHeaders(())
    handler = partial(
        ColdConnection,
        web.Server(fail),
        common,
        metrics,
        lambda peer, _: peer,
        lambda: None,
    )
    server = await loop.create_server(handler, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("GET", "/", {"Accept": "text/html"}))
        answer = await reader.read()
        writer.close()

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"application/problem+json" in answer
    assert b"Traceback" not in answer
    assert b"secret" not in answer
    assert "a secret of ours" in caplog.text
    assert 1 == metrics.requests.labels("unmatched", 500).value
