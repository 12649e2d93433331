"""
Statements find rows by key, whatever Postgres believes of the tables.

The worst it can believe: tables were vacuumed while (almost) empty, sessions keep the
plans they made then, and what has come since is not counted yet.
"""

import importlib
import pkgutil
import re
from contextlib import asynccontextmanager

import msgspec
import pytest

from gateway import store
from gateway.store import append, backlog, expired, files, history, silent
from gateway.store.pool import Pool

TABLES = ("files", "events", "ingest_ids")
ROWS = 3000
ASKED = 2
MOST_TOUCHED = 10

FILES = "array['f-7', 'f-2007']"
STAGES = "array['converting'], array[interval '1 hour']"
AGE = "interval '1 day'"
DUE = "array['2001-01-01', '2001-01-01']::timestamptz[]"
SERVER = "pg_postmaster_start_time()"
SAID = """'[
    {"file_id": "f-7", "seq": 3, "state": "{}", "type": "progress",
     "occurred_at": "2026-01-01T00:00:00Z", "rests_on": 2, "status": "converting",
     "attempt": 1, "jobs": "{}"},
    {"file_id": "f-2007", "seq": 3, "state": "{}", "type": "progress",
     "occurred_at": "2026-01-01T00:00:00Z", "rests_on": 2, "status": "converting",
     "attempt": 1, "jobs": "{}"}
]'"""
HEARD = """'[
    {"webhook_id": "new", "digest": "00", "outcome": "applied", "seq": 3}
]'"""

STATEMENTS = {
    "append_read": (append._READ, f"{FILES}, array['w-7', 'w-2007']"),
    "append_write": (
        append._WRITE,
        f"{SAID}, {ASKED}, now(), {HEARD}, now(), 'ring', array['f-7 3'], '', {SERVER}",
    ),
    "register": (
        files._CREATE,
        "'new', 1, 'converting', null, '{}', '2001-01-01', '2001-01-01'",
    ),
    "read": (history._READ, f"{FILES}, array[0, -1]"),
    "cut_off": (history._CUT_OFF, f"{FILES}, array[0, 0], array[1, 1], array[2, 2]"),
    "moved": (history._MOVED, f"{FILES}, array[1, 1], array[1, 1]"),
    "story": (history._STORY, "'f-7', 0"),
    "claim": (
        silent._CLAIM,
        f"{ASKED}, {STAGES}, interval '1 hour', interval '1 hour'",
    ),
    "put_off": (
        silent._PUT_OFF,
        f"{FILES}, {DUE}, array[true, false], {STAGES}, interval '1 hour', interval '1 hour'",
    ),
    "note_at_work": (silent._NOTE_AT_WORK, f"{FILES}, array[2, 2], {AGE}"),
    "note_unanswered": (silent._NOTE_UNANSWERED, f"{FILES}, {DUE}, array[true, false]"),
    "delete_ingest_ids": (expired._DELETE_INGEST_IDS, f"{ASKED}"),
    "delete_progress": (expired._DELETE_PROGRESS, f"{ASKED}, {AGE}"),
    "delete_files": (expired._DELETE_FILES, f"{ASKED}, {AGE}"),
    "look": (backlog._LOOK, f"{ASKED}, {STAGES}, {AGE}"),
}

# All are due, none is by itself a reason to read them all: half of the files wait for
# the reconciler and half for the janitor.
FILL = f"""
with file as (
    insert into files
        (id, seq, status, attempt, state, jobs, deadline_at, created_at)
    select 'f-' || n, 2, case when n % 2 = 0 then 'expired' else 'converting' end, 1,
           '{{"updated_at":"2001-01-01T00:00:00Z"}}', '{{}}', '2001-01-01', '2001-01-01'
    from generate_series($1::int, $2) as n
), event as (
    insert into events (file_id, seq, type, occurred_at, recorded_at, state)
    select 'f-' || n, seq, 'progress', '2001-01-01', '2001-01-01', '{{}}'
    from generate_series($1::int, $2) as n, generate_series(1, {ASKED}) as seq
)
insert into ingest_ids (webhook_id, digest, outcome, seq, expires_at)
select 'w-' || n, '', 'applied', 1, '2001-01-01' from generate_series($1::int, $2) as n
"""


@asynccontextmanager
async def taken_back(connection):
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


def touched(plan):
    """Count the rows that a plan has read from tables, whatever it did with them."""
    rows = sum(touched(part) for part in plan.get("Plans", ()))
    if plan["Node Type"].endswith("Scan") and "Relation Name" in plan:
        each = plan["Actual Rows"] + sum(
            number for key, number in plan.items() if key.startswith("Rows Removed by")
        )
        rows += each * plan["Actual Loops"]
    return rows


@pytest.fixture
async def session(database_url):
    """As the store has it: its settings, and its statements in their own words."""
    async with (
        Pool(database_url, max_connections=1, statement_timeout_s=20) as pool,
        pool.acquire() as connection,
    ):
        yield connection


def test_every_statement_on_our_tables_is_looked_at():
    on_them = re.compile(rf"\b(from|join|into|update) ({'|'.join(TABLES)})\b")
    modules = pkgutil.iter_modules(store.__path__, f"{store.__name__}.")
    written = {
        value
        for module in modules
        for name, value in vars(importlib.import_module(module.name)).items()
        if re.fullmatch("_[A-Z_]+", name) and on_them.search(str(value))
    }

    assert written == {sql for sql, _ in STATEMENTS.values()}


@pytest.mark.parametrize("rows_then", [0, 1])
async def test_no_statement_reads_a_table_that_was_small_when_it_was_planned(
    session, rows_then
):
    for table in TABLES:
        await session.execute(f"alter table {table} set (autovacuum_enabled = false)")
    await session.fetch(FILL, 1, rows_then)
    for table in TABLES:
        await session.execute(f"vacuum analyze {table}")
    for name, (sql, arguments) in STATEMENTS.items():
        await session.execute(f"prepare {name} as {sql}")
        await session.fetch(f"explain execute {name} ({arguments})")

    await session.fetch(FILL, rows_then + 1, ROWS)

    rows = {}
    for name, (_, arguments) in STATEMENTS.items():
        async with taken_back(session):
            explained = await session.fetchval(
                f"explain (analyze, format json) execute {name} ({arguments})"
            )
        rows[name] = touched(msgspec.json.decode(explained)[0]["Plan"])

    assert {} == {name: n for name, n in rows.items() if n > MOST_TOUCHED}
