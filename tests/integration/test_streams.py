"""What a stream says on the wire, and how it begins and ends."""

import asyncio
import time

import aiohttp
import jwt
import pytest

from gateway.client import Client, following
from gateway.store import history
from gateway.store.history import MAX_PAGE_BYTES
from tests.integration.conftest import API_KEY

TOKEN_SECRET = "t" * 40

HOSTILE_CURSORS = [
    "-1",
    "999",
    "1e3",
    "٣",
    "0x1",
    "1 OR 1=1",
    "99999999999999999999999",
    "\x7f",
    "é",
    "a" * 5000,
    "{}",
    "1.0",
    "+1",
    "NaN",
]


def token(**claims):
    """A watch token as a team's own back end would mint it."""
    everyday = {"aud": "reelready", "exp": time.time() + 60}
    return jwt.encode(everyday | claims, TOKEN_SECRET, algorithm="HS256")


async def anonymous(gateway, path, **request):
    """Ask without the API key; returns status, headers and body."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{gateway.url}{path}", **request) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


async def test_the_first_bytes_are_retry_and_a_comment(gateway):
    file_id = await gateway.new_file()
    headers = {"Accept": "text/event-stream"}
    path = f"{gateway.url}/v1/files/{file_id}/events"

    async with gateway.http.get(path, headers=headers) as answer:
        first = await answer.content.readuntil(b"\n\n")
        second = await answer.content.readuntil(b"\n\n")

    assert first.startswith(b"retry: 2000\n:")
    assert second.startswith(b"id: 1\ndata: {")
    assert "no-store, no-transform" == answer.headers["Cache-Control"]
    assert "no" == answer.headers["X-Accel-Buffering"]
    assert "Content-Encoding" not in answer.headers


async def test_a_quiet_stream_beats(gateway_with):
    async with gateway_with(heartbeat_seconds=1) as gateway:
        file_id = await gateway.new_file()
        path = f"{gateway.url}/v1/files/{file_id}/events"
        headers = {"Accept": "text/event-stream"}
        async with gateway.http.get(path, headers=headers) as answer:
            seen = b""
            while b"event: hb\ndata:\n\n" not in seen:
                seen += await answer.content.readany()

    assert b"id: 1\n" in seen
    assert b"id:" not in seen.split(b"event: hb")[1]


async def test_a_final_cursor_is_answered_with_204(gateway):
    file_id = await gateway.new_file()
    await gateway.report(file_id, "failed", error={"code": "x", "message": "y"})
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "2"}
    path = f"{gateway.url}/v1/files/{file_id}/events"

    async with gateway.http.get(path, headers=headers) as answer:
        assert 204 == answer.status


@pytest.mark.parametrize("hostile", HOSTILE_CURSORS)
async def test_a_hostile_cursor_gets_a_reset_and_the_current_state(gateway, hostile):
    file_id = await gateway.new_file()
    await gateway.report(file_id, "uploaded")
    path = f"/v1/files/{file_id}/events"

    frames = await gateway.stream(path, params={"after": hostile}, most=2)

    assert [("reset", "", {"reason": "unknown_cursor"}), ("message", "2")] == [
        (frames[0].event, frames[0].id, frames[0].json()),
        (frames[1].event, frames[1].id),
    ]


async def test_a_hole_left_by_pruning_is_a_reset(gateway):
    file_id = await gateway.new_file()
    await gateway.report(file_id, "uploaded")
    await gateway.report(file_id, "converting")
    await gateway.fetch("delete from events where file_id = $1 and seq = 2", file_id)

    frames = await gateway.stream(
        f"/v1/files/{file_id}/events", params={"after": "1"}, most=2
    )

    assert "pruned_cursor" == frames[0].json()["reason"]
    assert "3" == frames[1].id


async def test_age_ends_a_stream_with_a_bye(gateway_with):
    async with gateway_with(stream_max_age_seconds=1) as gateway:
        file_id = await gateway.new_file()

        frames = await gateway.stream(f"/v1/files/{file_id}/events")

    assert {"reason": "age"} == frames[-1].json()
    assert "" == frames[-1].id


async def test_an_expiring_token_ends_its_stream(gateway):
    file_id = await gateway.new_file()
    short = token(files=[file_id], exp=time.time() + 1.5)
    path = f"/v1/files/{file_id}/events?token={short}"

    status, _, body = await anonymous(
        gateway, path, headers={"Accept": "text/event-stream"}
    )

    assert 200 == status
    assert body.endswith(b'event: bye\ndata: {"reason": "token"}\n\n')


async def test_a_drain_says_goodbye_and_refuses_newcomers_softly(gateway):
    file_id = await gateway.new_file()
    path = f"/v1/files/{file_id}/events"
    async with gateway.open_stream(path) as frames:
        await anext(frames)
        gateway.built.hub.drain()
        bye = await anext(frames)

    refused = await gateway.stream(path)

    assert {"reason": "drain"} == bye.json()
    assert 1000 <= int(bye.retry) <= 5000
    assert {"reason": "refused"} == refused[0].json()


async def test_too_many_of_one_address_are_refused_softly(gateway_with):
    async with gateway_with(max_subscribers_per_ip=1) as gateway:
        file_id = await gateway.new_file()
        path = f"/v1/files/{file_id}/events"
        async with gateway.open_stream(path) as frames:
            await anext(frames)
            refused = await gateway.stream(path)
            async with gateway.http.get(f"{gateway.url}{path}") as answer:
                assert 503 == answer.status
                assert "Retry-After" in answer.headers

    assert {"reason": "refused"} == refused[0].json()


async def test_who_may_not_wait_asks_without_a_wait_and_hears_of_the_end(
    gateway_with, monkeypatch
):
    monkeypatch.setattr(following, "BUSY_S", 0.1)
    monkeypatch.setattr(following, "MAX_RETRY_S", 0.1)
    heard = []
    async with gateway_with(max_subscribers_per_ip=1) as gateway:
        file_id = await gateway.new_file()
        other_id = await gateway.new_file()
        async with (
            gateway.open_stream(f"/v1/files/{other_id}/events") as frames,
            Client(gateway.url, api_key=API_KEY) as client,
            asyncio.timeout(20),
        ):
            await anext(frames)
            async for state in client.watch(file_id, on_connection=heard.append):
                if state.seq == 1:
                    await gateway.report(file_id, "uploaded")
                    await gateway.report(file_id, "converting", job_id="j-1")
                    await gateway.complete(file_id)

    assert "playable" == state.status
    assert {"connecting", "busy", "done"} == set(heard)


@pytest.mark.parametrize(
    "claims",
    [
        {"files": ["another"]},
        {"owner": "u-18"},
        {"aud": "other", "files": ["FILE"]},
        {"exp": 1, "files": ["FILE"]},
        {},
    ],
)
async def test_foreign_tokens_open_nothing(gateway, claims):
    file_id = await gateway.new_file(owner="u-17")
    if claims.get("files") == ["FILE"]:
        claims = claims | {"files": [file_id]}
    for accept in ("text/event-stream", "application/json"):
        status, headers, body = await anonymous(
            gateway,
            f"/v1/files/{file_id}/events",
            headers={"Accept": accept, "Authorization": f"Bearer {token(**claims)}"},
        )

        assert status in {401, 404}
        assert "application/problem+json" == headers["Content-Type"]
        assert b"u-17" not in body


async def test_not_yours_and_not_there_are_the_same_bytes(gateway):
    yours = await gateway.new_file()
    mine = token(files=[await gateway.new_file()])
    answers = []
    for file_id in (yours, "0199aaaa-not-there"):
        for suffix in ("", "/events"):
            status, headers, body = await anonymous(
                gateway, f"/v1/files/{file_id}{suffix}?token={mine}"
            )
            answers.append((status, headers["Content-Type"], len(headers), body))

    assert 1 == len(set(answers))
    assert 404 == answers[0][0]


async def test_an_owner_token_and_the_cookie_let_in(gateway):
    file_id = await gateway.new_file(owner="u-17")
    cookie = {"Cookie": f"reelready={token(owner='u-17')}"}

    status, _, _ = await anonymous(gateway, f"/v1/files/{file_id}", headers=cookie)

    assert 200 == status


async def test_a_password_of_a_proxy_is_not_taken_for_ours(gateway):
    """A browser that logged in to a proxy sends it along with an EventSource."""
    file_id = await gateway.new_file(owner="u-17")
    path = f"/v1/files/{file_id}"
    ours = f"?token={token(owner='u-17')}"
    for authorization in ("Basic dTpw", "", "Bearer"):
        asked = [
            await anonymous(
                gateway, path + query, headers={"Authorization": authorization}
            )
            for query in (ours, "")
        ]

        assert [200, 401] == [status for status, _, _ in asked]


async def test_many_files_share_one_connection(gateway):
    one, two = await gateway.new_file(), await gateway.new_file()
    path = f"/v1/events?file={one}&file={two}"
    async with gateway.open_stream(path) as frames:
        first = {(await anext(frames)).json()["id"] for _ in range(2)}
        await gateway.report(two, "uploaded")
        changed = await anext(frames)
        await gateway.report(one, "canceled")
        await anext(frames)
        await gateway.complete(two)
        rest = [frame async for frame in frames]

    assert {one, two} == first
    assert (two, "uploaded") == (changed.json()["id"], changed.json()["status"])
    assert "" == changed.id
    assert {"reason": "final"} == rest[-1].json()


async def test_many_files_are_at_most_a_hundred_and_all_yours(gateway):
    mine = await gateway.new_file()
    too_many = "&".join(f"file={n}" for n in range(101))
    for query, expected in ((too_many, 422), ("", 422), (f"file={mine}&file=x", 404)):
        async with gateway.http.get(f"{gateway.url}/v1/events?{query}") as answer:
            assert expected == answer.status


async def test_everybody_who_leaves_is_forgotten(gateway):
    file_id = await gateway.new_file()

    async def come_and_go():
        async with gateway.open_stream(f"/v1/files/{file_id}/events") as frames:
            await anext(frames)

    await asyncio.gather(*(come_and_go() for _ in range(20)))

    await until_metric(gateway, 'reelready_subscribers{transport="sse"} 0.0')


async def until_metric(gateway, line):
    """Wait for a line in the metrics; the test's timeout is the bound."""
    while True:
        async with gateway.http.get(f"{gateway.url}/metrics") as answer:
            if line in await answer.text():
                return


