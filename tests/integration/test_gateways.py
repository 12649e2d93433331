"""Several gateways on one database: whoever writes, everybody's clients hear it."""

import re

import pytest


@pytest.fixture
async def two(database_url, make_gateway):
    """Two gateways; a lost doorbell would not be made up for."""
    async with (
        make_gateway(database_url, safety_read_seconds=3600) as one,
        make_gateway(database_url, safety_read_seconds=3600) as other,
    ):
        yield one, other


async def reads(gateway):
    """How often subscribers of this gateway were read forward."""
    async with gateway.http.get(f"{gateway.url}/metrics") as answer:
        text = await answer.text()
    return float(re.search(r"feed_read_seconds_count (\S+)", text)[1])


async def test_what_one_commits_rings_at_the_other(two):
    one, other = two
    file_id = await one.new_file()
    path = f"/v1/files/{file_id}/events"
    async with one.open_stream(path) as here, other.open_stream(path) as there:
        await anext(here)
        await anext(there)
        before = [await reads(gateway) for gateway in two]

        for seq, kind in enumerate(("uploaded", "converting"), 2):
            await one.report(file_id, kind)
            assert str(seq) == (await anext(here)).id == (await anext(there)).id

        after = [await reads(gateway) for gateway in two]
    assert after[0] == before[0], "our own commits are not read back"
    assert after[1] > before[1]


async def test_turns_at_writing_are_one_story_for_all(two):
    one, other = two
    file_id = await one.new_file()
    path = f"/v1/files/{file_id}/events"
    async with one.open_stream(path) as here, other.open_stream(path) as there:
        for attempt in range(2, 20):
            await two[attempt % 2].report(file_id, "uploaded", attempt=attempt)
        await one.complete(file_id, attempt=19)

        stories = [
            [frame.id async for frame in frames if frame.event == "message"]
            for frames in (here, there)
        ]

    assert [[str(seq) for seq in range(1, 21)]] * 2 == stories
