"""
Real tabs: pages of the machine's own Chromium, each of which follows one file.

A tab is on the gateway's own origin, as the product's page is; what it follows
with is the browser's EventSource and nothing else, or our client for browsers.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from playwright.async_api import Browser, Page, async_playwright

from bench.errors import MissingError

ANY_PAGE = "healthz"

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--renderer-process-limit=8",
)
_EVENT_SOURCE = """([path, token]) => {
  const source = new EventSource(`${path}?after=0&token=${token}`);
  const seqs = [];
  const byes = [];
  let last;
  source.onmessage = ({ data }) => {
    last = JSON.parse(data);
    seqs.push(last.seq);
  };
  source.addEventListener("bye", ({ data }) => byes.push(JSON.parse(data).reason));
  globalThis.told = () => ({
    seqs,
    byes,
    status: last?.status ?? "",
    open: source.readyState === EventSource.OPEN,
    closed: source.readyState === EventSource.CLOSED,
  });
}"""
_CLIENT = """async ([path, token]) => {
  const { watch } = await import("/static/reelready.js");
  const seqs = [];
  let last, connection, rejected;
  const options = {
    token,
    after: 0,
    onState: (file) => {
      last = file;
      seqs.push(file.seq);
    },
    onConnection: (name) => (connection = name),
  };
  watch(path, options).catch((error) => (rejected = String(error)));
  globalThis.told = () => ({
    seqs,
    byes: rejected ? [rejected] : [],
    status: last?.status ?? "",
    open: connection === "live" || connection === "polling",
    closed: Boolean(rejected),
  });
}"""


class Told(msgspec.Struct, frozen=True):
    """
    What a tab knows.

    Attributes:
        seqs: Of all events, as they came.
        byes: Reasons it was given.
        status: Of the file, by the last event.
        open: It is connected now.
        closed: It has given up, or was told that nothing can follow.
    """

    seqs: list[int]
    byes: list[str]
    status: str
    open: bool
    closed: bool


class BrowserTab:
    """One tab; it follows from when it is made."""

    def __init__(self, page: Page, file_id: str) -> None:
        self.file_id = file_id
        self._page = page

    async def told(self) -> Told:
        """Ask the page."""
        said: dict[str, Any] = await self._page.evaluate("told()")
        return msgspec.convert(said, Told)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """
    Run the browser for the length of the block.

    Raises:
        MissingError: There is none.
    """
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        raise MissingError("chromium: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable, args=_ARGUMENTS, headless=True
        )
        try:
            yield browser
        finally:
            await browser.close()


async def open_tab(
    page: Page, origin: str, file_id: str, token: str, *, is_native: bool
) -> BrowserTab:
    """Let a page follow a file, from its first event."""
    await page.goto(f"{origin}/{ANY_PAGE}")
    script = _EVENT_SOURCE if is_native else _CLIENT
    await page.evaluate(script, [f"/v1/files/{file_id}/events", token])
    return BrowserTab(page, file_id)