async def test_many_files_with_hostile_ids_are_simply_not_there(gateway):
    mine = await gateway.new_file()
    for hostile in ("%00", "%ff", "..%2f", "A", "a" * 65):
        path = f"{gateway.url}/v1/events?file={mine}&file={hostile}"
        async with gateway.http.get(path) as answer:
            assert 404 == answer.status


async def lengthen(gateway, file_id):
    """Give a file of one event 199 more."""
    await gateway.fetch(
        """
        with made as (
            select id, n, replace(state::text, '"seq":1,', '"seq":' || n || ',') as said
            from files, generate_series(2, 200) n where id = $1
        ), event as (
            insert into events
                (file_id, seq, type, occurred_at, recorded_at, state)
            select id, n, 'progress', now(), now(), said::json from made
        )
        update files set seq = 200, state = said::json
        from made where files.id = made.id and n = 200
        """,
        file_id,
    )


async def test_a_hole_further_on_than_a_page_is_a_reset_at_once(gateway):
    """To the file's state and not to the page's, and without some events first."""
    file_id = await gateway.new_file(metadata={"note": "x" * 4000})
    await lengthen(gateway, file_id)
    await gateway.fetch("delete from events where file_id = $1 and seq = 50", file_id)
    path = f"/v1/files/{file_id}/events?after="

    for after in ("0", "1", "48", "49"):
        frames = await gateway.stream(f"{path}{after}", most=2)
        assert [("reset", ""), ("message", "200")] == [
            (frame.event, frame.id) for frame in frames
        ]
        assert {"reason": "pruned_cursor"} == frames[0].json()
        async with gateway.http.get(f"{gateway.url}{path}{after}") as answer:
            polled = await answer.json()
        assert [200] == [event["seq"] for event in polled["events"]]
        assert "pruned_cursor" == polled["reset"]

    frames = await gateway.stream(f"{path}50", most=150)
    assert list(range(51, 201)) == [int(frame.id) for frame in frames]


