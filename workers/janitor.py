"""
The janitor: forgets what has expired, a bounded batch at a time.

Files, their events and what is in S3 are left alone: the row of a file lives
until its owner deletes it, and objects are a matter of the bucket's own
lifecycle rules.
"""

import asyncio
import logging

from gateway.store.expired import Expired
from workers.sweeping import sweep_until

SWEEP_INTERVAL_S = 60.0
MAX_BATCH_ROWS = 1000

_log = logging.getLogger("reelready.janitor")


class Janitor:
    """Keeps the memory of ingest as long as it is needed, and no longer."""

    def __init__(self, expired: Expired) -> None:
        self._expired = expired

    async def sweep(self) -> int:
        """
        Forget one batch; returns how many rows that were.

        Raises:
            UnavailableError: The database is away.
        """
        return await self._expired.delete_ingest_ids(MAX_BATCH_ROWS)

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until told to stop; a database that is away is waited out."""
        await sweep_until(
            stop,
            self.sweep,
            full=MAX_BATCH_ROWS,
            interval_s=SWEEP_INTERVAL_S,
            log=_log,
        )
