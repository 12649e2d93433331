"""
The process and the files of one embedded server; everything here blocks.

A folder that was made ready is marked so by its last file, the password: a
first start that was cut short starts over.
"""

import contextlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from local.postgres_account import Account, PostgresError
from local.watchdog import GO, Watchdog, held
from local.whole_file import write_whole

LOOPBACK = "127.0.0.1"

_NAME = "reelready"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.01
_PORT_ATTEMPTS = 5

# One developer, small data: little memory and no processes that only wait.
_SETTINGS = {
    "listen_addresses": LOOPBACK,
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
_ACCESS = f"host all,replication all {LOOPBACK}/32 scram-sha-256\n"


class Server:
    """
    One server.

    Args:
        folder: Of the data, the password and the log.
        binaries: Where `initdb` and `postgres` are.
        account: Who runs them.
        watchdog: Ends the server when this process dies.
        is_thrown_away: The data need not outlive a crash of the machine.
        settings: Besides ours, or instead of them.
    """

    process: subprocess.Popen[bytes]

    def __init__(
        self,
        folder: Path,
        binaries: Path,
        account: Account,
        watchdog: Watchdog,
        *,
        is_thrown_away: bool,
        settings: Mapping[str, str],
    ) -> None:
        self.log = folder / "postgres.log"
        self.port = 0
        self.password = ""
        self._data = folder / "data"
        self._password_file = folder / "password"
        self._binaries = binaries
        self._account = account
        self._watchdog = watchdog
        thrown_away = _THROW_AWAY_SETTINGS if is_thrown_away else {}
        self._settings = {**_SETTINGS, **thrown_away, **settings}

    @property
    def url(self) -> str:
        return f"postgresql://{_NAME}:{self.password}@{LOOPBACK}:{self.port}/{_NAME}"

    def initialise(self) -> None:
        """Make the cluster, its password and its database, unless they are there."""
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
        write_whole(self._password_file, self.password, mode=0o600)

    def _run(self, command: list[str], source: str = "") -> None:
        """Run one of the binaries on the data folder to its end."""
        process = self._begin(self._command(*command), by=signal.SIGKILL)
        process.communicate(GO + source.encode(), timeout=_START_TIMEOUT_S)
        self._watchdog.forget(process.pid)
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
        command = self._command("postgres", *options)
        self.process = self._begin(command, by=signal.SIGINT)
        assert self.process.stdin is not None  # noqa: S101 - it was asked for
        with self.process.stdin as source:
            source.write(GO)
        return self._wait_until_ready()

    def _begin(
        self, command: list[str], *, by: signal.Signals
    ) -> subprocess.Popen[bytes]:
        """Start it, held, and have the watchdog end it by this signal."""
        with self.log.open("wb") as log:
            process = self._account.start(
                held(command), folder=self._data, output=log, source=subprocess.PIPE
            )
        self._watchdog.end(process.pid, by=by)
        return process

    def _wait_until_ready(self) -> bool:
        """As pg_ctl does: line 1 of the lock file is our pid, line 8 the state."""
        lock_file = self._data / "postmaster.pid"
        deadline = time.monotonic() + _START_TIMEOUT_S
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                # Bytes: it names the folder, in whatever encoding.
                lines = lock_file.read_bytes().split()
                if lines[:1] == [b"%d" % self.process.pid] and lines[-1] == b"ready":
                    return True
            time.sleep(_POLL_S)
        return False


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


def _last_line(log: Path) -> str:
    """The last complaint without its time stamp, else the last line."""
    lines = log.read_text(errors="replace").splitlines()
    complaints = [" ".join(found.split()) for found in map(_complaint, lines) if found]
    return (complaints or lines or ["it said nothing"])[-1]


def _complaint(line: str) -> str:
    found = _COMPLAINT.search(line)
    return found[0] if found else ""
