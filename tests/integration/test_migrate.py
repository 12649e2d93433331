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