async def test_a_long_history_of_long_events_is_read_in_pages(gateway):
    """A page of it is what a reader who stops reading may keep in our memory."""
    file_id = await gateway.new_file(metadata={"note": "x" * 4000})
    await lengthen(gateway, file_id)
    path = f"/v1/files/{file_id}/events?after=0"

    frames = await gateway.stream(path, most=200)
    polled = []
    while len(polled) < 200:
        after = polled[-1]["seq"] if polled else 0
        url = f"{gateway.url}/v1/files/{file_id}/events?after={after}&wait=0"
        async with gateway.http.get(url) as answer:
            assert len(await answer.read()) < MAX_PAGE_BYTES + 16_384
            polled += (await answer.json())["events"]

    told, after = [], 0
    while after < 200:
        url = f"{gateway.url}/v1/files/{file_id}/history?after={after}"
        async with gateway.http.get(url) as answer:
            assert len(await answer.read()) < MAX_PAGE_BYTES + 16_384
            page = await answer.json()
        told += [event["seq"] for event in page["events"]]
        after = page["after"]
        assert 200 == page["file"]["seq"]

    everything = list(range(1, 201))
    assert everything == told
    assert everything == [int(frame.id) for frame in frames]
    assert everything == [event["seq"] for event in polled]


async def test_one_event_larger_than_a_page_is_a_page(gateway, monkeypatch):
    monkeypatch.setattr(
        "gateway.store.history._READ",
        history._READ.replace(str(MAX_PAGE_BYTES), "10"),
    )
    file_id = await gateway.new_file()
    await gateway.report(file_id, "uploaded")
    await gateway.complete(file_id)

    frames = await gateway.stream(f"/v1/files/{file_id}/events?after=0")

    assert ["1", "2", "3"] == [frame.id for frame in frames if frame.id]
