"""The rows of the page, as a test looks for them."""

from typing import Any

from playwright.async_api import Locator

from tests.system.page_stage import Stage, Visit


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
