"""The blocking GET and the long-poll."""

import asyncio
import time

import pytest


async def get(gateway, path, **headers):
    async with gateway.http.get(f"{gateway.url}{path}", headers=headers) as answer:
        body = await answer.json() if answer.status == 200 else None
        return answer.status, body, answer.headers


async def test_the_etag_is_the_seq_and_matching_it_is_304(gateway):
    file_id = await gateway.new_file()

    status, state, headers = await get(gateway, f"/v1/files/{file_id}")
    again, _, again_headers = await get(
        gateway, f"/v1/files/{file_id}", **{"If-None-Match": '"1"'}
    )

    assert (200, 1, '"1"') == (status, state["seq"], headers["ETag"])
    assert (304, '"1"') == (again, again_headers["ETag"])


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("wait=25", {"If-None-Match": '"1"'}),
        ("wait=25&after=1", {}),
        ("after=1", {"Prefer": "respond-async, wait=25"}),
    ],
)
async def test_a_blocking_get_answers_when_the_file_moves(gateway, query, headers):
    file_id = await gateway.new_file()
    path = f"/v1/files/{file_id}?{query}"
    blocked = asyncio.create_task(get(gateway, path, **headers))
    await asyncio.wait({blocked}, timeout=0.1)
    assert not blocked.done()
    await gateway.report(file_id, "uploaded")

    status, state, answered = await blocked

    assert (200, "uploaded", '"2"') == (status, state["status"], answered["ETag"])
    assert ("Prefer" in headers) == ("Preference-Applied" in answered)


async def test_a_wait_that_ends_is_304_or_an_empty_list(gateway):
    file_id = await gateway.new_file()
    begun = time.monotonic()

    status, _, _ = await get(gateway, f"/v1/files/{file_id}?wait=1&after=1")
    polled, body, _ = await get(gateway, f"/v1/files/{file_id}/events?wait=1&after=1")

    assert (304, 200) == (status, polled)
    assert {"events": [], "after": 1, "final": False} == body
    assert time.monotonic() - begun >= 2


async def test_a_long_poll_brings_every_event_after_the_cursor(gateway):
    file_id = await gateway.new_file()
    path = f"/v1/files/{file_id}/events?after=1&wait=25"
    blocked = asyncio.create_task(get(gateway, path))
    await asyncio.wait({blocked}, timeout=0.1)
    await gateway.report(file_id, "uploaded")
    _, body, _ = await blocked
    await gateway.report(file_id, "converting")
    await gateway.complete(file_id)

    _, rest, _ = await get(gateway, f"/v1/files/{file_id}/events?after={body['after']}")

    assert (2, False) == (body["after"], body["final"])
    assert ["converting", "playable"] == [one["status"] for one in rest["events"]]
    assert (4, True) == (rest["after"], rest["final"])


async def test_without_a_cursor_the_current_state_comes_at_once(gateway):
    file_id = await gateway.new_file()

    _, body, _ = await get(gateway, f"/v1/files/{file_id}/events")

    assert [1] == [one["seq"] for one in body["events"]]


async def test_a_final_file_never_blocks(gateway):
    file_id = await gateway.new_file()
    await gateway.report(file_id, "canceled")
    begun = time.monotonic()

    _, body, _ = await get(gateway, f"/v1/files/{file_id}/events?after=2&wait=25")
    status, _, _ = await get(gateway, f"/v1/files/{file_id}?wait=25&after=2")

    assert {"events": [], "after": 2, "final": True} == body
    assert 304 == status
    assert time.monotonic() - begun < 20


async def test_an_unknown_cursor_is_a_reset_with_the_current_state(gateway):
    file_id = await gateway.new_file()

    _, body, _ = await get(gateway, f"/v1/files/{file_id}/events?after=77&wait=0")

    assert "unknown_cursor" == body["reset"]
    assert [1] == [one["seq"] for one in body["events"]]


async def test_a_wrong_wait_is_named(gateway):
    file_id = await gateway.new_file()
    for path in (
        f"/v1/files/{file_id}?wait=soon",
        f"/v1/files/{file_id}/events?wait=-1",
    ):
        async with gateway.http.get(f"{gateway.url}{path}") as answer:
            problem = await answer.json()

            assert (422, "wait") == (answer.status, problem["field"])


async def test_draining_answers_those_who_wait(gateway):
    file_id = await gateway.new_file()
    path = f"/v1/files/{file_id}/events?after=1&wait=25"
    blocked = asyncio.create_task(get(gateway, path))
    await asyncio.wait({blocked}, timeout=0.1)

    gateway.built.hub.drain()

    assert (200, []) == ((await blocked)[0], (await blocked)[1]["events"])
