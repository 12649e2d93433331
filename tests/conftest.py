"""
What tests of every kind share: a real Postgres and databases on it.

`DATABASE_URL` names a server of your own to test on; the tests then make their
databases there, `reelready_test_...`, and drop them again.
"""

import contextlib
import functools
import logging
import os
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from local.postgres import Postgres

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started by a shell in the background, we and what we start would not be told.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ALONE = ("integration/test_relay.py", "system/", "faults/")
"""
Tests that run browsers, services and clusters and look at clocks: they come after all
others, one after the other ...
"""

BESIDE = (
    "test_cli",
    "test_docker",
    "test_faults_",
    "test_local_",
    "test_main_job",
    "test_readme",
)
"""... but for these modules of them, which only take time."""

MakeDatabase = Callable[[], AbstractAsyncContextManager[str]]


def turn(module: str) -> int:
    """When the tests of a module are run; 0: beside others."""
    path = module.removeprefix("tests/")
    if path.rpartition("/")[2].startswith(BESIDE):
        return 0
    return next((at for at, one in enumerate(ALONE, 1) if path.startswith(one)), 0)


class AloneLast(LoadScopeScheduling):
    """
    Modules that can be run beside each other, then all others in one process.

    By a scheduler and not by groups: pytest-xdist 3.8 marks those in a field that
    pytest 9.2 does not have.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return "alone" if turn(module) else module


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> AloneLast:
    """Take the place of whatever `--dist` names."""
    config.option.loadscopereorder = False
    return AloneLast(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let those that are not run beside others come last."""
    items.sort(key=lambda item: turn(item.nodeid.partition("::")[0]))


@dataclass
class RestartableDatabase:
    """A migrated database on a server that a test may restart."""

    url: str
    postgres: Postgres

    async def restart(self) -> None:
        """Break every connection; the URL stays."""
        await self.postgres.restart()


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Take back what a gateway that ran in this process made of the log."""
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    for name in ("reelready.access", "aiohttp.server"):
        logging.getLogger(name).disabled = False


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[Postgres]:
    """The embedded server, whether or not there is a `DATABASE_URL`."""
    async with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> str:
    """Where databases are made: `DATABASE_URL`, else the embedded server."""
    own = os.environ.get("DATABASE_URL")
    if own:
        return own
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.url


@pytest.fixture
def make_database(server_url: str) -> MakeDatabase:
    """`async with make_database() as url:` for tests that need several."""
    return functools.partial(_database, server_url)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """
    A temporary folder that other users may pass through.

    Root's Postgres runs as somebody else, and pytest closes `tmp_path` to them.
    """
    with tempfile.TemporaryDirectory(prefix="rr-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated_template(server_url: str) -> AsyncIterator[str]:
    """Name of a migrated database on `server_url`, to copy from."""
    async with _database(server_url) as url:
        await _migrate(url)
        yield _name_of(url)


@pytest_asyncio.fixture
async def empty_database_url(server_url: str) -> AsyncIterator[str]:
    """A new database with nothing in it, not even our tables."""
    async with _database(server_url) as url:
        yield url


@pytest_asyncio.fixture
async def database_url(server_url: str, migrated_template: str) -> AsyncIterator[str]:
    """A new, migrated, empty database."""
    async with _database(server_url, template=migrated_template) as url:
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_database_url(
    server_url: str, migrated_template: str
) -> AsyncIterator[str]:
    """One migrated database for all tests that keep to their own files."""
    async with _database(server_url, template=migrated_template) as url:
        yield url


@pytest_asyncio.fixture
async def restartable_database(
    postgres: Postgres,
) -> AsyncIterator[RestartableDatabase]:
    """A new, migrated, empty database on the embedded server."""
    async with _database(postgres.url) as url:
        await _migrate(url)
        yield RestartableDatabase(url, postgres)


@contextlib.asynccontextmanager
async def _database(
    server_url: str, *, template: str = "template0"
) -> AsyncIterator[str]:
    name = f"reelready_test_{secrets.token_hex(6)}"
    async with _connection(server_url) as connection:
        # Copying the files takes half as long as logging them; since Postgres 15.
        copies = connection.get_server_version().major >= 15
        await connection.execute(
            f"CREATE DATABASE {name} TEMPLATE {template}"
            + " STRATEGY file_copy" * copies
        )
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        async with _connection(server_url) as connection:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.asynccontextmanager
async def _connection(
    server_url: str,
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(server_url)
    try:
        yield connection
    finally:
        await connection.close()


async def _migrate(url: str) -> None:
    # Imported here: most tests need neither the tables nor the migrator.
    from workers.migrate import migrate  # noqa: PLC0415 - see above

    await migrate(url)


def _name_of(url: str) -> str:
    return urlsplit(url).path.lstrip("/")
