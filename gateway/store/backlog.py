"""
What workers have not come to, as the table tells it.

Workers serve no metrics: what they leave undone is worth knowing, whether it is
because none runs, because they cannot keep up or because AWS does not answer.  A
silent file that is due is found within seconds, and every file ends within ten
minutes of its deadline (docs/decisions/0011).  The queue of notifications is asked
about as well: with a relay no gateway has a listener that would.
"""

import asyncio
import math
from collections.abc import Mapping
from datetime import timedelta

from gateway.errors import UnavailableError
from gateway.model import Status
from gateway.store.pool import Pool
from gateway.store.records import HEARD_AT
from gateway.telemetry import Metrics

LOOK_INTERVAL_S = 15.0
MAX_LOOK_FILES = 1000
"""
Those that are due first.  Whoever is past its deadline is due every two minutes, so
of more it sees a part, but soon another.
"""

ENDS_WITHIN = timedelta(minutes=10)
"""Of its deadline: what is promised (docs/reliability.md)."""

_LOOK = f"""
with next as materialized (
    select status, deadline_at, {HEARD_AT} as heard_at
    from files where deadline_at is not null order by deadline_at limit $1
)
select greatest(0, extract(epoch from now() - min(deadline_at)))::float8 as lag_s,
       count(*) filter (where now() > heard_at + life + $4) as stuck,
       pg_notification_queue_usage() as queue_usage
from next left join unnest($2::text[], $3::interval[]) as l (name, life)
    on name = status
"""  # noqa: S608 - the only value put in is our own constant


class Backlog:
    """
    Looks at it again and again, and says it by metrics.

    Args:
        deadlines: How long a file may be silent in each stage.
    """

    def __init__(
        self, pool: Pool, deadlines: Mapping[Status, timedelta], metrics: Metrics
    ) -> None:
        self._pool = pool
        self._deadlines = deadlines
        self._metrics = metrics

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def look(self) -> None:
        """Look once; while the database is away there is no number."""
        up, lag_s, stuck = 0, math.nan, math.nan
        try:
            async with self._pool.acquire() as connection:
                (row,) = await connection.fetch(
                    _LOOK,
                    MAX_LOOK_FILES,
                    list(self._deadlines),
                    list(self._deadlines.values()),
                    ENDS_WITHIN,
                )
            up, lag_s, stuck = 1, row["lag_s"] or 0, row["stuck"]
            self._metrics.notification_queue_usage.set(row["queue_usage"])
        except UnavailableError:
            pass
        self._metrics.database_up.set(up)
        self._metrics.worker_lag_seconds.set(lag_s)
        self._metrics.stuck_files.set(stuck)
