"""
Behind Debian's own nginx: no request is smuggled past it (H1), and nothing of
ours is kept by its cache (H12).
"""

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.soak.smuggling import ENDS, OUTER, corpus
from tests.integration.wire import Wire, request, served

UPLOADED = b'{"type": "uploaded", "occurred_at": "2026-01-02T03:04:05Z"}'
SSE = {"Accept": "text/event-stream"}

CONFIG = """
user root;
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
events { worker_connections 512; }
http {
    log_format upstream '$upstream_status';
    access_log access.log upstream;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    proxy_cache_path cache keys_zone=all:1m;
    upstream gateway { server 127.0.0.1:%(gateway)d; keepalive 1; }
    server {
        listen 127.0.0.1:%(port)d;
        proxy_ignore_client_abort on;
        location ~ /reports$ { return 403; }
        location / {
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering %(buffering)s;
            %(rest)s
        }
    }
}
"""

CACHE = """
            proxy_cache all;
            proxy_cache_valid any 10m;
            add_header X-Cache $upstream_cache_status always;
"""


@dataclass
class Nginx:
    """An nginx in front of a gateway."""

    port: int
    folder: Path

    def wire(self) -> Wire:
        """Connect."""
        return Wire(self.port)

    def forwarded(self) -> int:
        """Count the requests that it believes to have made to the gateway."""
        text = (self.folder / "access.log").read_text()
        return len(re.findall(r"\d{3}", text))

    def cached(self) -> list[Path]:
        """List what its cache keeps."""
        return [one for one in (self.folder / "cache").rglob("*") if one.is_file()]


@contextlib.contextmanager
def nginx_before(gateway: int, *, buffering: str = "on", rest: str = ""):
    """Run one for the length of a block."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "nginx is not installed: see .ci/install-browser"
    with (
        tempfile.TemporaryDirectory(prefix="rr-nginx-") as name,
        socket.create_server(("127.0.0.1", 0)) as free,
    ):
        folder, port = Path(name), free.getsockname()[1]
        free.close()
        names = {"gateway": gateway, "port": port, "buffering": buffering}
        (folder / "nginx.conf").write_text(CONFIG % (names | {"rest": rest}))
        command = [program, "-p", name, "-c", "nginx.conf", "-e", "stderr"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                _wait(process, port)
                yield Nginx(port, folder)
            finally:
                process.terminate()


def _wait(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
        else:
            return


@pytest.fixture
def place(gateway_with) -> Iterator:
    with served(gateway_with, asyncio.new_event_loop) as one:
        yield one


def counted(place) -> int:
    """Count what the gateway has answered, but for looks at how it is."""
    pattern = r'http_requests_total{route="(.*)",status="(.*)"} (.*)\n'
    found = re.findall(pattern, place.metrics())
    asked = [one for one in found if one[0] not in {"/metrics", "/readyz"}]
    assert not [one for one in asked if one[1] >= "500"]
    return sum(int(float(count)) for _, _, count in asked)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("buffering", ["on", "off"])
def test_no_request_is_smuggled_past_it(place, sign, buffering):
    """
    nginx refuses the path that is hidden behind each request, so a report that
    was stored would be one that nginx did not see.  Each canary must be answered
    as itself, and both must have counted the same requests.
    """
    victim, canary = place.new_file(), place.new_file()
    key = "k" * 40
    hidden = request("POST", f"/v1/files/{victim}/reports", sign(UPLOADED), UPLOADED)
    asked = request("GET", f"/v1/files/{canary}")
    before = counted(place)
    with nginx_before(place.port, buffering=buffering) as nginx:
        for what, raw in corpus(victim, key, hidden):
            with nginx.wire() as wire:
                wire.sock.settimeout(0.05 if "size" in what or "length" in what else 5)
                wire.send(raw)
                with contextlib.suppress(OSError):
                    wire.half_close()
                with contextlib.suppress(TimeoutError):
                    wire.rest_or_reset()
            with nginx.wire() as wire:
                wire.send(asked)
                answer = wire.answer()

                assert (200, canary) == (answer.status, answer.json()["id"]), what
        with nginx.wire() as wire:
            wire.send(hidden)
            assert 403 == wire.answer().status
        made = nginx.forwarded()
        after = counted(place)

    assert 1 == place.events(victim)
    assert made == after - before
    assert made > len(OUTER) * len(ENDS)


@pytest.mark.parametrize("path", ["/events", "/events?wait=0", "", "?wait=0"])
def test_no_answer_of_ours_is_kept_by_a_cache(place, path):
    file_id = place.new_file()
    place.run(place.gateway.complete(file_id))
    headers = SSE if path == "/events" else {}
    asked = request(
        "GET", f"/v1/files/{file_id}{path}", headers | {"Connection": "close"}
    )
    board = request("GET", f"/v1/events?file={file_id}", SSE | {"Connection": "close"})
    with nginx_before(place.port, rest=CACHE) as nginx:
        for raw in (asked, board):
            for _ in range(3):
                with nginx.wire() as wire:
                    wire.send(raw)
                    shown = wire.rest()
                assert shown.startswith(b"HTTP/1.1 200 ")
                assert file_id.encode() in shown
                assert b"X-Cache: MISS\r\n" in shown

        assert [] == nginx.cached()
        assert 6 == nginx.forwarded()


def test_that_cache_would_keep_what_it_may(place):
    """Told to ignore what we say, it keeps even a stream: the test above can fail."""
    file_id = place.new_file()
    place.run(place.gateway.complete(file_id))
    asked = request("GET", f"/v1/files/{file_id}/events", SSE | {"Connection": "close"})
    ignored = "Cache-Control X-Accel-Buffering"
    rest = f"{CACHE}proxy_ignore_headers {ignored};"
    with nginx_before(place.port, rest=rest) as nginx:
        for expected in (b"MISS", b"HIT"):
            with nginx.wire() as wire:
                wire.send(asked)

                assert b"X-Cache: " + expected in wire.rest()
