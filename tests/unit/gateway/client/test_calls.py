import asyncio
import hashlib
import random
import re
import socket

import aiohttp
import msgspec
import pytest

from gateway.client import (
    Client,
    NotAGatewayError,
    NotPlayableError,
    RefusedError,
    calls,
    following,
)
from gateway.errors import InvalidError, UnavailableError
from gateway.protocol import sse
from tests.unit.gateway.small_gateway import (
    API_KEY,
    DROP,
    HELLO,
    failing,
    frame,
    playing,
    refusal,
    small_gateway,
    state,
)

FIRST = state()
STORY = [FIRST, *playing(FIRST)]
REST = [*map(frame, STORY[1:]), sse.bye("final")]


@pytest.fixture
async def gateway():
    async with small_gateway() as small:
        yield small


@pytest.fixture
async def client(gateway):
    async with Client(gateway.url, api_key=API_KEY) as client:
        yield client


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(following, "MAX_BACKOFF_S", 0.02)
    monkeypatch.setattr(following, "BUSY_S", 0.02)


async def _seqs(watch):
    async with asyncio.timeout(10):
        return [one.seq async for one in watch]


async def test_a_whole_story(gateway, client, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"0123456789")

    registered = await client.upload(path, owner="u-17", metadata={"a": 1})
    file = await client.ready(registered.file.id, timeout_s=10)

    assert "http://cdn.test/video/hls/f-1/master.m3u8" == file.playback.hls_url
    assert [
        {
            "name": "clip.mp4",
            "content_type": "video/mp4",
            "size": 10,
            "metadata": {"a": 1},
            "owner": "u-17",
        }
    ] == gateway.registrations
    assert {f"Bearer {API_KEY}"} == set(gateway.authorizations)


@pytest.mark.parametrize("page_events", [1, 2, 5, 100])
async def test_a_history_is_read_to_its_end_page_by_page(gateway, client, page_events):
    gateway.page_events = page_events
    gateway.add(*STORY)

    told = await client.history("f-1")

    assert {"file", "events"} == set(told)
    assert "playable" == told["file"]["status"]
    assert [1, 2, 3, 4, 5] == [event["seq"] for event in told["events"]]


async def test_the_upload_is_what_was_signed(gateway, client, tmp_path):
    content = random.Random(1).randbytes(3_000_001)
    path = tmp_path / "휴가 +%.mov"
    path.write_bytes(content)
    counted = []

    await client.upload(path, on_bytes=counted.append)

    [(raw_path, headers, size, digest)] = gateway.puts
    assert "/bucket/f-1.mp4?X-Sig=a%2Fb%20c%2B&tag=f-1" == raw_path
    assert "3000001" == headers["Content-Length"]
    assert "video/quicktime" == headers["Content-Type"]
    assert "*" == headers["If-None-Match"]
    assert not headers.keys() & {"Authorization", "Transfer-Encoding", "Cookie"}
    assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)
    assert sorted(counted) == counted
    assert (0, len(content)) == (counted[0], counted[-1])
    assert "휴가 +%.mov" == gateway.registrations[0]["name"]


async def test_a_watch_goes_on_where_a_drop_cut_it(gateway, client):
    gateway.scripts.extend(
        [
            [HELLO, frame(STORY[0]), frame(STORY[1]), DROP],
            [502],
            [HELLO, frame(STORY[1]), frame(STORY[2]), sse.bye("age")],
            [HELLO, sse.bye("refused", retry_ms=1)],
            [HELLO, *map(frame, STORY[3:]), sse.bye("final")],
        ]
    )

    assert [1, 2, 3, 4, 5] == await _seqs(client.watch("f-1"))
    assert [None, "2", "2", "3", "3"] == gateway.cursors


async def test_a_204_is_the_end(gateway, client):
    gateway.scripts.extend([[HELLO, *map(frame, STORY)], [204]])

    assert [1, 2, 3, 4, 5] == await _seqs(client.watch("f-1"))
    assert [None, "5"] == gateway.cursors


async def test_a_reset_brings_the_current_state_even_if_older(gateway, client):
    again = [HELLO, sse.reset("unknown_cursor"), frame(STORY[2]), sse.bye("age")]
    gateway.scripts.extend([again, [204]])

    assert [3] == await _seqs(client.watch("f-1", after=9))
    assert ["9", "3"] == gateway.cursors


