"""What the page says of refusals and ends, in English and in Korean."""

import pytest
from playwright.async_api import expect

from tests.system.page_rows import row
from tests.system.page_stage import problem, visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
