"""SSE, long-poll and GET are one feed and one cursor."""

import asyncio
import json

import pytest

STORY_SEQS = [1, 2, 3, 4, 5]


@pytest.fixture
async def playable(gateway):
    """A file that has five events and has ended."""
    file_id = await gateway.new_file(name="휴가 (1)+final.mov")
    await gateway.report(file_id, "uploaded")
    await gateway.report(file_id, "converting", job_id="j-1")
    await gateway.report(file_id, "progress", job_id="j-1", percent=42)
    await gateway.complete(file_id)
    return file_id


async def polled(gateway, file_id, after):
    path = f"{gateway.url}/v1/files/{file_id}/events?after={after}&wait=0"
    async with gateway.http.get(path) as answer:
        return await answer.json()


async def streamed(gateway, file_id, **request):
    frames = await gateway.stream(f"/v1/files/{file_id}/events", **request)
    assert "bye" == frames[-1].event
    return [frame.json() for frame in frames if frame.event == "message"]


async def test_stream_and_poll_agree_event_for_event(gateway, playable):
    by_stream = await streamed(gateway, playable, params={"after": "0"})
    by_poll = await polled(gateway, playable, 0)

    assert STORY_SEQS == [state["seq"] for state in by_stream]
    assert by_stream == by_poll["events"]
    assert by_stream[-1] == await gateway.state(playable)
    assert {"after": 5, "final": True} == {
        key: by_poll[key] for key in ("after", "final")
    }


async def test_a_live_stream_equals_a_replayed_one(gateway):
    """
    Live delivery, frame for frame, is what a later reader is given.
    """
    file_id = await gateway.new_file()
    seen = []
    async with gateway.open_stream(f"/v1/files/{file_id}/events") as frames:
        seen.append(await anext(frames))
        for step in ("uploaded", "converting"):
            await gateway.report(file_id, step)
            seen.append(await anext(frames))
        await gateway.complete(file_id)
        seen.append(await anext(frames))

    replayed = await gateway.stream(
        f"/v1/files/{file_id}/events", params={"after": "0"}
    )

    assert [(one.id, one.data) for one in seen] == [
        (one.id, one.data) for one in replayed if one.event == "message"
    ]


@pytest.mark.parametrize("cut", STORY_SEQS[:-1])
async def test_resuming_at_any_cut_equals_the_whole(gateway, playable, cut):
    whole = await streamed(gateway, playable, params={"after": "0"})

    by_header = await streamed(gateway, playable, headers={"Last-Event-ID": str(cut)})
    by_query = [
        await streamed(gateway, playable, params={name: str(cut)})
        for name in ("lastEventId", "last_event_id", "after")
    ]
    by_poll = (await polled(gateway, playable, cut))["events"]

    assert whole == whole[:cut] + by_header
    assert [by_header] * 3 == by_query
    assert by_header == by_poll


async def test_a_subscriber_before_during_and_after_sees_the_same_end(gateway):
    file_id = await gateway.new_file()
    path = f"/v1/files/{file_id}/events"
    before = asyncio.create_task(gateway.stream(path))
    await gateway.report(file_id, "uploaded")
    await gateway.report(file_id, "converting")
    during = asyncio.create_task(gateway.stream(path))
    await gateway.complete(file_id)
    after = await gateway.stream(path)

    ends = {(await before)[-2].data, (await during)[-2].data, after[-2].data}

    assert 1 == len(ends)
    assert "playable" == json.loads(ends.pop())["status"]


async def test_many_subscribers_that_arrive_mid_write_miss_nothing(gateway):
    """
    Subscriptions and commits race; each reader still gets a gapless story.
    """
    file_id = await gateway.new_file()
    path = f"/v1/files/{file_id}/events"

    async def late_reader(delay_steps):
        for _ in range(delay_steps):
            await asyncio.sleep(0)
        return await gateway.stream(path, params={"after": "0"})

    readers = [asyncio.create_task(late_reader(n * 7)) for n in range(40)]
    await gateway.report(file_id, "uploaded")
    await gateway.report(file_id, "converting")
    await gateway.report(file_id, "progress", percent=10)
    await gateway.complete(file_id)

    for reader in readers:
        frames = await reader
        assert ["1", "2", "3", "4", "5"] == [
            frame.id for frame in frames if frame.event == "message"
        ]
