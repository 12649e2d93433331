"""
What a person may set for the local cloud, read once from the environment.

A wrong value stops the start with one line that names the setting.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.database_url import is_database_url
from local.faults import VARIABLE as FAULTS
from local.faults import Faults

_DEFAULT_PORT = 8080
_DEFAULT_STATUS_INTERVAL_S = 1.0
_STATUS_INTERVAL = "REELREADY_LOCAL_STATUS_SECONDS"
_MAX_PORT = 65_535


class UsageError(Exception):
    """A setting cannot be understood; exit code 2."""


class StartError(Exception):
    """The local cloud cannot start, or not go on; exit code 1."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    The settings of one local cloud.

    Attributes:
        port: Of the gateway, on 127.0.0.1; 0 is any free one.
        database_url: A Postgres of your own; empty for the embedded one.
        data_dir: Where uploads, renditions, logs and the embedded database
            stay; None for a temporary folder that is removed at the end.
        faults: What happens to events on their way to the Lambda functions.
        status_interval_s: Between two progress events of a conversion; AWS has
            10 s and more, too long for a short clip.
    """

    port: int = _DEFAULT_PORT
    database_url: str = ""
    data_dir: Path | None = None
    faults: Faults = field(default_factory=Faults)
    status_interval_s: float = _DEFAULT_STATUS_INTERVAL_S

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """
        Read `PORT`, `DATABASE_URL`, `DATA_DIR` and the two for tests.

        Raises:
            UsageError: One of them cannot be understood; the text names it.
        """
        data_dir = environ.get("DATA_DIR")
        return cls(
            port=_port(environ.get("PORT", "")),
            database_url=_database_url(environ.get("DATABASE_URL", "")),
            data_dir=Path(data_dir).expanduser().absolute() if data_dir else None,
            faults=_faults(environ.get(FAULTS, "")),
            status_interval_s=_seconds(environ.get(_STATUS_INTERVAL, "")),
        )


def _port(text: str) -> int:
    if not text:
        return _DEFAULT_PORT
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > _MAX_PORT:
        msg = f"PORT: {text!r} is not a port"
        raise UsageError(msg)
    return int(text)


def _seconds(text: str) -> float:
    if not text:
        return _DEFAULT_STATUS_INTERVAL_S
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not float(text):
        msg = f"{_STATUS_INTERVAL}: {text!r} is not a number of seconds"
        raise UsageError(msg)
    return float(text)


def _database_url(text: str) -> str:
    if text and not is_database_url(text):
        msg = (
            "DATABASE_URL: it is not postgresql://user:password@host:port/database "
            "(in the password, write @ as %40, / as %2F and so on)"
        )
        raise UsageError(msg)
    return text


def _faults(text: str) -> Faults:
    try:
        return Faults.parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from error
