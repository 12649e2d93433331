"""
The janitor: forgets what has expired, a bounded batch at a time.

Files that came, and how they ended, are left alone: the row of such a file lives
until its owner deletes it.  What is in S3 is a matter of the bucket's own
lifecycle rules (README.md).  A file that is forgotten is a 404 from then on, and
so is a stream of many files that names it: forget late.
"""

import asyncio
import logging
from datetime import timedelta

from gateway.store.expired import Expired
from workers.sweeping import sweep_until

SWEEP_INTERVAL_S = 60.0
MAX_BATCH_ROWS = 1000

_log = logging.getLogger("reelready.janitor")


class Janitor:
    """
    Keeps what is needed as long as it is needed, and no longer.

    Args:
        progress_life: Of events that tell of mere progress.
        expired_file_life: Of files whose upload never came, since they expired.
    """

    def __init__(
        self,
        expired: Expired,
        *,
        progress_life: timedelta,
        expired_file_life: timedelta,
    ) -> None:
        self._expired = expired
        self._progress_life = progress_life
        self._expired_file_life = expired_file_life

    async def sweep(self) -> int:
        """
        Forget one batch of each kind; returns how many rows the largest was.

        Raises:
            UnavailableError: The database is away.
        """
        rows = MAX_BATCH_ROWS
        return max(
            await self._expired.delete_ingest_ids(rows),
            await self._expired.delete_progress(rows, self._progress_life),
            await self._expired.delete_files(rows, self._expired_file_life),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until told to stop; a database that is away is waited out."""
        await sweep_until(
            stop,
            self.sweep,
            full=MAX_BATCH_ROWS,
            interval_s=SWEEP_INTERVAL_S,
            log=_log,
        )
