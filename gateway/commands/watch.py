"""
`reelready watch`: each new state of some files, until all have ended.

The first question is asked once and fails at once: a wrong address, key or id
is said, while a gateway that goes away later is waited for.
"""

import asyncio

import click

from gateway.client import Client, Connection
from gateway.commands import output
from gateway.commands.where import with_client
from gateway.errors import GatewayError
from gateway.model import FileState, Status

BUSY = "the gateway is busy, asking now and then"
LOST = "the gateway does not answer, trying again"


class Outage:
    """Tells a gateway that is away from a stream that only begins anew."""

    def __init__(self) -> None:
        self._failures = 0

    def begins(self, how: Connection) -> bool:
        """Whether to say now, once, that the connection is lost."""
        if how in {"live", "busy"}:
            self._failures = 0
        elif how == "offline":
            self._failures += 1
        return how == "offline" and self._failures == 2  # noqa: PLR2004 - the first one just ended


@click.command(epilog="Example:  reelready watch 0199a7c2-... | jq -r .status")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@with_client
@click.pass_context
def watch(ctx: click.Context, ids: tuple[str, ...], client: Client) -> None:
    """
    Follow files until each has ended.

    Prints every new state; piped, as FILE documents, one in a line.  Ends with
    exit code 1 if one did not become playable.
    """
    if not all(asyncio.run(_watch_all(client, ids))):
        ctx.exit(1)


async def _watch_all(client: Client, ids: tuple[str, ...]) -> list[bool]:
    unique = list(dict.fromkeys(ids))
    async with client:
        lines = [_Lines(file_id, with_id=len(unique) > 1) for file_id in unique]
        return await asyncio.gather(*(_watch(client, one) for one in lines))


async def _watch(client: Client, lines: "_Lines") -> bool:
    try:
        state = await client.file(lines.file_id)
        lines.state(state)
        if not state.status.terminal:
            async for newer in client.watch(
                lines.file_id, after=state.seq, on_connection=lines.connection
            ):
                state = newer
                lines.state(state)
    except GatewayError as error:
        output.problem(f"{lines.file_id}: {output.why(error)}")
        return False
    return state.status is Status.PLAYABLE


class _Lines:
    """What is said of one file."""

    def __init__(self, file_id: str, *, with_id: bool) -> None:
        self.file_id = file_id
        self._with_id = with_id
        self._outage = Outage()

    def state(self, state: FileState) -> None:
        if not output.is_terminal():
            output.json_line(state)
            return
        at = state.updated_at.astimezone().strftime("%H:%M:%S")
        name = output.clean(state.name)
        who = f"{state.id}  {name}" if self._with_id else name
        click.echo(f"{at}  {who}  {output.words(state)}")
        if state.playback is not None:
            click.echo(state.playback.hls_url)

    def connection(self, how: Connection) -> None:
        if self._outage.begins(how):
            click.echo(f"{self.file_id}: {LOST}", err=True)