async def test_a_mute_stream_is_left_after_two_and_a_half_heartbeats(
    gateway, client, monkeypatch
):
    quiet = calls.aiohttp.ClientTimeout(total=None, sock_read=0.05)
    monkeypatch.setattr(calls, "_STREAM_TIMEOUT", quiet)
    gateway.add(FIRST)
    heard = []

    def play_when_reconnecting(how):
        heard.append(how)
        if heard.count("connecting") == 2:
            gateway.add(*STORY[1:])

    seqs = await _seqs(client.watch("f-1", on_connection=play_when_reconnecting))

    assert [1, 2, 3, 4, 5] == seqs
    assert ["connecting", "live", "offline", "connecting", "live", "done"] == heard


async def test_who_is_refused_again_and_again_asks_now_and_then(gateway, client):
    gateway.scripts.extend([[HELLO + sse.bye("refused")]] * 3)
    gateway.add(*STORY[:3])
    heard = []

    def play_after_the_first(how):
        heard.append(how)
        if heard.count("busy") == 1:
            gateway.add(*STORY[3:])

    seqs = await _seqs(client.watch("f-1", after=1, on_connection=play_after_the_first))

    assert [2, 3, 4, 5] == seqs
    assert ["connecting", "busy", "connecting", "done"] == heard
    assert [{"wait": "0", "after": "1"}, {"wait": "0", "after": "3"}] == (
        gateway.questions
    )


@pytest.mark.parametrize("script", [[b""], [b"", DROP]])
async def test_a_path_that_holds_each_stream_back_is_asked_without_one(
    gateway, client, script
):
    gateway.scripts.extend([script] * 3)
    gateway.add(*STORY)
    heard = []

    assert [1, 2, 3, 4, 5] == await _seqs(
        client.watch("f-1", on_connection=heard.append)
    )
    assert ["connecting", "done"] == heard
    assert [{"wait": "0"}] == gateway.questions


async def test_a_mute_stream_is_asked_without_one(gateway, client, monkeypatch):
    quiet = calls.aiohttp.ClientTimeout(total=None, sock_read=0.05)
    monkeypatch.setattr(calls, "_STREAM_TIMEOUT", quiet)
    gateway.add(FIRST)
    heard = []

    def play_while_it_is_mute(how):
        heard.append(how)
        if heard == ["connecting", "live"]:
            gateway.states["f-1"] += STORY[1:]

    seqs = await _seqs(
        client.watch("f-1", after=1, on_connection=play_while_it_is_mute)
    )

    assert [2, 3, 4, 5] == seqs
    assert ["connecting", "live", "done"] == heard


@pytest.mark.parametrize(
    "error",
    [UnavailableError("no database", retry_after_s=0), RefusedError(404, "a proxy's")],
)
async def test_who_is_refused_and_not_even_told_is_offline(
    gateway, client, monkeypatch, error
):
    async def away(*_):
        raise error

    monkeypatch.setattr(client, "_ask", away)
    gateway.scripts.append([HELLO + sse.bye("refused")])
    gateway.add(*STORY)
    heard = []

    assert [1, 2, 3, 4, 5] == await _seqs(
        client.watch("f-1", on_connection=heard.append)
    )
    assert ["connecting", "offline", "connecting", "live", "done"] == heard


