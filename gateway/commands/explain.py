"""
`reelready explain`: one file's whole story, every event, who sent it, when.

The order is that of the table (seq); what a sender's clock says is shown as how
much later it was recorded here, never used to sort.
"""

import asyncio
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

import click
import msgspec
from msgspec import Struct
from rich.table import Table
from rich.text import Text

from gateway.client import Client, NotAGatewayError, RefusedError
from gateway.commands import output
from gateway.commands.where import with_client
from gateway.model import LEAP, FileState

_NARROW = 100
"""Columns; with fewer a long sender would be folded where it hurts."""


class StoryEvent(Struct, frozen=True, kw_only=True):
    """One accepted change, with where it came from."""

    seq: int
    type: str
    sender: str | None = None
    occurred_at: datetime | None = None
    recorded_at: datetime
    state: FileState


@click.command(
    epilog="Example:  reelready explain 0199a7c2-... | jq '.events[].state.status'"
)
@click.argument("file_id", metavar="ID")
@with_client
def explain(file_id: str, client: Client) -> None:
    """
    Tell one file's whole story.

    Every event: when it was recorded, how long after the one before, how much
    later than it happened, what it was and who sent it.  Piped, it is one JSON
    document in a line, of what the gateway gave.
    """
    story = asyncio.run(_history(client, file_id))
    if not output.is_terminal():
        output.json_line(story)
        return
    try:
        file = msgspec.convert(story["file"], FileState)
        events = msgspec.convert(story["events"], list[StoryEvent])
    except msgspec.ValidationError as error:
        raise NotAGatewayError("the answer", f"is no story: {error}") from error
    console = output.console()
    console.print(Text(f"{output.clean(file.name)}, {file.size} bytes, {file.id}"))
    console.print(_table(events, narrow=console.width < _NARROW))
    console.print(Text(output.words(file)))
    if file.playback is not None:
        console.print(Text(file.playback.hls_url), soft_wrap=True)


async def _history(client: Client, file_id: str) -> dict[str, Any]:
    async with client:
        try:
            return await client.history(file_id)
        except RefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            raise click.ClickException(f"{file_id}: {output.why(error)}") from error


def _table(events: list[StoryEvent], *, narrow: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("seq", "recorded", "since", "lag"):
        table.add_column(title, justify="right", no_wrap=True)
    for title, min_width in (("event", 10), ("state", 15), ("sent by", 14)):
        table.add_column(title, overflow="fold", min_width=min_width)
    before: StoryEvent | None = None
    for event in events:
        if before is not None and event.seq > before.seq + 1:
            table.add_row("...", "", "", "", "", _missing(before.seq, event.seq))
        if before is None or _day(event) != _day(before):
            table.add_row("", _day(event))
        table.add_row(*map(Text, _cells(event, before, narrow=narrow)))
        before = event
    return table


def _day(event: StoryEvent) -> str:
    return event.recorded_at.astimezone().strftime("%Y-%m-%d")


def _missing(before: int, after: int) -> str:
    if after - before > LEAP:
        return "a failover or a restore"
    return "progress, no longer kept"


def _cells(
    event: StoryEvent, before: StoryEvent | None, *, narrow: bool
) -> tuple[str, ...]:
    at = event.recorded_at.astimezone()
    sender = output.clean(event.sender or "")
    lag = event.recorded_at - event.occurred_at if event.occurred_at else None
    return (
        str(event.seq),
        f"{at:%H:%M:%S}.{at.microsecond // 1000:03}",
        _span(event.recorded_at - before.recorded_at) if before else "",
        _span(lag) if lag is not None else "",
        output.clean(event.type),
        output.words(event.state),
        _in_two_lines(sender) if narrow else sender,
    )


def _in_two_lines(sender: str) -> str:
    words = sender.split("_")
    half = (len(words) + 1) // 2
    return "_\n".join("_".join(one) for one in (words[:half], words[half:]) if one)


def _span(span: timedelta) -> str:
    sign, seconds = "-" * (span < timedelta()), abs(span.total_seconds())
    if seconds < 1:
        return f"{sign}{seconds * 1000:.0f} ms"
    if seconds < 120:  # noqa: PLR2004 - two minutes still read well in seconds
        return f"{sign}{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{sign}{hours} h {minutes:02} m"
        if hours
        else f"{sign}{minutes} m {seconds:02} s"
    )
