"""The Python of docs/migrating.md does what the page says."""

import asyncio
import base64
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.error import HTTPError

import pytest
import redis.asyncio as redis_py

from bench.children import Children
from bench.peers.redis import redis as redis_server
from tests.integration.conftest import API_KEY, BUCKET, INGEST_KEY, config_for
from workers.relay import relaying

pytestmark = pytest.mark.timeout(60)

TEXT = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text("utf-8")
AWS = Path(__file__).parents[1] / "vectors/aws"
_BLOCK = re.compile(
    r"^ *<!-- migrating: ([\w-]+) -->\n *```python\n(.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
BLOCKS = dict(_BLOCK.findall(TEXT))


def block(name: str, **given: Any) -> dict[str, Any]:
    """What a block of the page defines, with what it is given."""
    exec(dedent(BLOCKS[name]), given)
    return given


@pytest.fixture
def page(gateway, monkeypatch):
    """Run a block against a gateway."""
    monkeypatch.setenv("GATEWAY_URL", gateway.url)
    secret = "whsec_" + base64.b64encode(INGEST_KEY).decode()
    monkeypatch.setenv("INGEST_SECRET", secret)
    return lambda name: block(name, URL=gateway.url, API_KEY=API_KEY)


@pytest.fixture
async def server():
    """A Redis of our own."""
    async with Children() as children, redis_server(children) as one:
        yield one


def ending(file_id):
    return {
        "job_id": "j-1",
        "occurred_at": "2026-01-02T03:05:05Z",
        "master_playlist": f"s3://{BUCKET}/video/hls/{file_id}/master.m3u8",
    }


def test_every_block_is_run_here():
    assert {
        "register",
        "post",
        "report",
        "endpoint",
        "subscriber",
        "long-poll",
        "client",
    } == BLOCKS.keys()


async def until_both_wait(gateway):
    async with asyncio.timeout(20):
        while True:
            async with gateway.http.get(f"{gateway.url}/metrics") as answer:
                said = await answer.text()
            if ["1.0", "1.0"] == re.findall(r"reelready_subscribers\{.*\} (\S+)", said):
                return
            await asyncio.sleep(0.05)


async def test_an_old_lambda_posts_and_every_new_way_hears_of_it(page, gateway):
    register = page("register")["register"]
    post = page("post")["post"]
    video = page("endpoint")["video"]
    long_poll = page("long-poll")
    long_poll["time"] = None  # a thread that would try again ends instead
    made = await asyncio.to_thread(register, "a.mp4", "video/mp4", 10)
    file_id = made["file"]["id"]
    assert None is await asyncio.to_thread(video, file_id, None)
    assert None is await asyncio.to_thread(video, "no-such", None)
    waiting = asyncio.gather(
        asyncio.to_thread(long_poll["wait_for_video"], file_id),
        page("client")["wait_for_video"](file_id),
    )
    await until_both_wait(gateway)

    answers = [
        await asyncio.to_thread(post, file_id, "manifest", ending(file_id))
        for _ in range(2)
    ]

    assert ["applied", "applied"] == answers
    url = f"https://play.example.com/video/hls/{file_id}/master.m3u8"
    assert [url, url] == await waiting
    assert {"url": url} == await asyncio.to_thread(video, file_id, None)


@contextmanager
def saying(status, page):
    """Address of somebody who answers everybody the same in the gateway's place."""

    class Same(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Same) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def away():
    """Address of a gateway that cannot store anything."""
    with saying(503, b"") as url:
        yield url


@pytest.mark.parametrize("file_id", ["no-such", "17", "Made_By-Us.2"])
async def test_a_file_that_went_the_old_way_only_is_passed_over(page, file_id):
    post = page("post")["post"]

    said = await asyncio.to_thread(post, file_id, "manifest", ending(file_id))

    assert None is said


async def test_a_slash_at_the_end_of_the_address_loses_nothing(
    page, gateway, monkeypatch
):
    post = page("post")["post"]
    monkeypatch.setenv("GATEWAY_URL", f"{gateway.url}/")
    file_id = await gateway.new_file()

    said = await asyncio.to_thread(post, file_id, "manifest", ending(file_id))

    assert "applied" == said


@pytest.mark.parametrize("path", ["/v1", "/reelready", "/reelready/"])
async def test_a_wrong_path_in_the_address_fails_the_invocation(
    page, gateway, monkeypatch, path
):
    """The gateway says 404 of it, in the same words as of a file it lacks."""
    post = page("post")["post"]
    monkeypatch.setenv("GATEWAY_URL", f"{gateway.url}{path}")
    file_id = await gateway.new_file()

    with pytest.raises(HTTPError, match="404"):
        await asyncio.to_thread(post, file_id, "manifest", ending(file_id))


@pytest.mark.parametrize(
    ("status", "said", "problem"),
    [
        (404, b"<html>nothing here</html>", HTTPError),
        (404, b"", HTTPError),
        (200, b"<html>be right back</html>", ValueError),
        (200, b'{"status": "ok"}', KeyError),
    ],
)
def test_somebody_in_the_gateways_place_fails_the_invocation(
    page, monkeypatch, status, said, problem
):
    """Else nobody knows that the report is nowhere."""
    post = page("post")["post"]
    with saying(status, said) as url:
        monkeypatch.setenv("GATEWAY_URL", url)

        with pytest.raises(problem):
            post("f-1", "manifest", ending("f-1"))


def job_event(name, file_id):
    """What EventBridge says of the job of a file."""
    said = (AWS / f"mediaconvert-{name}.json").read_text()
    of = json.loads(said)["detail"]["userMetadata"]["file_id"]
    return json.loads(said.replace(of, file_id).replace("example-media", BUCKET))


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (["01-progressing", "06-complete-hls"], "playable"),
        (["01-progressing", "10-error-bad-input"], "failed"),
        (["12-canceled"], "canceled"),
    ],
)
async def test_what_is_said_of_a_job_is_reported_when_the_gateway_is_back(
    page, gateway, away, monkeypatch, names, status
):
    """
    Only the function that hears of jobs posts, so what is repeated makes none.
    """
    report = block("report", post=page("post")["post"])["report"]
    file_id = await gateway.new_file()
    for name in names:
        event = job_event(name, file_id)
        monkeypatch.setenv("GATEWAY_URL", away)
        with pytest.raises(HTTPError, match="503"):
            await asyncio.to_thread(report, file_id, event)
        monkeypatch.setenv("GATEWAY_URL", gateway.url)
        answers = [await asyncio.to_thread(report, file_id, event) for _ in range(2)]
        assert ["applied", "applied"] == answers

    path = f"{gateway.url}/v1/files/{file_id}"
    async with gateway.http.get(path) as answer:
        assert status == (await answer.json())["status"]


