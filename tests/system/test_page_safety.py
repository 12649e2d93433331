"""What the page makes of hostile names, and that it talks to nobody else."""

import pytest
from playwright.async_api import expect

from tests.system.page_rows import row

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
