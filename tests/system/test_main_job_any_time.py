"""Whoever comes before, during or after it sees the same end, whatever died meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.clips import ffmpeg
from tests.system.cloud_page import Visitor, visitor
from tests.system.cloud_truth import assert_one_end, jobs_by_file, put, register, states
from tests.system.page_stage import running_browser

CONVERSION_MS = 120_000

pytestmark = pytest.mark.timeout(180)


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as browser:
        yield browser


@pytest.fixture
def long_video(video: Path, tmp_path: Path) -> Path:
    """A real one twice over: it converts for longer than all restarts take."""
    twice = ["-stream_loop", "1", "-i", video, "-c", "copy"]
    return ffmpeg(*twice, target=tmp_path / "twice.mp4")


@pytest.mark.parametrize("dies", [(), ("gateway",), ("postgres",)])
async def test_pages_opened_at_any_time_show_the_same_end(
    browser, start_cloud, long_video, dies
):
    cloud = start_cloud(status_interval_s=0.2, env={"DATABASE_URL": ""})
    made = register(cloud, long_video)
    file_id = made["file"]["id"]
    link = {"file": file_id, "token": made["watch"]["token"]}

    async with (
        visitor(browser, cloud.url) as early,
        visitor(browser, cloud.url) as amid,
        visitor(browser, cloud.url) as late,
    ):
        await early.open(**link)
        await waits_at(early, "awaiting_upload")
        assert 200 == await asyncio.to_thread(put, made["upload"], long_video)
        await asyncio.to_thread(cloud.wait_for, file_id, is_moving)
        await amid.open(**link)
        await waits_at(amid, "transcoding")
        for name in dies:
            old = cloud.kill(name)
            assert "PROGRESSING" == jobs_by_file(cloud)[file_id][0]["Status"]
            await asyncio.to_thread(cloud.wait_for_new, name, old)
        await waits_at(early, "playable")
        await waits_at(amid, "playable")
        await late.open(**link)
        await waits_at(late, "playable")

        shown = [await one.shown() for one in (early, amid, late)]

    told = await asyncio.to_thread(states, cloud, file_id)
    assert [shown[-1]] * 3 == shown
    assert len(told) == len(shown[-1]["events"])
    assert_one_end(told)
    assert 1 == len(jobs_by_file(cloud)[file_id])


async def waits_at(person: Visitor, stage: str) -> None:
    """Wait until the only row is at this stage."""
    row = person.page.locator(f"li.row[data-stage={stage}]")
    await row.wait_for(timeout=CONVERSION_MS)


def is_moving(event) -> bool:
    return (event["percent"] or 0) > 0
