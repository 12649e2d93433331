"""The migrator: once, one at a time, and never over an edited file."""

import asyncio
import contextlib
import json
import logging
import re
import secrets
import sys
from datetime import UTC, datetime, timedelta
from itertools import chain
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from gateway.model import FileId, Outcome, Report, ReportType, Seq, Status
from gateway.protocol.registration import Registration
from gateway.store.append import Answer, Append, Incoming
from gateway.store.expired import Expired
from gateway.store.files import Files
from gateway.store.history import History
from gateway.store.pool import Pool
from gateway.store.silent import Silent
from tests.unit.deploy.prometheus import ROOT
from workers import migrate as migrator
from workers.migrate import Migration, MigrationError, applied, migrate, migrations


async def test_migrating_twice_applies_once(empty_database_url):
    first = await migrate(empty_database_url)
    second = await migrate(empty_database_url)

    assert [one.name for one in migrations()] == first
    assert [] == second


async def test_many_at_once_apply_once(empty_database_url):
    done = await asyncio.gather(*(migrate(empty_database_url) for _ in range(5)))

    assert [one.name for one in migrations()] == sorted(chain(*done))


async def test_an_edited_file_stops_the_start(empty_database_url, monkeypatch):
    await migrate(empty_database_url)
    edited = [Migration(one.name, one.sql + "-- edited") for one in migrations()]
    monkeypatch.setattr(migrator, "migrations", lambda: edited)

    with pytest.raises(MigrationError, match=r"0001_create_files\.sql was edited"):
        await migrate(empty_database_url)


async def run(*command):
    """Run `reelready`; returns its exit code, and what it said to whom."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def ledger(database_url, *added):
    """Add names of migrations; returns all there are."""
    connection = await asyncpg.connect(database_url)
    try:
        for name in added:
            await connection.execute(
                "insert into schema_migrations values ($1, 'x')", name
            )
        return sorted(await applied(connection))
    finally:
        await connection.close()


async def test_a_newer_database_is_named_and_left_as_it_is(
    empty_database_url, monkeypatch
):
    """The way back: the units and the composition migrate before they serve."""
    monkeypatch.setenv("REELREADY_DATABASE_URL", empty_database_url)
    await migrate(empty_database_url)
    before = await ledger(empty_database_url, "0098_a.sql", "0099_next_release.sql")

    code, out, err = await run("migrate")

    assert (0, "") == (code, out)
    assert (
        "REELREADY_DATABASE_URL: its schema is newer than this release: install the"
        " one that has 0099_next_release.sql here, too"
    ) == json.loads(err)["message"]
    assert before == await ledger(empty_database_url)


async def test_another_branch_is_named_and_exits_1(empty_database_url, monkeypatch):
    monkeypatch.setenv("REELREADY_DATABASE_URL", empty_database_url)
    await migrate(empty_database_url)
    known = migrations()
    await ledger(empty_database_url, "0099_next_release.sql")
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(
        "delete from schema_migrations where name = $1", known[-1].name
    )
    await connection.close()

    code, _, err = await run("migrate")

    assert 1 == code
    assert (
        "Error: REELREADY_DATABASE_URL: 0099_next_release.sql was applied here without"
        f" {known[-1].name}; install the release that this database is of\n"
    ) == err


async def test_a_failing_file_leaves_nothing_of_itself(empty_database_url, monkeypatch):
    broken = Migration("9999_break.sql", "create table half (); select 1/0;")
    known = [*migrations(), broken]
    monkeypatch.setattr(migrator, "migrations", lambda: known)

    with pytest.raises(
        MigrationError,
        match=r"^REELREADY_DATABASE_URL: 9999_break\.sql: Postgres refuses us: division",
    ):
        await migrate(empty_database_url)

    connection = await asyncpg.connect(empty_database_url)
    try:
        assert await connection.fetchval("select to_regclass('half')") is None
        assert await connection.fetchval("select to_regclass('files')") is not None
    finally:
        await connection.close()


LATER = Migration("9999_add_later.sql", "alter table files add column later text;")
FILE = FileId("f1")


@contextlib.asynccontextmanager
async def backing_up(database_url, application_name="pg_dump"):
    """Hold what pg_dump holds for as long as it runs; gives its pid."""
    connection = await asyncpg.connect(
        database_url, server_settings={"application_name": application_name}
    )
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.execute("lock table files, events in access share mode")
            yield connection.get_server_pid()
    finally:
        await connection.close()


WAITING = """
select count(*) from pg_locks
where not granted and locktype = $1 and database = (
    select oid from pg_database where datname = current_database()
) and waitstart < clock_timestamp() - make_interval(secs => $2)
"""


BETWEEN = """
select count(*) from pg_stat_activity
where datname = current_database() and state = 'idle in transaction'
    and state_change < clock_timestamp() - interval '0.3 s'
    and pid in (select pid from pg_locks where granted and locktype = 'advisory')
