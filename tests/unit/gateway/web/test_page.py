import asyncio
import socket
import tracemalloc

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.web.page import Page
from tests.unit.gateway.web.in_memory import config

HLS_JS = b"0123456789abcdef" * 512 * 1024
MIB = 1024 * 1024


@pytest.fixture
async def client(tmp_path):
    hls_js = tmp_path / "hls.light.min.js"
    hls_js.write_bytes(HLS_JS)
    page = Page(config(hls_js=hls_js), "https://uploads.example.com")
    app = web.Application()
    app.router.add_get("/static/{name}", page.static)
    async with TestClient(TestServer(app)) as one:
        yield one


async def test_a_file_of_the_page_comes_whole_and_once(client):
    async with client.get("/static/hls.js") as first:
        assert HLS_JS == await first.read()
        assert str(len(HLS_JS)) == first.headers["Content-Length"]
        assert "text/javascript; charset=utf-8" == first.headers["Content-Type"]
    known = {"If-None-Match": first.headers["ETag"]}
    async with client.get("/static/hls.js", headers=known) as second:
        assert 304 == second.status
    async with client.head("/static/hls.js") as bare:
        assert b"" == await bare.read()
        assert str(len(HLS_JS)) == bare.headers["Content-Length"]


async def test_whoever_does_not_take_a_file_of_the_page_costs_little(client):
    unread = [socket.socket() for _ in range(20)]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for one in unread:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", client.port))
        one.sendall(b"GET /static/hls.js HTTP/1.1\r\nHost: h\r\n\r\n")
    await asyncio.sleep(0.5)
    heads = [one.recv(12) for one in unread]
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    for one in unread:
        one.close()

    assert {b"HTTP/1.1 200"} == set(heads)
    assert 20 * MIB / 4 > held
