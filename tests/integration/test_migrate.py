"""The migrator: once, one at a time, and never over an edited file."""

import asyncio
from itertools import chain

import asyncpg
import pytest

from workers import migrate as migrator
from workers.migrate import Migration, MigrationError, migrate, migrations


async def test_migrating_twice_applies_once(empty_database_url):
    first = await migrate(empty_database_url)
    second = await migrate(empty_database_url)

    assert [one.name for one in migrations()] == first
    assert [] == second


async def test_many_at_once_apply_once(empty_database_url):
    applied = await asyncio.gather(*(migrate(empty_database_url) for _ in range(5)))

    assert [one.name for one in migrations()] == sorted(chain(*applied))


async def test_an_edited_file_stops_the_start(empty_database_url, monkeypatch):
    await migrate(empty_database_url)
    edited = [Migration(one.name, one.sql + "-- edited") for one in migrations()]
    monkeypatch.setattr(migrator, "migrations", lambda: edited)

    with pytest.raises(MigrationError, match=r"0001_create_files\.sql was edited"):
        await migrate(empty_database_url)


async def test_a_newer_database_is_named(empty_database_url, monkeypatch):
    await migrate(empty_database_url)
    monkeypatch.setattr(migrator, "migrations", list)

    with pytest.raises(MigrationError, match="newer"):
        await migrate(empty_database_url)


async def test_a_failing_file_leaves_nothing_of_itself(empty_database_url, monkeypatch):
    broken = Migration("9999_break.sql", "create table half (); select 1/0;")
    known = [*migrations(), broken]
    monkeypatch.setattr(migrator, "migrations", lambda: known)

    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_database_url)

    connection = await asyncpg.connect(empty_database_url)
    try:
        assert await connection.fetchval("select to_regclass('half')") is None
        assert await connection.fetchval("select to_regclass('files')") is not None
    finally:
        await connection.close()


OLD_RELEASE_REGISTERS = """
insert into files (id, seq, status, attempt, state, jobs, created_at)
values ($1, 1, 'awaiting_upload', 1, '{}', '{}', now())
"""


async def test_files_of_an_older_release_are_of_this_epoch(
    empty_database_url, monkeypatch
):
    """Registered before the migration or beside the newer release, after it."""
    known = migrations()
    monkeypatch.setattr(migrator, "migrations", lambda: known[:2])
    await migrate(empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(OLD_RELEASE_REGISTERS, "before")
        monkeypatch.setattr(migrator, "migrations", lambda: known)
        await migrate(empty_database_url)
        await connection.execute(OLD_RELEASE_REGISTERS, "beside")
        epochs = await connection.fetch(
            "select epoch, reelready_epoch() as now from files"
        )
        # Without the right to ask there is none, and that is no error.
        await connection.execute(
            "revoke execute on function pg_control_system() from public;"
            " set role pg_monitor"
        )
        untold = await connection.fetchval("select reelready_epoch()")
    finally:
        await connection.close()

    assert 2 == len(epochs)
    assert all(row["epoch"] == row["now"] is not None for row in epochs)
    assert untold is None
