"""
Registering files: event 1 of each.

Nobody can wait for a file before its id was given out, so this needs no
doorbell and no lock.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec
from uuid_utils import uuid7

from gateway import lifecycle
from gateway.model import FileId, FileState, Seq, Status
from gateway.protocol.registration import Registration
from gateway.store.pool import ON_DISK, Pool

_CREATE = f"""
with file as (
    insert into files
        (id, seq, status, owner, attempt, state, jobs, deadline_at, created_at)
    values ($1, $2, $3, $4, 1, $5, '{{}}', $6, $7)
)
insert into events (file_id, seq, type, sender, occurred_at, recorded_at, state)
values ($1, $2, 'created', 'gateway', $7, $7, $5)
returning {ON_DISK}
"""  # noqa: S608 - a constant


def new_file_id() -> FileId:
    """Make an id that sorts by time and cannot be guessed (UUID version 7)."""
    return FileId(str(uuid7()))


def registered(file_id: FileId, said: Registration, now: datetime) -> FileState:
    """Describe a file of which nothing has arrived yet."""
    return FileState(
        id=file_id,
        seq=Seq(1),
        status=Status.AWAITING_UPLOAD,
        name=said.name,
        content_type=said.content_type,
        size=said.size,
        owner=said.owner,
        metadata=said.metadata,
        created_at=now,
        updated_at=now,
    )


class Files:
    """Rows of new files."""

    def __init__(self, pool: Pool, silences: Mapping[Status, timedelta]) -> None:
        self._pool = pool
        self._silences = silences

    async def create(self, file_id: FileId, said: Registration) -> FileState:
        """
        Store a registered file as its event 1, by the clock that its deadlines go by.

        Raises:
            UnavailableError: Nothing was stored.
        """
        async with self._pool.acquire() as connection:
            now = await connection.fetchval("select clock_timestamp()")
            state = registered(file_id, said, now)
            await connection.execute(
                _CREATE,
                state.id,
                state.seq,
                state.status,
                state.owner,
                msgspec.json.encode(state),
                lifecycle.look_at(state, self._silences),
                state.created_at,
            )
        return state