async def test_an_old_subscriber_is_fed_by_a_relay_of_which_gateways_know_nothing(
    gateway, server, shared_database_url
):
    names = block("subscriber", REDIS_URL=server.url)
    assert "old" == names["playback_url"]({"url": "old"})
    settings = config_for(shared_database_url, redis_url=server.url)
    async with (
        relaying(settings),
        redis_py.Redis.from_url(server.url, decode_responses=True) as client,
        client.pubsub() as beats,
    ):
        await beats.subscribe("reelready")
        async for said in beats.listen():
            if said["type"] == "message":
                break
        file_id = await gateway.new_file()
        waiting = asyncio.ensure_future(names["wait_for_video"](file_id))
        while True:
            if (await client.pubsub_numsub(file_id))[0][1]:
                break
            await asyncio.sleep(0.02)
        await gateway.report(file_id, "uploaded")
        await gateway.complete(file_id)

        assert (await waiting).endswith(f"/{file_id}/master.m3u8")


async def test_who_subscribes_by_a_pattern_is_fed_too(
    gateway, server, shared_database_url
):
    settings = config_for(shared_database_url, redis_url=server.url)
    heard: dict[str, str] = {}
    async with (
        relaying(settings),
        redis_py.Redis.from_url(server.url, decode_responses=True) as client,
        client.pubsub(ignore_subscribe_messages=True) as everything,
        asyncio.timeout(20),
    ):
        await everything.psubscribe("*")

        async def until_heard(channel):
            while channel not in heard:
                said = await everything.get_message(timeout=None)
                if said is not None:
                    heard[said["channel"]] = said["data"]

        await until_heard("reelready")
        file_id = await gateway.new_file()
        await gateway.report(file_id, "uploaded")
        await until_heard(file_id)

    assert "uploaded" == json.loads(heard[file_id])["status"]
