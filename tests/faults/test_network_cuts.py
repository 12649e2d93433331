"""
N8: wherever a connection is cut, no event is wrong, doubled or lost.

A whole stream is taken from a real gateway, and what the gateway goes on with
from each cursor; then it is cut at every byte.
"""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from bench.soak.browser import chromium
from gateway.client.following import Following
from tests.integration.conftest import config_for, running_gateway

STATIC = Path(__file__).parents[2] / "gateway" / "static"
LAST = 4
TOO_NEW = 99
RETRY = re.compile(rb"^retry: \d+$", re.MULTILINE)

FOLLOW_ALL = """async (cuts) => {
  const follow = (cut) => new Promise((resolve) => {
    const seqs = [];
    const source = new EventSource(`/events?cut=${cut}`);
    source.onmessage = ({ data }) => seqs.push(JSON.parse(data).seq);
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) resolve(seqs);
    };
  });
  const stories = [];
  const lane = async () => {
    for (let cut; (cut = cuts.shift()) !== undefined; ) {
      stories.push([cut, await follow(cut)]);
    }
  };
  await Promise.all(Array.from({ length: 5 }, lane));
  return stories;
}"""
WATCH_ALL = """async (cuts) => {
  const { watch, tuning } = await import("/static/reelready.js");
  tuning.backoffMs = 20;
  const stories = [];
  for (const cut of cuts) {
    const seqs = [];
    const onState = ({ seq }) => seqs.push(seq);
    const file = await watch(`/events?cut=${cut}`, { after: 0, onState });
    stories.push([cut, seqs, file.status]);
  }
  return stories;
}"""


@dataclass
class Story:
    """
    Everything a gateway has to say of one file that has ended.

    Attributes:
        streams: What follows, by the cursor that is asked with.
        polls: The same, as long-polls are answered.
    """

    streams: dict[str, bytes]
    polls: dict[str, bytes]


@pytest.fixture
async def story(shared_database_url, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "ap-northeast-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    async with running_gateway(config_for(shared_database_url)) as gateway:
        file_id = await gateway.new_file(name="휴가.mov")
        await gateway.report(file_id, "uploaded")
        await gateway.report(file_id, "converting", job_id="j-1")
        await gateway.complete(file_id)

        async def ask(accept, after):
            async with gateway.http.get(
                f"{gateway.url}/v1/files/{file_id}/events",
                headers={"Accept": accept},
                params={} if after == "" else {"after": after},
            ) as answer:
                return await answer.read()

        cursors = ["", *map(str, (*range(LAST + 1), TOO_NEW))]
        return Story(
            streams={one: await ask("text/event-stream", one) for one in cursors},
            polls={one: await ask("*/*", one) for one in cursors},
        )


def seqs_when_cut(story, cut, *, after):
    """Read a stream up to a byte, then go on as our client does."""
    following = Following(after)
    states = following.feed(story.streams[str(after)][:cut])
    if not following.final:
        following.begin()
        cursor = "" if following.cursor is None else str(following.cursor)
        states += following.feed(story.streams[cursor])
    return [state.seq for state in states]


@pytest.mark.parametrize(
    ("after", "whole"), [(0, [1, 2, 3, LAST]), (2, [3, LAST]), (TOO_NEW, [LAST])]
)
def test_our_client_goes_on_from_a_cut_at_any_byte(story, after, whole):
    length = len(story.streams[str(after)])
    wrong = {
        cut: seqs
        for cut in range(length + 1)
        if (seqs := seqs_when_cut(story, cut, after=after)) != whole
    }

    assert {} == wrong
    assert length > 500


class Cutter:
    """
    An origin whose streams end at the byte they name, the first time.

    What comes after that is the gateway's own answer to the cursor it is given.
    """

    def __init__(self, story):
        self._story = story
        self._cut = set()

    async def __call__(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        target = head.split(" ")[1]
        writer.write(self._answer(target, head))
        writer.close()

    def _answer(self, target, head):
        path = urlsplit(target).path
        query = {name: one[0] for name, one in parse_qs(urlsplit(target).query).items()}
        found = re.search(r"(?i)last-event-id: (\d+)", head)
        after = found[1] if found else query.get("after", "0")
        if path.startswith("/static/"):
            script = (STATIC / path.rpartition("/")[2]).read_bytes()
            return answer("text/javascript", script)
        if path != "/events":
            return answer("text/html", b"<!doctype html>")
        if "text/event-stream" not in head:
            return answer("application/json", self._story.polls[after])
        stream = RETRY.sub(b"retry: 0001", self._story.streams[after])
        if not stream:
            return b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
        if query["cut"] not in self._cut:
            self._cut.add(query["cut"])
            stream = stream[: int(query["cut"])]
        return answer("text/event-stream", stream)


def answer(kind, body):
    """Write an answer that ends with its connection, as a stream does."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nCache-Control: no-store\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


@pytest.fixture
async def page(story):
    """A page of an origin that cuts."""
    server = await asyncio.start_server(Cutter(story), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, chromium() as browser:
        page = await browser.new_page()
        page.set_default_timeout(0)
        await page.goto(f"http://127.0.0.1:{port}/")
        yield page


@pytest.mark.timeout(240)
async def test_a_browser_goes_on_from_a_cut_at_any_byte(page, story):
    """
    Each stream carries the whole story: no seq may be missing, or come twice.
    """
    length = len(RETRY.sub(b"retry: 0001", story.streams["0"]))

    stories = await page.evaluate(FOLLOW_ALL, list(range(length + 1)))

    assert length + 1 == len(stories)
    assert {} == {cut: seqs for cut, seqs in stories if seqs != [1, 2, 3, LAST]}


@pytest.mark.timeout(120)
async def test_our_client_in_a_browser_goes_on_from_a_cut(page, story):
    length = len(story.streams["0"])

    stories = await page.evaluate(WATCH_ALL, list(range(0, length + 1, 37)))

    assert length // 37 + 1 == len(stories)
    assert [] == [one for one in stories if one[1:] != [[1, 2, 3, LAST], "playable"]]
