"""reelready.js against restarts, mute proxies and dead streams, in a real browser."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.system.page_stage import Stage, Visit, visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")

WATCH = """([id, token, after, method]) => {
  globalThis.seen = { states: [], connections: [] };
  globalThis.stop = new AbortController();
  const options = {
    token,
    after: after ?? undefined,
    signal: stop.signal,
    onState: (file) => seen.states.push(file.seq),
    onConnection: (name) => seen.connections.push(name),
  };
  globalThis.outcome = import("/static/reelready.js")
    .then((client) => client[method](`/v1/files/${id}/events`, options))
    .then((file) => ["resolved", file.status],
          (error) => ["rejected", error.constructor.name, error.status ?? error.file?.status]);
}"""


class Watcher:
    """A page that uses the client and nothing else of ours."""

    def __init__(self, visit: Visit, file_id: str) -> None:
        self.visit = visit
        self.file_id = file_id

    async def watch(self, after: int | None = 1, method: str = "watch") -> None:
        token = self.visit.stage.files[self.file_id].token
        await self.visit.page.evaluate(WATCH, [self.file_id, token, after, method])

    async def sees(self, *seqs: int) -> None:
        """Until the last state is the last of these; then all must be these."""
        await self._until("seen.states.at(-1)", seqs[-1])
        assert list(seqs) == await self.visit.page.evaluate("seen.states")

    async def says(self, connection: str) -> None:
        await self._until("seen.connections.at(-1)", connection)

    async def said(self) -> list[str]:
        connections: list[str] = await self.visit.page.evaluate("seen.connections")
        return connections

    async def ends(self) -> list[Any]:
        outcome: list[Any] = await self.visit.page.evaluate("outcome")
        return outcome

    async def _until(self, expression: str, wanted: object) -> None:
        found = await self.visit.page.evaluate(
            f"""async (wanted) => {{
              for (let turn = 0; turn < 750 && {expression} !== wanted; turn += 1) {{
                await new Promise((done) => setTimeout(done, 20));
              }}
              return {expression};
            }}""",
            wanted,
        )
        assert wanted == found


@pytest_asyncio.fixture(loop_scope="module")
async def watcher(browser: Browser, stage: Stage) -> AsyncIterator[Watcher]:
    async with visiting(browser, stage) as visit:
        await visit.open()
        await visit.tune(backoffMs=40, turnMs=40)
        yield Watcher(visit, await stage.make_file("a.mp4"))


async def test_each_state_is_told_once_and_the_last_one_ends_it(watcher, stage):
    await watcher.watch()
    await watcher.says("live")
    await stage.report(watcher.file_id, status="uploaded")
    await watcher.sees(2)
    await stage.report(watcher.file_id, status="converting", percent=5)
    await stage.report(watcher.file_id, status="playable")

    assert ["resolved", "playable"] == await watcher.ends()
    await watcher.sees(2, 3, 4)
    await watcher.says("done")


@pytest.mark.parametrize(
    ("method", "status", "outcome"),
    [
        ("ready", "playable", ["resolved", "playable"]),
        ("ready", "failed", ["rejected", "NotPlayableError", "failed"]),
        ("watch", "failed", ["resolved", "failed"]),
        ("watch", "expired", ["resolved", "expired"]),
    ],
)
async def test_ready_wants_a_playable_file_and_watch_any_end(
    watcher, stage, method, status, outcome
):
    await watcher.watch(method=method)
    await stage.report(watcher.file_id, status=status)

    assert outcome == await watcher.ends()


async def test_a_cut_stream_goes_on_without_a_gap_or_a_repeat(watcher, stage):
    await watcher.watch()
    await watcher.says("live")
    await stage.report(watcher.file_id, status="uploaded")
    await watcher.sees(2)

    for percent in (10, 20, 30):
        await stage.restart_streams()
        await stage.report(watcher.file_id, status="converting", percent=percent)

    await watcher.sees(2, 3, 4, 5)


@pytest.mark.parametrize("status", [502, 503, 429, 500])
async def test_a_stream_killed_by_a_refusal_is_revived(watcher, stage, status):
    """
    A native EventSource is dead for good after any answer but 200.
    """
    await watcher.watch()
    await watcher.says("live")
    await stage.report(watcher.file_id, status="uploaded")
    await watcher.sees(2)
    stage.sse_status = status
    before = stage.streams_asked()
    await stage.restart_streams()
    await stage.wait(lambda: stage.streams_asked() > before)

    stage.sse_status = 200
    await stage.report(watcher.file_id, status="playable")

    assert ["resolved", "playable"] == await watcher.ends()
    await watcher.sees(2, 3)


async def test_a_mute_stream_falls_to_long_polling_and_is_tried_again(watcher, stage):
    stage.mute = True
    await watcher.visit.tune(heartbeatMs=60, streamAgainMs=400, waitS=1)
    await watcher.watch()
    await watcher.says("polling")
    assert 3 == stage.streams_asked()
    await stage.report(watcher.file_id, status="uploaded")
    await watcher.sees(2)

    stage.mute = False
    stage.heartbeat_s = 0.03
    await stage.report(watcher.file_id, status="converting", percent=1)

    await watcher.says("live")
    await stage.report(watcher.file_id, status="playable")
    assert ["resolved", "playable"] == await watcher.ends()
    await watcher.sees(2, 3, 4)


async def test_who_is_refused_again_and_again_asks_now_and_then(watcher, stage):
    stage.refusing = True
    await watcher.visit.tune(busyMs=600)
    await watcher.watch()
    await watcher.says("busy")
    await stage.report(watcher.file_id, status="uploaded")
    await watcher.sees(2)
    asked = len(stage.requests)
    await asyncio.sleep(1.5)

    assert 10 >= len(stage.requests) - asked
    await stage.report(watcher.file_id, status="playable")
    assert ["resolved", "playable"] == await watcher.ends()
    await watcher.sees(2, 3)
    assert ["connecting", "busy", "done"] == await watcher.said()


async def test_whoever_was_refused_is_live_once_there_is_room(watcher, stage):
    stage.refusing = True
    stage.heartbeat_s = 0.05
    await watcher.visit.tune(busyMs=100)
    await watcher.watch()
    await watcher.says("busy")

    stage.refusing = False

    await watcher.says("live")
    assert ["connecting", "busy", "live"] == await watcher.said()


async def test_who_is_refused_and_not_even_told_is_offline(watcher, stage):
    stage.refusing = stage.database_away = True
    await watcher.visit.tune(busyMs=100)
    await watcher.watch()
    await stage.wait(lambda: stage.streams_asked() > 3)
    await watcher.says("offline")

    assert {"connecting", "offline"} == set(await watcher.said())
    stage.database_away = False
    await watcher.says("busy")
    await stage.report(watcher.file_id, status="playable")
    assert ["resolved", "playable"] == await watcher.ends()


async def test_a_refused_stream_is_left_alone_as_long_as_it_is_told(watcher, stage):
    """
    Five to ten seconds by default, whatever `retry:` says.
    """
    stage.refusing = True
    await watcher.watch()
    await watcher.says("busy")

    await asyncio.sleep(3)

    assert 1 == stage.streams_asked()


async def test_a_refused_long_poll_is_asked_without_a_wait(watcher, stage):
    stage.sse_status = 403
    stage.refusing = True
    await watcher.visit.tune(busyMs=100)
    await watcher.watch()
    await watcher.says("busy")

    await stage.report(watcher.file_id, status="playable")

    assert ["resolved", "playable"] == await watcher.ends()


async def test_a_path_that_holds_each_stream_back_and_cuts_it_is_mute(watcher, stage):
    """
    Chromium opens a cut stream again after three seconds: before it would be mute.
    """
    stage.mute = True
    stage.mute_s = 0.3
    await watcher.visit.tune(heartbeatMs=1600)
    await watcher.watch()
    await watcher.says("live")
    await stage.report(watcher.file_id, status="playable")

    async with asyncio.timeout(15):
        assert ["resolved", "playable"] == await watcher.ends()

    assert 2 == stage.streams_asked()
    assert ["connecting", "live", "connecting", "done"] == await watcher.said()


async def test_a_quiet_stream_with_heartbeats_is_left_alone(watcher, stage):
    await watcher.visit.tune(heartbeatMs=400)
    stage.heartbeat_s = 0.05
    await watcher.watch()
    await watcher.says("live")

    await stage.wait(lambda: stage.heartbeats > 40)

    assert 1 == stage.streams_asked()


async def test_a_stream_that_no_proxy_lets_through_falls_to_long_polling(
    watcher, stage
):
    stage.sse_status = 403
    await watcher.watch()

    await watcher.says("polling")
    await stage.report(watcher.file_id, status="playable")
    assert ["resolved", "playable"] == await watcher.ends()


async def test_a_foreign_token_ends_with_a_clear_error(watcher, stage):
    stage.files[watcher.file_id].token = "before"
    await watcher.watch()
    await watcher.says("live")
    stage.files[watcher.file_id].token = "after"
    await stage.restart_streams()

    assert ["rejected", "RefusedError", 401] == await watcher.ends()


@pytest.mark.parametrize(
    "said",
    [
        (401, '{"type": 7}'),
        (403, ""),
        (404, "<h1>Not here</h1>"),
        (410, '{"type": "about:blank"}'),
        (200, "{}"),
        (200, "null"),
    ],
)
async def test_what_a_proxy_says_ends_no_watch_that_was_live(watcher, stage, said):
    await watcher.watch()
    await stage.report(watcher.file_id, status="uploaded")
    await watcher.sees(2)
    stage.in_our_place = said
    asked = len(stage.requests)
    await stage.restart_streams()
    await stage.wait(lambda: len(stage.requests) > asked + 4)

    stage.in_our_place = None
    await stage.report(watcher.file_id, status="playable")

    assert ["resolved", "playable"] == await watcher.ends()
    await watcher.sees(2, 3)


async def test_what_a_proxy_says_ends_no_watch_by_long_polls(watcher, stage):
    stage.sse_status = 403
    await watcher.visit.tune(waitS=0.1)
    await watcher.watch()
    await watcher.says("polling")
    stage.in_our_place = (404, "")
    await watcher.says("offline")

    stage.in_our_place = None
    await stage.report(watcher.file_id, status="playable")

    assert ["resolved", "playable"] == await watcher.ends()


async def test_no_gateway_from_the_first_ends_with_a_clear_error(watcher, stage):
    stage.in_our_place = (404, "")
    await watcher.watch()

    assert ["rejected", "RefusedError", 404] == await watcher.ends()


async def test_an_unknown_file_ends_with_a_clear_error(watcher, stage):
    await watcher.visit.page.evaluate(WATCH, ["nowhere", "t", None, "ready"])

    assert ["rejected", "RefusedError", 404] == await watcher.ends()


@pytest.mark.parametrize("after", [None, 0, 1, 3])
async def test_a_watch_that_begins_after_the_end_gets_the_end(watcher, stage, after):
    """
    From the last seq the stream is answered 204 and has nothing to tell.
    """
    await stage.report(watcher.file_id, status="uploaded")
    await stage.report(watcher.file_id, status="playable")

    await watcher.watch(after=after)

    assert ["resolved", "playable"] == await watcher.ends()


async def test_an_unknown_cursor_starts_anew_from_the_current_state(watcher, stage):
    """
    A restored database knows less than the page has seen.
    """
    await watcher.watch(after=99)

    await watcher.sees(1)
    await stage.report(watcher.file_id, status="uploaded")
    await watcher.sees(1, 2)


async def test_a_signal_ends_the_watch_and_its_connection(watcher, stage):
    await watcher.watch()
    await watcher.says("live")

    await watcher.visit.page.evaluate("stop.abort()")

    assert ["rejected", "DOMException"] == (await watcher.ends())[:2]
    await stage.wait(lambda: stage.open_streams == 0)


async def test_waking_up_after_being_offline_asks_at_once(watcher, stage):
    await watcher.watch()
    await watcher.says("live")
    await watcher.visit.page.context.set_offline(True)
    await watcher.says("offline")
    await stage.restart_streams()
    await stage.report(watcher.file_id, status="uploaded")

    await watcher.visit.page.context.set_offline(False)

    await watcher.sees(2)
    await watcher.says("live")


async def test_all_tabs_together_hold_four_streams_and_the_rest_take_turns(
    browser, stage
):
    async with visiting(browser, stage) as visit:
        await visit.open()
        watchers = []
        for number in range(9):
            tab = Visit(await visit.page.context.new_page(), stage)
            await tab.open()
            watchers.append(Watcher(tab, await stage.make_file(f"{number}.mp4")))
        for watcher in watchers:
            await watcher.visit.tune(turnMs=40)
            await watcher.watch()
        await stage.wait(lambda: stage.open_streams == 4)
        for watcher in watchers:
            await stage.report(watcher.file_id, status="playable")

        for watcher in watchers:
            assert ["resolved", "playable"] == await watcher.ends()
        assert 4 == stage.most_streams
