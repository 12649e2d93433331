"""The page by keyboard, by ear, on a small screen and for weak eyes."""

import asyncio

import pytest
from playwright.async_api import FileChooser, expect

from tests.system.page_rows import playback, row
from tests.system.page_stage import visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
