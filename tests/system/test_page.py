"""What a person sees and does on the page, in the machine's own Chromium."""

import pytest
from playwright.async_api import expect

from tests.system.page_rows import playback, row, steps
from tests.system.page_stage import visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_file_is_followed_from_choice_to_playable(visit, stage):
    await visit.open()
    await expect(visit.page.get_by_text("Nothing here yet.")).to_be_visible()
    stage.may_receive.clear()

    await visit.add("holiday.mp4", size=500_000)
    file_id = await stage.wait_file()
    holiday = row(visit, "holiday.mp4")
    await expect(holiday).to_contain_text("Uploading")
    await expect(holiday).to_contain_text("of 500 KB")
    stage.may_receive.set()
    await expect(holiday).to_contain_text("Uploaded, waiting for confirmation")
    await stage.report(file_id, status="uploaded")
    await expect(holiday).to_contain_text("conversion starts soon")
    bar = holiday.get_by_role("progressbar", name="holiday.mp4")
    await expect(bar).to_have_count(0)
    await stage.report(file_id, status="converting", phase="probing")
    await expect(holiday).to_contain_text("looking at the video")
    assert await bar.get_attribute("value") is None
    await stage.report(file_id, phase="transcoding", percent=42)
    await expect(bar).to_have_attribute(
        "aria-valuetext", "Converting: encoding, 42 percent"
    )
    await expect(holiday).to_contain_text("42 %")
    await stage.report(file_id, phase="uploading", percent=97)
    await expect(holiday).to_contain_text("uploading the results")
    await stage.report(
        file_id, status="playable", phase=None, percent=100, playback=playback(stage)
    )

    await expect(holiday).to_contain_text("Ready to play after 35 s")
    await expect(holiday).to_contain_text("31 s \u00b7 1280 \u00d7 720")
    assert [
        "Upload done 7 s",
        "Uploaded done 7 s",
        "Converting done 21 s",
        "Playable done",
    ] == await steps(holiday)
    assert b"v" * 500_000 == stage.files[file_id].received


async def test_following_begins_before_the_first_byte_leaves(visit, stage):
    await visit.open()
    stage.may_receive.clear()

    await visit.add("a.mp4")
    file_id = await stage.wait_file()
    await stage.wait_seen(f"PUT /bucket/{file_id}")

    wanted = [request.split("?")[0] for request in stage.requests if file_id in request]
    assert [
        f"GET /v1/files/{file_id}/events",
        f"OPTIONS /bucket/{file_id}",
        f"PUT /bucket/{file_id}",
    ] == wanted


async def test_several_files_have_a_row_each(visit, stage):
    await visit.open()

    await visit.add(*(f"{n}.mp4" for n in range(8)))
    await stage.wait_file(8)
    for file_id in stage.files:
        await stage.report(file_id, status="uploaded")
    for number, file_id in enumerate(stage.files):
        await stage.report(file_id, status="converting", percent=10 * number)

    for staged in stage.files.values():
        name, percent = staged.state["name"], staged.state["percent"]
        await expect(row(visit, name)).to_contain_text(f"{percent} %")


async def test_more_files_than_browser_connections_still_add_and_finish(visit, stage):
    """
    HTTP/1.1 leaves six connections: streams must not take them all.
    """
    await visit.open()
    await visit.add(*(f"{n}.mp4" for n in range(10)))
    await stage.wait_file(10)

    await visit.add("one more.mp4")
    await stage.wait_file(11)
    for file_id in stage.files:
        await stage.report(file_id, status="playable", playback=playback(stage))

    for staged in stage.files.values():
        await expect(row(visit, staged.state["name"])).to_contain_text("Ready to play")


async def test_a_page_that_may_not_wait_says_so_and_goes_on(visit, stage):
    stage.refusing = True
    await visit.open()
    await visit.tune(busyMs=100)

    await visit.add("a.mp4")
    file_id = await stage.wait_file()
    await expect(row(visit, "a.mp4")).to_contain_text("Busy: asking now and then")
    await stage.wait_seen("PUT /bucket/")
    await stage.report(file_id, status="playable", playback=playback(stage))

    await expect(row(visit, "a.mp4")).to_contain_text("Ready to play")


async def test_the_same_rows_come_back_after_a_reload(visit, stage):
    await visit.open()
    await visit.add("done.mp4", "broken.mp4", "running.mp4")
    await stage.wait_file(3)
    by_name = {staged.state["name"]: id_ for id_, staged in stage.files.items()}
    for file_id in stage.files:
        await stage.report(file_id, status="uploaded")
    await stage.report(
        by_name["done.mp4"], status="playable", percent=100, playback=playback(stage)
    )
    error = {"code": "x", "message": "The input has no video.", "retryable": False}
    await stage.report(by_name["broken.mp4"], status="failed", error=error)
    await stage.report(by_name["running.mp4"], status="converting", percent=30)
    await expect(row(visit, "running.mp4")).to_contain_text("30 %")
    await expect(row(visit, "done.mp4")).to_contain_text("Ready to play")
    await expect(row(visit, "broken.mp4")).to_contain_text("has no video")
    before = [await steps(row(visit, name)) for name in ("done.mp4", "broken.mp4")]

    await visit.page.reload()

    await expect(row(visit, "running.mp4")).to_contain_text("30 %")
    await expect(row(visit, "done.mp4")).to_contain_text("Ready to play after")
    await expect(row(visit, "broken.mp4")).to_contain_text("The input has no video.")
    assert before == [
        await steps(row(visit, name)) for name in ("done.mp4", "broken.mp4")
    ]
    await stage.report(by_name["running.mp4"], percent=80)
    await expect(row(visit, "running.mp4")).to_contain_text("80 %")