"""

DEADLOCKS = """
select deadlocks from pg_stat_database where datname = current_database()
"""

TERMINATE = """
select pg_terminate_backend(pid) from pg_locks
where granted and locktype = 'advisory' and database = (
    select oid from pg_database where datname = current_database()
)
"""


async def waiting(database_url, lock, for_s=0.0):
    """Come back when somebody waits for a lock, and has for some time."""
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(10):
            while not await connection.fetchval(WAITING, lock, for_s):
                await connection.execute("select pg_sleep(0.02)")
    finally:
        await connection.close()


async def test_a_migration_that_a_backup_holds_up_holds_up_nobody(
    database_url, monkeypatch, caplog
):
    """Who asks for a lock behind it is served within a report's patience."""
    known = [*migrations(), LATER]
    monkeypatch.setattr(migrator, "migrations", lambda: known)
    monkeypatch.setattr(migrator, "_PAUSE_S", (0.1, 0.1))
    caplog.set_level(logging.WARNING)
    async with Pool(database_url, max_connections=2) as pool:
        said = Registration(name="a.mp4", content_type="video/mp4", size=1)
        await Files(pool, {}).create(FILE, said)
        async with backing_up(database_url) as pid:
            migrating = asyncio.create_task(migrate(database_url))
            await waiting(database_url, "relation")
            for attempt in range(2, 5):
                report = Report(
                    type=ReportType.CONVERTING,
                    attempt=attempt,
                    occurred_at=datetime.now(UTC),
                )
                answers = await Append(pool, {})([Incoming(FILE, report)])
                assert [Answer(Outcome.APPLIED, Seq(attempt))] == answers
                read = await History(pool).read([(FILE, Seq(attempt - 1))])
                assert attempt == read[FILE, Seq(attempt - 1)].head
            assert not migrating.done()
            async with asyncio.timeout(10):
                while not caplog.records:  # noqa: ASYNC110 - a log has no event
                    await asyncio.sleep(0.02)
        assert [LATER.name] == await migrating

    assert (
        f"{LATER.name} waits for a lock, and tries again for 10 minutes: its tables"
        f" are in use by pid {pid} pg_dump"
    ) == "".join(record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("name", ["pg_dump", ""])
async def test_what_holds_up_a_migration_for_too_long_is_named(
    database_url, monkeypatch, name
):
    known = [*migrations(), LATER]
    monkeypatch.setattr(migrator, "migrations", lambda: known)
    monkeypatch.setattr(migrator, "_PATIENCE_S", 0.0)

    async with backing_up(database_url, name) as pid:
        named = f"pid {pid} {name}".strip()
        with pytest.raises(
            MigrationError,
            match=rf"^REELREADY_DATABASE_URL: {LATER.name} got no lock in .* by"
            rf" {named}; migrate again",
        ):
            await migrate(database_url)

    assert LATER.name not in await ledger(database_url)
    assert [LATER.name] == await migrate(database_url)


async def test_a_migration_that_others_deadlock_with_tries_again(
    database_url, monkeypatch
):
    """One holds what it asks for, and asks for what it holds."""
    both = Migration("9999_lock_both.sql", "lock table files; lock table events;")
    monkeypatch.setattr(migrator, "migrations", lambda: [*migrations(), both])
    monkeypatch.setattr(migrator, "_PAUSE_S", (0.1, 0.1))
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("set local deadlock_timeout = '10 s'")
            await connection.execute("lock table events in access share mode")
            migrating = asyncio.create_task(migrate(database_url))
            await waiting(database_url, "relation")
            await connection.execute("lock table files in access share mode")
        assert [both.name] == await migrating
        assert 1 <= await connection.fetchval(DEADLOCKS)
    finally:
        await connection.close()


async def test_another_migrator_has_patience_while_one_waits_for_a_lock(
    database_url, monkeypatch, caplog
):
    """Only the one whose turn it is asks for locks."""
    known = [*migrations(), LATER]
    monkeypatch.setattr(migrator, "migrations", lambda: known)
    monkeypatch.setattr(migrator, "_PAUSE_S", (0.1, 0.1))
    caplog.set_level(logging.WARNING)
    async with backing_up(database_url):
        both = asyncio.gather(*(migrate(database_url) for _ in range(2)))
        # Longer than a file waits for any of its locks.
        await waiting(database_url, "advisory", for_s=2 * migrator._LOCK_TIMEOUT_S)

    assert [[], [LATER.name]] == sorted(await both)
    assert 1 == len(caplog.records)


async def test_a_wrong_address_is_told_in_one_line(empty_database_url, monkeypatch):
    monkeypatch.setenv("REELREADY_DATABASE_URL", f"{empty_database_url}?sslmode=requir")

    code, _, err = await run("migrate")

    assert 1 == code
    assert err.startswith("Error: REELREADY_DATABASE_URL: cannot be used: `sslmode`")
    assert 1 == err.count("\n")


async def test_a_restart_of_postgres_ends_a_wait_with_its_own_words(
    database_url, monkeypatch
):
    known = [*migrations(), LATER]
    monkeypatch.setattr(migrator, "migrations", lambda: known)
    monkeypatch.setattr(migrator, "_PAUSE_S", (0.1, 0.1))
    async with backing_up(database_url):
        migrating = asyncio.create_task(migrate(database_url))
        await waiting(database_url, "relation")
        connection = await asyncpg.connect(database_url)
        await connection.execute(TERMINATE)
        await connection.close()

        with pytest.raises(MigrationError, match="terminating connection"):
            await migrating


async def test_a_restart_of_postgres_between_two_tries_is_told_as_well(
    database_url, monkeypatch
):
    known = [*migrations(), LATER]
    monkeypatch.setattr(migrator, "migrations", lambda: known)
    monkeypatch.setattr(migrator, "_PAUSE_S", (2.0, 2.0))
    async with backing_up(database_url):
        migrating = asyncio.create_task(migrate(database_url))
        await waiting(database_url, "relation")
        connection = await asyncpg.connect(database_url)
        async with asyncio.timeout(10):
            while not await connection.fetchval(BETWEEN):
                await connection.execute("select pg_sleep(0.02)")
        await connection.execute(TERMINATE)
        await connection.close()

        with pytest.raises(MigrationError, match="migrate again when Postgres is up"):
            await migrating


async def test_who_has_waited_for_another_migrator_has_less_patience_left(
    database_url, monkeypatch, caplog
):
    """Together they are no longer than a unit may take to start."""
    monkeypatch.setattr(migrator, "migrations", lambda: [*migrations(), LATER])
    monkeypatch.setattr(migrator, "_PATIENCE_S", 2.0)
    another = await asyncpg.connect(database_url)
    async with backing_up(database_url):
        async with another.transaction():
            await another.execute("select pg_advisory_xact_lock($1)", migrator._LOCK)
            migrating = asyncio.create_task(migrate(database_url))
            await waiting(database_url, "advisory", for_s=2.1)
        await another.close()
        with pytest.raises(MigrationError, match="got no lock"):
            await migrating

    assert [] == caplog.records, "it went on waiting"


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


class Roles:
    """Login roles of one database, gone with the test."""

    def __init__(self, url):
        self.url = url
        self.name = f"reelready_test_{secrets.token_hex(6)}"

    async def run(self, sql, url=""):
        """Run SQL in which ``reelready`` is ours and ``...`` is its password."""
        named = re.sub(r"\breelready(?=_2|_app|\b)", self.name, sql)
        connection = await asyncpg.connect(url or self.url)
        try:
            await connection.execute(named.replace("...", self.name))
        finally:
            await connection.close()

    def as_(self, suffix=""):
        """The database as one of the roles."""
        at = urlsplit(self.url)
        user = f"{self.name}{suffix}:{self.name}@"
        place = user + at.netloc.rpartition("@")[2]
        return urlunsplit(at._replace(netloc=place))


@pytest.fixture
async def roles(empty_database_url):
    """A database whose owner is another, as where Postgres is somebody else's."""
    roles = Roles(empty_database_url)
    await roles.run(
        "revoke create on schema public from public;"
        "create role reelready login password '...';"
    )
    try:
        yield roles
    finally:
        await roles.run(
            "drop owned by reelready; drop role if exists reelready_2, reelready_app;"
            "drop role reelready"
        )


def sql_of(role):
    """Read the SQL that the page has for a kind of role."""
    page = (ROOT / "docs/operating.md").read_text("utf-8")
    [sql] = re.findall(
        rf"^\*\*{role}\*\*.*?^```sql\n(.*?)^```$", page, re.DOTALL | re.MULTILINE
    )
    return sql


async def test_a_role_that_may_not_create_is_told_in_one_line(roles, monkeypatch):
    monkeypatch.setenv("REELREADY_DATABASE_URL", roles.as_())

    code, _, err = await run("migrate")

    assert 1 == code
    assert (
        "Error: REELREADY_DATABASE_URL: Postgres refuses us:"
        " permission denied for schema public\n"
    ) == err


async def test_a_refusal_is_told_without_the_row(empty_database_url, monkeypatch):
    secret = Migration(
        "9999_break.sql",
        "create table once (name text unique); insert into once values ('a'), ('a');",
    )
    monkeypatch.setattr(migrator, "migrations", lambda: [secret])

    with pytest.raises(MigrationError) as refused:
        await migrate(empty_database_url)

    assert "DETAIL" in str(refused.value.__cause__)
    assert "DETAIL" not in str(refused.value)


async def test_gateway_and_worker_need_no_more_than_the_page_grants(
    roles, monkeypatch, caplog
):
    await roles.run("grant create on schema public to reelready")
    await migrate(roles.as_())
    await roles.run("create role reelready_app login password '...'")
    await roles.run(sql_of("A role that only uses the tables"), roles.as_())
    url, life = roles.as_("_app"), {Status.UPLOADED: timedelta(0)}
    caplog.set_level(logging.WARNING)

    assert [] == await migrate(url)
    await migrator.note_schema(url)
    async with Pool(url, max_connections=2) as pool:
        said = Registration(name="a.mp4", content_type="video/mp4", size=1)
        await Files(pool, life).create(FILE, said)
        report = Report(type=ReportType.UPLOADED, occurred_at=datetime.now(UTC))
        incoming = Incoming(FILE, report, webhook_id="w-1", body=b"x")
        answers = await Append(pool, life)([incoming])
        read = await History(pool).read([(FILE, Seq(1))])
        again = timedelta(seconds=1)
        silent = Silent(pool, life, again=again, longest=again)
        claimed = await silent.claim(10)
        await silent.note_unanswered(claimed)
        await silent.put_off(claimed)
        expired = Expired(pool)
        deleted = [
            await expired.delete_ingest_ids(10),
            await expired.delete_progress(10, again),
            await expired.delete_files(10, again),
        ]

    assert [Answer(Outcome.APPLIED, Seq(2))] == answers
    assert 2 == read[FILE, Seq(1)].head
    assert [FILE] == [one.record.state.id for one in claimed]
    assert [0, 0, 0] == deleted
    assert [] == caplog.records

    monkeypatch.setattr(migrator, "migrations", lambda: [*migrations(), LATER])
    refused = (
        f"^REELREADY_DATABASE_URL: {LATER.name}: Postgres refuses us: must be owner"
    )
    with pytest.raises(MigrationError, match=refused):
        await migrate(url)


async def test_a_second_login_role_finds_and_makes_what_the_first_owns(
    roles, monkeypatch
):
    """Where the tables are in a schema named after the first."""
    await roles.run("create schema authorization reelready")
    await migrate(roles.as_())
    await roles.run(sql_of("A second login role"))
    await roles.run("alter role reelready nologin")
    url = roles.as_("_2")

    assert [] == await migrate(url)

    later = Migration("9999_add_later.sql", "create table later ();")
    monkeypatch.setattr(migrator, "migrations", lambda: [*migrations(), later])
    assert [later.name] == await migrate(url)
    connection = await asyncpg.connect(roles.url)
    try:
        where = await connection.fetch(
            "select distinct schemaname, tableowner from pg_tables"
            " where tablename in ('files', 'later', 'schema_migrations')"
        )
    finally:
        await connection.close()
    assert [(roles.name, roles.name)] == [tuple(one) for one in where]
