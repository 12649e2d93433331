"""
What another process commits: this gateway learns of it by the doorbell, or by looking.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg

from bench.soak.ledger import Ledger, percentile
from bench.soak.part import Figure, at_least, at_most
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.tab import Tab, until

_COMMIT = """
with moved as (
    update files
    set seq = seq + 1,
        state = jsonb_set(state::jsonb, '{seq}', to_jsonb(seq + 1))::json
    where id = $1 returning id, seq, state
), event as (
    insert into events (file_id, seq, type, occurred_at, recorded_at, state)
    select id, seq, 'progress', now(), now(), state from moved
)
select seq, pg_notify('reelready', id || ':' || seq) from moved
"""
_OPEN_S = 20.0


class Elsewhere:
    """
    Files that another process writes, each with one stream of this gateway.

    Attributes:
        tabs: The streams.
        ledger: What they were told.
        happened: What came to them besides.
    """

    def __init__(self, url: str) -> None:
        self.tabs: list[Tab] = []
        self.ledger = Ledger()
        self.happened: Counter[str] = Counter()
        self._url = url
        self._every_s = 0.0
        self._rung_s: dict[tuple[str, int], float] = {}
        self._took_s: dict[tuple[str, int], float] = {}

    @asynccontextmanager
    async def writing(
        self, stage: Stage, *, files: int, every_s: float
    ) -> AsyncIterator[None]:
        """Open the streams, and commit as often for the length of the block."""
        self._every_s = every_s
        async with Reporter(stage, self.ledger) as reporter:
            for _ in range(files):
                file_id, token = await reporter.register()
                tab = Tab(stage.port, file_id, token, self.ledger, self.happened)
                tab.on_event = self._heard
                self.tabs.append(tab)
                tab.come()
        try:
            await until(lambda: all(tab.last for tab in self.tabs), limit_s=_OPEN_S)
            writer = asyncio.ensure_future(self._write(every_s))
            try:
                yield
            finally:
                writer.cancel()
                with suppress(asyncio.CancelledError):
                    await writer
            await until(lambda: not self.missing, limit_s=_OPEN_S)
        finally:
            for tab in self.tabs:
                tab.leave()

    @property
    def missing(self) -> int:
        """Events that were committed and have not come."""
        return len(self._rung_s) - len(self._took_s)

    def took_s(self, since_s: float, until_s: float) -> list[float]:
        """From commit to stream, of all that was committed in that time."""
        now_s = time.monotonic()
        return [
            self._took_s.get(key, now_s - rung_s)
            for key, rung_s in self._rung_s.items()
            if since_s <= rung_s < until_s
        ]

    def delivery(
        self, when: str, spans_s: list[tuple[float, float]], limit_s: float
    ) -> list[Figure]:
        """Judge what was committed in those times: it was enough, and came soon."""
        took_s = [one for span_s in spans_s for one in self.took_s(*span_s)]
        enough = sum(end_s - begin_s for begin_s, end_s in spans_s) / self._every_s / 2
        return [
            at_least(f"committed {when}", len(took_s), int(enough)),
            at_most(f"delivery {when} p99, s", percentile(took_s, 0.99), limit_s),
        ]

    async def _write(self, every_s: float) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            number = 0
            while True:
                file_id = self.tabs[number % len(self.tabs)].file_id
                seq = await connection.fetchval(_COMMIT, file_id)
                # The doorbell may have been faster than the answer.
                self._rung_s[file_id, seq] = time.monotonic()
                if self.tabs[number % len(self.tabs)].last >= seq:
                    self._took_s[file_id, seq] = 0.0
                number += 1
                await asyncio.sleep(every_s)
        finally:
            connection.terminate()

    def _heard(self, tab: Tab) -> None:
        key = (tab.file_id, tab.last)
        if key in self._rung_s:
            self._took_s[key] = time.monotonic() - self._rung_s[key]
