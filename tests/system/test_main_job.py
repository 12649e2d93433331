"""The main job as a person meets it: real videos, the real cloud, a real browser."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator

from tests.clips import cut, real_clip
from tests.system.cloud_page import Note, Visitor, visitor
from tests.system.cloud_truth import (
    assert_one_end,
    jobs_by_file,
    own_hosts,
    states,
    wait_until_all_came_twice,
)
from tests.system.page_stage import running_browser

CONVERSION_MS = 150_000
PLAYING_MS = 30_000
UPLOAD_BYTES_PER_S = 500_000
STAGES = [
    "queued",
    "awaiting_upload",
    "uploading",
    "sent",
    "uploaded",
    "converting",
    "probing",
    "transcoding",
    "saving",
    "playable",
    "failed",
]
CONVERTING = {"probing", "transcoding", "saving"}

pytestmark = pytest.mark.timeout(240)


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as browser:
        yield browser


@pytest.fixture
def world() -> Path:
    """30 s, 480x270: long enough for its percent to move."""
    return real_clip("gradio", "media_assets/videos/world.mp4")


@pytest.fixture
def broken(world: Path, tmp_path: Path) -> Path:
    """An upload that broke off."""
    return cut(world, tmp_path / "broken.mp4", 0.6)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    text = tmp_path / "letter.mp4"
    text.write_text("Dear film, this is only a letter.\n" * 100)
    return text


async def test_every_step_is_seen_live_and_the_video_plays(
    browser, start_cloud, world, video, broken, text
):
    cloud = start_cloud(status_interval_s=0.2)
    async with visitor(browser, cloud.url) as person:
        await person.open()
        await person.slow_down_uploads(UPLOAD_BYTES_PER_S)
        await person.choose(world, video, broken, text)

        await ended(person, "playable", world, video)
        await ended(person, "failed", broken, text)

        notes = [await person.notes(file.name) for file in (world, video, broken, text)]
        assert any(map(bytes_then_percent_move, notes))
        assert all(map(nothing_went_back, notes))
        why = "The input file is incomplete: its end is missing."
        assert why == (await person.shown(broken.name))["detail"]
        why = "The input is not a video file, or it is damaged or incomplete."
        assert why == (await person.shown(text.name))["detail"]
        await plays(person.row(video.name).locator("video"), {854, 1280})
        assert [] == person.complaints
        hosts = {urlsplit(address).netloc for address in person.requested}
        assert own_hosts(cloud) == hosts
    assert not cloud.errors


async def test_events_that_come_twice_and_reordered_make_one_job_and_one_end(
    browser, start_cloud, world, video, broken, text
):
    cloud = start_cloud(faults="duplicate,reorder", status_interval_s=0.2)
    async with visitor(browser, cloud.url) as person:
        await person.open()
        await person.choose(world, video, broken, text)

        await ended(person, "playable", world, video)
        await ended(person, "failed", broken, text)

        notes = [await person.notes(file.name) for file in (world, video, broken, text)]
        assert all(map(nothing_went_back, notes))
        await plays(person.row(world.name).locator("video"), {480})
        assert [] == person.complaints
    wait_until_all_came_twice(cloud)
    made = jobs_by_file(cloud)
    assert 4 == len(made)
    for file_id, jobs in made.items():
        assert 1 == len(jobs)
        assert_one_end(states(cloud, file_id))


async def ended(person: Visitor, stage: str, *files: Path) -> None:
    """Wait until the rows of these files say so."""
    for file in files:
        row = person.row(file.name)
        await row.and_(person.page.locator(f"[data-stage={stage}]")).wait_for(
            timeout=CONVERSION_MS
        )


def bytes_then_percent_move(notes: list[Note]) -> bool:
    """Whether first the bytes moved, then the percent, each past more than its ends."""
    sent = [note for note in notes if note.stage == "uploading"]
    percents = [note.percent for note in notes if note.stage in CONVERTING]
    return (
        len({note.detail for note in sent if note.bar not in {"0 %", "100 %"}}) > 1
        and len({percent for percent in percents if percent not in {None, 0, 100}}) > 1
        and [note.stage for note in notes].index("uploading") < percents_begin(notes)
    )


def percents_begin(notes: list[Note]) -> int:
    return next(
        index
        for index, note in enumerate(notes)
        if note.stage in CONVERTING and note.percent is not None
    )


def nothing_went_back(notes: list[Note]) -> bool:
    """Whether bytes and percent only grew, and no step came after a later one."""
    reached = [STAGES.index(note.stage) for note in notes]
    sent = [note.percent or 0 for note in notes if note.stage == "uploading"]
    percents = [note.percent or 0 for note in notes if note.stage in CONVERTING]
    return all(sorted(values) == values for values in (reached, sent, percents))


async def plays(video: Locator, widths: set[int]) -> None:
    """Play it as a person does and see pictures move, of one of these widths."""
    await video.scroll_into_view_if_needed()
    await video.click()
    seen = await video.evaluate(
        """async (video, wait_ms) => {
          const began = performance.now();
          while (video.currentTime <= 1 && performance.now() - began < wait_ms) {
            await new Promise((resolve) => setTimeout(resolve, 50));
          }
          const { totalVideoFrames } = video.getVideoPlaybackQuality();
          const { currentTime, videoWidth } = video;
          return { currentTime, videoWidth, totalVideoFrames };
        }""",
        PLAYING_MS,
    )

    assert 1 < seen["currentTime"]
    assert 0 < seen["totalVideoFrames"]
    assert seen["videoWidth"] in widths