async def test_a_page_opened_after_the_end_shows_the_end(visit, stage, browser):
    await visit.open()
    await visit.add("late.mp4")
    file_id = await stage.wait_file()
    await stage.wait_seen(f"PUT /bucket/{file_id}")
    await visit.page.goto("about:blank")
    await stage.report(file_id, status="playable", playback=playback(stage))

    await visit.open()

    await expect(row(visit, "late.mp4")).to_contain_text("Ready to play")


async def test_a_watch_link_shows_one_file_and_leaves_no_token_in_the_address(
    visit, stage, browser
):
    await visit.open()
    await visit.add("shared.mp4", "other.mp4")
    await stage.wait_file(2)
    file_id = next(iter(stage.files))
    token = stage.files[file_id].token

    async with visiting(browser, stage) as friend:
        await friend.open(f"/?file={file_id}&token={token}")

        await expect(row(friend, "shared.mp4")).to_contain_text(
            "Waiting for the upload"
        )
        assert f"{stage.origin}/?file={file_id}" == friend.page.url
        await expect(friend.page.get_by_role("button", name="Choose")).to_have_count(0)
        await expect(row(friend, "other.mp4")).to_have_count(0)
        await friend.page.reload()
        await stage.report(file_id, status="uploaded")
        await expect(row(friend, "shared.mp4")).to_contain_text("starts soon")
        await friend.page.get_by_role("link", name="Reelready").click()
        await expect(friend.page.get_by_role("button", name="Choose")).to_be_visible()


async def test_an_expired_token_is_told_and_the_row_can_be_removed(visit, stage):
    await visit.open()
    await visit.add("old.mp4", "gone.mp4")
    await stage.wait_file(2)
    await expect(row(visit, "old.mp4")).to_contain_text("waiting for confirmation")
    await expect(row(visit, "gone.mp4")).to_contain_text("waiting for confirmation")
    old, gone = stage.files
    stage.files[old].token = "rotated"
    del stage.files[gone]
    await visit.page.reload()

    await expect(row(visit, "old.mp4")).to_contain_text(
        "permission to watch this video is not valid or has expired"
    )
    await expect(row(visit, "old.mp4")).to_contain_text("not known")
    await expect(row(visit, "old.mp4")).not_to_contain_text("stopped here")
    await expect(row(visit, "gone.mp4")).to_contain_text("does not know this video")
    await row(visit, "old.mp4").get_by_role("button", name="Remove from list").click()
    await expect(row(visit, "old.mp4")).to_have_count(0)
    await expect(row(visit, "gone.mp4").get_by_role("heading")).to_be_focused()
    await row(visit, "gone.mp4").get_by_role("button", name="Remove from list").click()
    await expect(visit.page.get_by_text("Nothing here yet.")).to_be_visible()
    await visit.page.reload()
    await expect(visit.page.get_by_text("Nothing here yet.")).to_be_visible()


async def test_an_upload_can_be_canceled_and_tried_again_as_a_new_file(visit, stage):
    await visit.open()
    stage.may_receive.clear()
    size = 20_000_000  # more than all buffers on the way take before the storage reads
    await visit.add("big.mp4", size=size)
    first = await stage.wait_file()
    await row(visit, "big.mp4").get_by_role("button", name="Cancel upload").click()
    await expect(row(visit, "big.mp4")).to_contain_text("Upload canceled")
    stage.may_receive.set()

    await row(visit, "big.mp4").get_by_role("button", name="Try again").click()

    second = await stage.wait_file(2)
    await expect(row(visit, "big.mp4")).to_contain_text("waiting for confirmation")
    await expect(row(visit, "big.mp4")).to_have_count(1)
    assert first != second
    assert stage.files[first].received is None
    assert size == len(stage.files[second].received or b"")


async def test_a_network_that_goes_away_during_the_upload_is_said(visit, stage):
    await visit.open()
    stage.may_receive.clear()
    await visit.page.route("**/bucket/*", lambda route: route.abort())

    await visit.add("a.mp4")

    await expect(row(visit, "a.mp4")).to_contain_text("connection was lost")


async def test_files_that_cannot_work_are_refused_before_they_are_sent(visit, stage):
    stage.settings["max_upload_bytes"] = 1_000_000
    await visit.open()

    await visit.add("empty.mp4", size=0)
    await visit.add("huge.mp4", size=1_000_001)

    await expect(row(visit, "empty.mp4")).to_contain_text("The file is empty")
    await expect(row(visit, "huge.mp4")).to_contain_text("The limit is 1 MB")
    assert {} == stage.files


async def test_without_a_key_of_the_server_the_page_asks_for_one(visit, stage):
    stage.settings["api_key"] = None
    await visit.open()
    await visit.add("a.mp4")
    key = visit.page.get_by_label("API key")
    await expect(key).to_be_focused()
    await expect(visit.page.get_by_text("Enter an API key first")).to_be_visible()

    await key.fill("wrong")
    await key.press("Enter")
    await visit.add("a.mp4")
    await expect(row(visit, "a.mp4")).to_contain_text("API key was refused")
    await key.fill("local")
    await key.press("Enter")
    await row(visit, "a.mp4").get_by_role("button", name="Try again").click()

    await stage.wait_file()
    assert not [url for url in visit.requested if "local" in url]


async def test_files_can_be_dropped_anywhere(visit, stage):
    await visit.open()

    await visit.page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["v"], "dropped.mkv"));
          const drop = { dataTransfer: data, bubbles: true, cancelable: true };
          document.querySelector("footer").dispatchEvent(new DragEvent("drop", drop));
        }"""
    )

    file_id = await stage.wait_file()
    assert "video/x-matroska" == stage.files[file_id].state["content_type"]
