"""What a person sees and does on the page, in the machine's own Chromium."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, FileChooser, Locator, expect

from tests.system.page_stage import (
    Stage,
    Visit,
    problem,
    running_browser,
    running_stage,
    visiting,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with running_stage() as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser: Browser, stage: Stage) -> AsyncIterator[Visit]:
    async with visiting(browser, stage) as visit:
        yield visit


def row(visit: Visit, name: str) -> Locator:
    """The row of the file with this name."""
    return visit.page.get_by_role("listitem").filter(
        has=visit.page.get_by_role("heading", name=name, exact=True)
    )


def playback(stage: Stage) -> dict[str, Any]:
    return {
        "hls_url": f"{stage.storage_origin}/bucket/master.m3u8",
        "duration_ms": 30500,
        "renditions": [{"url": "x", "width": 1280, "height": 720}],
    }


async def steps(row: Locator) -> list[str]:
    """The step rail as it is read out."""
    return [
        " ".join(text.split())
        for text in await row.locator("[data-part=rail] > li").all_inner_texts()
    ]


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


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            403,
            "<Message>Request has expired</Message>",
            "permission to upload has run out",
        ),
        (403, "<Code>SignatureDoesNotMatch</Code>", "did not match what was announced"),
        (412, "<Code>PreconditionFailed</Code>", "This upload was already used"),
        (400, "<Code>EntityTooLarge</Code>", "too large for this service"),
        (400, "<Code>BadDigest</Code>", "did not accept the file"),
        (503, "<Code>SlowDown</Code>", "storage had a problem"),
    ],
)
async def test_what_the_storage_refuses_is_said_in_plain_words(
    visit, stage, status, body, words
):
    await visit.open()
    stage.storage_status, stage.storage_body = status, body

    await visit.add("a.mp4")

    await expect(row(visit, "a.mp4")).to_contain_text("Upload failed")
    await expect(row(visit, "a.mp4")).to_contain_text(words)
    await expect(
        row(visit, "a.mp4").get_by_role("button", name="Try again")
    ).to_be_visible()
    await visit.page.reload()
    await expect(row(visit, "a.mp4")).to_contain_text(words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            problem(422, "invalid", field="name", detail="name: is too long"),
            "name: is too long",
        ),
        (problem(413, "too_large"), "too large for this service"),
        (problem(503, "unavailable"), "busy or restarting"),
        (problem(500, "internal"), "Something went wrong"),
    ],
)
async def test_what_the_gateway_refuses_is_said_in_plain_words(
    visit, stage, answer, words
):
    await visit.open()
    stage.refuse_files = answer

    await visit.add("a.mp4")

    await expect(row(visit, "a.mp4")).to_contain_text(words)


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


@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        ("failed", "The input has no video.", "Conversion failed"),
        ("canceled", "The conversion was canceled.", "Conversion canceled"),
        ("expired", "The upload never arrived.", "Expired"),
    ],
)
async def test_how_a_file_ended_is_said_in_plain_words(
    visit, stage, status, message, words
):
    await visit.open()
    await visit.add("a.mp4")
    file_id = await stage.wait_file()

    error = {"code": "some_code", "message": message, "retryable": False}
    await stage.report(file_id, status=status, error=error)

    await expect(row(visit, "a.mp4")).to_contain_text(words)
    await expect(row(visit, "a.mp4")).to_contain_text(message)
    await expect(row(visit, "a.mp4")).to_contain_text("Code: some_code")


async def test_known_errors_are_said_in_korean_beside_the_words_of_the_server(
    browser, stage
):
    async with visiting(browser, stage, locale="ko-KR") as visit:
        await visit.open()
        await visit.add("a.mp4")
        file_id = await stage.wait_file()

        error = {"code": "no_video", "message": "No video here.", "retryable": False}
        await stage.report(file_id, status="failed", error=error)

        known = "\ud30c\uc77c\uc5d0 \uc601\uc0c1\uc774 \uc5c6\uc2b5\ub2c8\ub2e4."
        await expect(row(visit, "a.mp4")).to_contain_text(known)
        await expect(row(visit, "a.mp4")).to_contain_text("No video here.")


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


async def test_it_speaks_korean_where_the_browser_does(browser, stage):
    async with visiting(browser, stage, locale="ko-KR") as visit:
        await visit.open()
        await visit.add("\ud734\uac00.mov")
        file_id = await stage.wait_file()
        await stage.report(
            file_id, status="converting", phase="transcoding", percent=42
        )

        await expect(visit.page.locator("html")).to_have_attribute("lang", "ko")
        await expect(row(visit, "\ud734\uac00.mov")).to_contain_text(
            "\ubcc0\ud658 \uc911: \uc778\ucf54\ub529"
        )
        await visit.page.get_by_role("button", name="English").click()
        await expect(visit.page.locator("html")).to_have_attribute("lang", "en")
        await expect(row(visit, "\ud734\uac00.mov")).to_contain_text(
            "Converting: encoding"
        )
        await visit.page.reload()
        await expect(row(visit, "\ud734\uac00.mov")).to_contain_text(
            "Converting: encoding"
        )


async def test_both_languages_have_the_same_words(visit):
    await visit.open()

    keys = await visit.page.evaluate(
        """async () => {
          const load = async (name) => (await import(`/static/${name}.js`)).default;
          const gaps = (text) => (text.match(/\\{\\w+\\}/g) ?? []).sort().join();
          const own = (key) => !/^error_(?!code)/.test(key);
          return Promise.all(["en", "ko"].map(async (name) =>
            Object.entries(await load(name)).filter(([key]) => own(key)).map(([key, text]) => `${key} ${gaps(text)}`)));
        }"""
    )

    assert keys[0] == keys[1]
    assert len(keys[0]) > 50


async def test_the_keyboard_alone_is_enough(visit, stage):
    choosers: asyncio.Queue[FileChooser] = asyncio.Queue()
    visit.page.on("filechooser", choosers.put_nowait)
    await visit.open()
    keyboard = visit.page.keyboard
    choose = visit.page.get_by_role("button", name="Choose videos")
    for _ in range(4):
        await keyboard.press("Tab")
    await expect(choose).to_be_focused()
    await keyboard.press("Enter")
    chooser = await asyncio.wait_for(choosers.get(), 10)
    await chooser.set_files({"name": "k.mp4", "mimeType": "video/mp4", "buffer": b"v"})
    file_id = await stage.wait_file()
    error = {"code": "x", "message": "Broken.", "retryable": False}
    await stage.report(file_id, status="failed", error=error)
    await expect(row(visit, "k.mp4")).to_contain_text("Broken.")

    await keyboard.press("Tab")

    again = visit.page.get_by_role("button", name="Try again k.mp4")
    await expect(again).to_be_focused()
    outline = "e => getComputedStyle(e).outlineStyle + getComputedStyle(e).outlineWidth"
    assert "solid3px" == await again.evaluate(outline)
    await keyboard.press("Enter")
    await stage.wait_file(2)
    await expect(row(visit, "k.mp4").get_by_role("heading")).to_be_focused()


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


async def test_steps_and_quarters_are_announced_and_not_more(visit, stage):
    await visit.open()
    news = visit.page.locator("#news")
    await expect(news).to_have_attribute("role", "status")
    await visit.add("a.mp4")
    file_id = await stage.wait_file()
    await stage.report(file_id, status="converting", phase="transcoding", percent=1)
    await expect(news).to_contain_text("a.mp4: Converting: encoding")

    for percent, said in (
        (10, "a.mp4"),
        (26, "25 percent"),
        (30, "25"),
        (60, "50 percent"),
    ):
        await stage.report(file_id, percent=percent)
        await expect(row(visit, "a.mp4")).to_contain_text(f"{percent} %")
        await expect(news).to_contain_text(said)
    await stage.report(file_id, status="playable", playback=playback(stage))
    await expect(news).to_contain_text("Ready to play")

    lines = await news.locator("p").all_inner_texts()
    assert "a.mp4: Converting: encoding. 50 percent" in lines
    assert not [line for line in lines if "10 percent" in line or "30 percent" in line]


@pytest.mark.timeout(180)  # 200 real uploads
async def test_two_hundred_hostile_names_stay_text(visit, stage):
    await visit.open()
    await visit.page.evaluate(
        """() => {
          globalThis.violations = [];
          addEventListener("securitypolicyviolation", (e) => violations.push(e.blockedURI));
        }"""
    )
    names = hostile_names()
    assert 200 == len(names)
    error = {"code": "<b>x</b>", "message": names[0], "retryable": False}

    for end in range(20, 201, 20):
        await visit.add(*names[end - 20 : end], size=1)
        await stage.wait_file(end)
        for file_id in list(stage.files)[end - 20 :]:
            await stage.report(file_id, status="failed", error=error)
        await expect(visit.page.locator("[data-stage=failed]")).to_have_count(end)

    shown = await visit.page.locator("h3 bdi").all_text_contents()
    assert sorted(names) == sorted(shown)
    assert [] == visit.complaints
    assert [] == await visit.page.evaluate("violations")
    assert (
        0 == await visit.page.locator("#rows :is(img, script, iframe, svg, b)").count()
    )


def hostile_names() -> list[str]:
    payloads = [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg onload=alert(1)>",
        "<iframe srcdoc='<script>alert(1)</script>'>",
        '"><b onmouseover=alert(1)>x</b>',
        "' onfocus=alert(1) autofocus='",
        "javascript:alert(1)",
        "{{constructor.constructor('alert(1)')()}}",
        "${alert(1)}",
        "</title><script>alert(1)</script>",
        "\u202egpj.4pm",
        "\u2066rtl\u2069\u200f",
        "a\nb\r\nc",
        "a\tb",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "__proto__",
        "constructor",
        "\u0000nul",
        "%3Cscript%3E",
        "e\u0301" * 60,
    ]
    return [f"{text} {n}.mp4" for n in range(10) for text in payloads]


async def test_nothing_is_asked_of_anyone_else_and_nothing_is_complained_about(
    visit, stage
):
    await visit.open()
    await visit.add("a.mp4")
    file_id = await stage.wait_file()
    await stage.report(file_id, status="uploaded")
    await expect(row(visit, "a.mp4")).to_contain_text("starts soon")

    origins = {url.split("/", 3)[2] for url in visit.requested if url[:4] == "http"}
    ours = {url.split("/")[2] for url in (stage.origin, stage.storage_origin)}
    assert ours == origins
    assert [] == visit.complaints


async def test_it_fits_a_320_pixel_screen(browser, stage):
    async with visiting(
        browser, stage, viewport={"width": 320, "height": 640}
    ) as visit:
        await visit.open()
        await visit.add("an extraordinarily-" + "long" * 40 + ".mp4")
        file_id = await stage.wait_file()
        await stage.report(file_id, status="playable", playback=playback(stage))
        await expect(visit.page.locator("[data-stage=playable]")).to_have_count(1)

        assert 320 == await visit.page.evaluate("document.documentElement.scrollWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_has_a_contrast_of_at_least_4_5(browser, stage, scheme):
    async with visiting(browser, stage, color_scheme=scheme) as visit:
        await visit.open()
        await visit.add("busy.mp4", "good.mp4", "bad.mp4")
        await stage.wait_file(3)
        busy, good, bad = stage.files
        error = {"code": "x", "message": "Broken.", "retryable": False}
        await stage.report(busy, status="converting", percent=5)
        await stage.report(good, status="playable", playback=playback(stage))
        await stage.report(bad, status="failed", error=error)
        for state in ("converting", "playable", "failed"):
            await expect(visit.page.locator(f"[data-stage={state}]")).to_have_count(1)

        worst = await visit.page.evaluate(CONTRASTS)

        assert len(worst) > 20
        assert [] == [text for text, ratio in worst if ratio < 4.5]


CONTRASTS = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => {
    const [r, g, b] = channels(text).map((value) => {
      const part = value / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    if (channels(color)[3] !== 0) return color;
    return ground(element.parentElement);
  };
  return [...document.querySelectorAll("body *")]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .filter((e) => e.checkVisibility() && !e.closest(".unseen, noscript"))
    .map((e) => {
      const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
      return [e.textContent, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
    });
}"""