async def test_a_gateway_that_is_restarted_is_found_again(client, gateway, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    refused = asyncio.Event()

    def on_connection(how):
        if how == "offline":
            refused.set()

    async with Client(f"http://127.0.0.1:{port}/") as lonely:
        watching = asyncio.create_task(
            _seqs(lonely.watch("f-1", on_connection=on_connection))
        )
        await asyncio.wait_for(refused.wait(), 10)
        async with small_gateway(port) as late:
            late.add(*STORY)
            assert [1, 2, 3, 4, 5] == await watching


async def test_refused_for_good_ends_the_watch(gateway, client):
    gateway.scripts.append([404])

    with pytest.raises(RefusedError, match="404") as caught:
        await _seqs(client.watch("f-1"))

    assert 404 == caught.value.status
    assert 1 == len(gateway.cursors)


@pytest.mark.parametrize("foreign", [200, 307, 403, 404])
async def test_what_a_proxy_says_ends_no_watch_that_was_live(gateway, client, foreign):
    gateway.scripts.extend(
        [[HELLO, frame(STORY[0]), DROP], [foreign], [foreign], [HELLO, *REST]]
    )

    assert [1, 2, 3, 4, 5] == await _seqs(client.watch("f-1"))
    assert [None, "1", "1", "1"] == gateway.cursors


async def test_what_a_proxy_says_ends_no_watch_that_was_answered(gateway, client):
    gateway.scripts.extend([[b""], [404], [HELLO, *REST]])
    gateway.add(FIRST)

    assert [1, 2, 3, 4, 5] == await _seqs(client.watch("f-1"))


@pytest.mark.parametrize(
    ("status", "code"), [(401, "unauthorized"), (404, "not_found")]
)
async def test_what_a_gateway_refuses_ends_a_watch_that_was_live(
    gateway, client, status, code
):
    said = refusal(code, status, "not any more")
    gateway.scripts.extend([[HELLO, frame(STORY[0]), DROP], [said]])

    with pytest.raises(RefusedError, match="not any more"):
        await _seqs(client.watch("f-1"))


async def test_no_redirect_is_followed(gateway, client):
    gateway.scripts.append([307])

    with pytest.raises(RefusedError, match=r"redirects to /elsewhere"):
        await _seqs(client.watch("f-1"))


@pytest.mark.parametrize(
    "script",
    [[200], [HELLO, b"data: <html>\n\n"], [HELLO, b'data: {"seq": "x"}\n\n']],
)
async def test_something_that_is_no_gateway_ends_the_watch(gateway, client, script):
    gateway.scripts.append(script)

    with pytest.raises(NotAGatewayError, match="is this the address of a gateway"):
        await _seqs(client.watch("f-1"))


async def test_bytes_that_are_no_text_are_no_gateways(gateway, client, monkeypatch):
    """What `watch` asks goes the same way."""
    latin_1 = '{"id": "Mün"}'.encode("latin-1")
    gateway.add(FIRST)
    monkeypatch.setattr(msgspec.json, "encode", lambda _: latin_1)

    with pytest.raises(NotAGatewayError, match="what no gateway does"):
        await client.file("f-1")


async def test_ready_tells_why_a_file_does_not_play(gateway, client):
    gateway.add(FIRST, *failing(FIRST))

    with pytest.raises(NotPlayableError, match="no video in this file") as caught:
        await client.ready("f-1", timeout_s=10)

    assert "not_a_video" == caught.value.file.error.code


async def test_ready_does_not_wait_for_ever(gateway, client):
    gateway.add(FIRST)

    with pytest.raises(TimeoutError):
        await client.ready("f-1", timeout_s=0.05)


async def test_a_refusal_speaks_the_gateways_words(client):
    with pytest.raises(RefusedError, match=r"^there is no such file$") as caught:
        await client.file("f-404")

    assert 404 == caught.value.status
    assert "urn:reelready:problem:not_found" == caught.value.problem


async def test_no_gateway_is_said_with_its_address():
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/"

    said = f"{url} cannot be reached: Connection refused"
    async with Client(url) as client:
        with pytest.raises(UnavailableError, match=f"^{re.escape(said)}$"):
            await client.file("f-1")


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (OSError(113, "Connect call failed ('192.0.2.1', 80)"), "No route to host"),
        (OSError("Multiple exceptions: this, that"), "Multiple exceptions: this, that"),
    ],
)
def test_why_there_is_no_connection_is_said_without_the_address(cause, said):
    error = aiohttp.ClientConnectorError(None, cause)

    assert said == calls._cause(error)


@pytest.mark.parametrize("file_id", ["", "..", "a/b", "A", "a" * 65, "é", "a?b"])
async def test_an_id_that_cannot_be_is_never_asked_for(gateway, client, file_id):
    with pytest.raises(InvalidError):
        await client.file(file_id)

    assert [] == gateway.authorizations


async def test_a_client_is_a_context_manager(gateway):
    with pytest.raises(RuntimeError, match="async with"):
        await Client(gateway.url).file("f-1")
