"""
Where one local cloud keeps its files, and that no other one uses it meanwhile.

Given by `DATA_DIR` it stays; else it is temporary and removed at the end, by
the watchdog if need be.
"""

import contextlib
import fcntl
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

from local.postgres_account import temporary_folder
from local.settings import StartError
from local.watchdog import Watchdog
from local.whole_file import write_whole

_LOCK = "lock"
_TOKEN_SECRET = "token-secret"  # noqa: S105 - the name of a file
_S3_PORT = "s3-port"
_CHILDREN = "children.json"


class DataFolder:
    """The files of one local cloud; made by `opened`."""

    def __init__(self, path: Path, *, is_kept: bool) -> None:
        self.path = path
        self.is_kept = is_kept
        self.logs = path / "logs"
        self.objects = path / "s3"
        self.conversions = path / "conversions"
        for folder in (self.logs, self.objects, self.conversions):
            folder.mkdir(exist_ok=True)

    @property
    def postgres(self) -> Path:
        """The embedded database's own folder."""
        return self.path / "postgres"

    def token_secret(self) -> str:
        """A random secret: watch tokens outlive a restart on a kept folder."""
        file = self.path / _TOKEN_SECRET
        if not file.exists():
            write_whole(file, secrets.token_hex(32), mode=0o600)
        return file.read_text(encoding="ascii")

    def s3_port(self) -> int:
        """The port that the URLs of finished videos name; 0 on a new folder."""
        file = self.path / _S3_PORT
        return int(file.read_text(encoding="ascii")) if file.exists() else 0

    def keep_s3_port(self, port: int) -> None:
        """Name it to every later start; the first one named stays."""
        if not self.s3_port():
            write_whole(self.path / _S3_PORT, str(port))

    def say_children(self, pid_by_name: dict[str, int]) -> None:
        """Write `children.json`, whole at any moment, for tests and people."""
        write_whole(self.path / _CHILDREN, json.dumps(pid_by_name, indent=1))


@contextlib.contextmanager
def opened(path: Path | None, watchdog: Watchdog) -> Iterator[DataFolder]:
    """
    Make or take the folder, and lock it.

    Raises:
        StartError: It cannot be written to, or another local cloud has it.
    """
    with contextlib.ExitStack() as leave:
        if path is None:
            temporary = temporary_folder("reelready-", watchdog, leave)
            yield DataFolder(temporary, is_kept=False)
            return
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = leave.enter_context((path / _LOCK).open("ab"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = DataFolder(path, is_kept=True)
        except BlockingIOError as error:
            msg = f"DATA_DIR: another Reelready is running on {path}"
            raise StartError(msg) from error
        except OSError as error:
            msg = f"DATA_DIR: cannot write to {path}: {error.strerror}"
            raise StartError(msg) from error
        leave.callback((path / _CHILDREN).unlink, missing_ok=True)
        yield folder
