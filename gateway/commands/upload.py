"""
`reelready upload`: bytes on their way, then the conversion, to the playback URL.

Every file stands for itself: one that fails is said, and the others go on.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import click

from gateway.client import Client, NotPlayableError
from gateway.commands import output
from gateway.commands.progress import Bars, Lines, Shown
from gateway.commands.where import with_client
from gateway.errors import GatewayError
from gateway.model import Status

MAX_UPLOADS = 4
"""Files that are sent at the same time."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the options ask for; None where the file itself tells."""

    name: str | None
    content_type: str | None
    owner: str | None
    watch: bool


@click.command(epilog="Example:  reelready upload clip.mp4 --watch")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--watch", is_flag=True, help="Follow each file until it plays.")
@click.option("--name", help="What people see, for one file; default: its own name.")
@click.option("--content-type", metavar="TYPE", help="Default: guessed from the name.")
@click.option("--owner", metavar="NAME", help="Whose it is, for watch tokens by owner.")
@with_client
@click.pass_context
def upload(
    ctx: click.Context,
    files: tuple[Path, ...],
    client: Client,
    name: str | None,
    content_type: str | None,
    owner: str | None,
    watch: bool,  # noqa: FBT001 - click gives flags as arguments
) -> None:
    """
    Upload videos, and watch them become playable.

    On a terminal it prints a link to the page that lets anybody watch, and with
    --watch, at the end, the playback URL.  Piped, every new state is a FILE
    document in a line.  Ends with exit code 1 if one file failed.
    """
    if name is not None and len(files) > 1:
        raise click.BadOptionUsage("--name", "--name is for one file")
    wanted = _Wanted(name, content_type, owner, watch)
    several = len(files) > 1
    with Bars(several=several) if output.is_terminal() else Lines() as shown:
        done = asyncio.run(_upload_all(client, files, wanted, shown))
    if not all(done):
        ctx.exit(1)


async def _upload_all(
    client: Client, files: tuple[Path, ...], wanted: _Wanted, shown: Shown
) -> list[bool]:
    slots = asyncio.Semaphore(MAX_UPLOADS)
    async with client:
        return await asyncio.gather(
            *(_upload(client, path, wanted, shown, slots) for path in files)
        )


async def _upload(
    client: Client,
    path: Path,
    wanted: _Wanted,
    shown: Shown,
    slots: asyncio.Semaphore,
) -> bool:
    row = None
    try:
        async with slots:
            size_bytes = (await asyncio.to_thread(path.stat)).st_size
            row = shown.row(path.name, size_bytes)
            registered = await client.upload(
                path,
                name=wanted.name,
                content_type=wanted.content_type,
                owner=wanted.owner,
                on_bytes=row.sent,
            )
        row.page(registered.page_url)
        row.state(registered.file)
        if not wanted.watch:
            row.sent_all(registered.file)
            return True
        state = registered.file
        async for newer in client.watch(
            state.id, after=registered.watch.after, on_connection=row.connection
        ):
            state = newer
            row.state(state)
        if state.status is not Status.PLAYABLE:
            raise NotPlayableError(state)
        row.playable(state)
    except BrokenPipeError:
        raise
    except (GatewayError, OSError) as error:
        shown.failed(row, path.name, output.why(error))
        return False
    return True
