"""
A person at the page of a real local cloud, and all that their browser saw.

What a row shows is noted by the browser itself at every change: a percent that
stood there for a moment is not missed, and one that fell is not forgiven.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from playwright.async_api import Browser, ConsoleMessage, Locator, Page

_UNLIMITED = -1

_TAKE_NOTES = """
  window.noted = [];
  addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
    console.error(`against the policy: ${violatedDirective} ${blockedURI}`));
  const note = (row) => {
    const part = (name) => row.querySelector(`[data-part=${name}]`);
    const { stage } = row.dataset;
    const bar = part("bar").hidden ? "" : part("amount").textContent;
    const [name, detail] = [part("name").textContent, part("detail").textContent];
    const last = window.noted.findLast((line) => line.name === name);
    if (last?.stage === stage && last.bar === bar && last.detail === detail) return;
    window.noted.push({ name, stage, bar, detail });
  };
  addEventListener("DOMContentLoaded", () =>
    new MutationObserver(() => document.querySelectorAll("li.row").forEach(note))
      .observe(document.getElementById("rows"), {
        subtree: true, childList: true, characterData: true, attributes: true,
      }));
"""

_SHOWN = """(row) => {
  const text = (element) => element.textContent.trim().replace(/\\s+/g, " ");
  const part = (name) => text(row.querySelector(`[data-part=${name}]`));
  return {
    stage: row.dataset.stage,
    name: part("name"),
    headline: part("headline"),
    detail: part("detail"),
    aside: part("aside"),
    steps: [...row.querySelectorAll("[data-part=rail] > li")].map(text),
    events: [...row.querySelectorAll("[data-part=history-rows] tr")]
      .map((line) => [...line.children].map(text).join(" | ")),
  };
}"""


@dataclass
class Note:
    """What one row showed at one moment: its stage, its bar, the words below it."""

    name: str
    stage: str
    bar: str
    detail: str

    @property
    def percent(self) -> int | None:
        """Of the bar, whatever it measures."""
        return int(self.bar.removesuffix(" %")) if self.bar else None


@dataclass
class Visitor:
    """
    One browser profile with the page open.

    Attributes:
        complaints: Warnings and errors of the console, the scripts and the
            content security policy.
        requested: Address of every request but `data:` and `blob:`.
    """

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    async def open(self, **query: str) -> None:
        """Open the page; with `file` and `token` as somebody who got a link."""
        await self.page.goto(f"{self.url}?{urlencode(query)}" if query else self.url)
        await self.page.wait_for_selector("html[data-started]")

    async def slow_down_uploads(self, bytes_per_s: int) -> None:
        """Have a line on which bytes can be seen to move."""
        devtools = await self.page.context.new_cdp_session(self.page)
        await devtools.send("Network.enable")
        line = {"offline": False, "latency": 0, "downloadThroughput": _UNLIMITED}
        await devtools.send(
            "Network.emulateNetworkConditions", line | {"uploadThroughput": bytes_per_s}
        )

    async def choose(self, *files: Path) -> None:
        """Choose files as the file dialog does."""
        await self.page.set_input_files("#pick", list(files))

    def row(self, name: str = "") -> Locator:
        """The row of the file with this name; without one, the only row."""
        rows = self.page.locator("li.row")
        if not name:
            return rows
        exactly = re.compile(f"^{re.escape(name)}$")
        return rows.filter(has=self.page.locator("[data-part=name]", has_text=exactly))

    async def shown(self, name: str = "") -> dict[str, object]:
        """All that a row says, its events included."""
        shown: dict[str, object] = await self.row(name).evaluate(_SHOWN)
        return shown

    async def notes(self, name: str) -> list[Note]:
        """What the row of this file showed so far, in order."""
        noted = await self.page.evaluate("window.noted")
        return [Note(**line) for line in noted if line["name"] == name]


@asynccontextmanager
async def visitor(browser: Browser, url: str) -> AsyncIterator[Visitor]:
    """A fresh browser profile; nothing is opened yet."""
    context = await browser.new_context(
        locale="en-GB", viewport={"width": 900, "height": 900}
    )
    page = await context.new_page()
    visitor = Visitor(page, url)

    def hear(line: ConsoleMessage) -> None:
        if line.type in {"warning", "error"}:
            visitor.complaints.append(f"{line.type} {line.text}")

    page.on("console", hear)
    page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
    context.on(
        "request",
        lambda request: (
            request.url.startswith(("data:", "blob:"))
            or visitor.requested.append(request.url)
        ),
    )
    await page.add_init_script(_TAKE_NOTES)
    try:
        yield visitor
    finally:
        await context.close()
