"""
How the commands speak: to a person on a terminal, else in JSON lines.

Names and texts come from other people; on a terminal they must stay text, so
nothing reaches it that moves a cursor, turns text around or is markup.
"""

import re
import sys

import click
import msgspec
from rich.console import Console

from gateway.client import RefusedError
from gateway.errors import UnavailableError
from gateway.model import FileState, Phase, Status

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_UNAUTHORIZED = 401

_PHASES = {
    None: "converting",
    Phase.PROBING: "looking at the video",
    Phase.TRANSCODING: "converting",
    Phase.UPLOADING: "storing the result",
}
_STEPS = {
    Status.AWAITING_UPLOAD: "waiting for the upload",
    Status.UPLOADED: "waiting for the conversion",
}


def is_terminal() -> bool:
    """Whether a person reads what is printed."""
    return sys.stdout.isatty()


def console() -> Console:
    """Make the terminal as rich writes to it, with all text left as it is."""
    return Console(markup=False, highlight=False, emoji=False)


def json_line(value: object) -> None:
    """Print one value for a program."""
    click.echo(msgspec.json.encode(value))


def problem(text: str) -> None:
    """Say on standard error, in one line, what went wrong."""
    click.echo(f"Error: {text}", err=True)


def clean(text: str) -> str:
    """Give text that stays in its place on a terminal."""
    return _UNSAFE.sub("\ufffd", text)


def why(error: Exception) -> str:
    """Say an error in one line, with the setting to look at."""
    text = clean(" ".join(str(error).split()))
    if isinstance(error, RefusedError) and error.status == _UNAUTHORIZED:
        return f"{text} (--api-key, REELREADY_API_KEY)"
    if isinstance(error, UnavailableError) and isinstance(error.__cause__, OSError):
        return f"{text} (--url, REELREADY_URL)"
    return text


def words(state: FileState) -> str:
    """Say where a file stands."""
    if state.status is Status.CONVERTING:
        percent = "" if state.percent is None else f" {state.percent} %"
        return _PHASES[state.phase] + percent
    if state.error is not None:
        return f"{state.status.value}: {clean(state.error.message)}"
    return _STEPS.get(state.status, state.status.value)
