"""
`reelready local`: the local cloud in the foreground, until it is told to stop.

One line on standard output says where it runs, when it does.  Everything else,
which is only problems, goes to standard error; details go to the log files.
"""

import asyncio
import os
import signal
import sys

from gateway.errors import ConfigError
from local.cloud import local_cloud
from local.environment import without_aws
from local.postgres import PostgresError
from local.settings import Settings, StartError, UsageError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FAILED = 1
_USAGE = 2


def main() -> int:
    """
    Run until SIGINT, SIGTERM or SIGHUP, with settings from the environment.

    Returns:
        Exit code: 0 told to stop, 1 could not start, 2 a setting makes no sense.
    """
    try:
        settings = Settings.from_env()
    except UsageError as error:
        _say(f"Reelready cannot start: {error}")
        return _USAGE
    # This process talks to its own stand-ins through AWS's client, too.
    clean = without_aws(os.environ)
    os.environ.clear()
    os.environ.update(clean)
    return asyncio.run(run(settings))


async def run(settings: Settings) -> int:
    """Run until told to stop; the value is an exit code as of `main`."""
    told = _cancelled_by_signals()
    try:
        async with local_cloud(settings, environ=os.environ, say=_say) as url:
            print(f"Reelready is running: {url}", flush=True)  # noqa: T201 - its purpose
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not told.is_set():
            raise
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        _say(f"Reelready cannot start: {reason}")
        return _USAGE if isinstance(error, ConfigError) else _FAILED
    return 0


def _cancelled_by_signals() -> asyncio.Event:
    """Cancel this task at the first signal; the others must not disturb the end."""
    told = asyncio.Event()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - we are in one

    def tell() -> None:
        if not told.is_set():
            told.set()
            task.cancel()

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, tell)
    return told


def _reason(error: BaseException) -> str | None:
    """Why it cannot start, in one line; None for what is a bug."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_reason, error.exceptions)), None)
    known = isinstance(error, (StartError, PostgresError, ConfigError))
    return str(error) if known else None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - its purpose
