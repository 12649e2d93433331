"""
The processes that `reelready` starts; what they do is in their own modules.

Imported inside each command: a worker needs no web server, and the local cloud
is an extra that a production machine does not install.
"""
# ruff: noqa: PLC0415 - see above

import asyncio
import sys
from pathlib import Path

import click

from gateway.commands import output
from gateway.config import Config, database_url


@click.command(
    epilog="Example:  REELREADY_DATABASE_URL=postgresql://... REELREADY_BUCKET=... reelready serve"
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    metavar="N",
    help="So many gateways on one address, kept alive; SIGHUP replaces them one by one.",
)
@click.option("--place", type=int, hidden=True)
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
@click.option("--sockets", hidden=True)
def serve(
    processes: int | None, place: int | None, folder: Path | None, sockets: str | None
) -> None:
    """
    Run the gateway.

    Needs its settings in the environment; a wrong or missing one ends with exit
    code 2 and one line that names it.  SIGTERM drains.  A listening socket that
    systemd or another parent passes (LISTEN_FDS) stands in for HOST and PORT.
    """
    config = Config.from_env()
    config.refuse_local_secrets()
    if processes is not None:
        from gateway.processes import keep

        sys.exit(keep(processes, config))
    try:
        from gateway.app import run
        from gateway.place import Place
    except ImportError as error:
        raise click.ClickException(f"cannot serve: {error}") from error
    if place is None or folder is None or sockets is None:
        run(config)
    else:
        run(config, Place(place, folder, map(int, sockets.split(","))))


@click.command(
    epilog="Example:  REELREADY_DATABASE_URL=postgresql://... REELREADY_BUCKET=... reelready worker"
)
def worker() -> None:
    """
    Run the reconciler and the janitor, beside the gateway.

    They ask AWS about files that went silent, end those that nobody knows of,
    and delete what is old.  The settings are those of `serve`.
    """
    config = Config.from_env()
    from workers.reconciler import run

    run(config)


@click.command(
    epilog="Example:  REELREADY_REDIS_URL=redis://... REELREADY_DATABASE_URL=postgresql://... reelready relay"
)
def relay() -> None:
    """
    Pass doorbells on to many gateways, by Redis or Valkey.

    It LISTENs once for all gateways that have the same REELREADY_REDIS_URL.  Of
    several relays one works.  The settings are those of `serve`.
    """
    config = Config.from_env()
    from workers.relay import run

    run(config)


@click.command(
    epilog="Example:  REELREADY_DATABASE_URL=postgresql://... reelready migrate"
)
def migrate() -> None:
    """
    Bring the database up to date; doing it twice changes nothing.

    One that a newer release has migrated is left as it is, with a warning.  Needs
    REELREADY_DATABASE_URL only.
    """
    from gateway.telemetry import start_logging
    from workers import migrate as migrator

    start_logging()
    try:
        applied = asyncio.run(migrator.migrate(database_url()))
    except OSError as error:
        setting = "REELREADY_DATABASE_URL"
        raise click.ClickException(f"{setting}: cannot be reached: {error}") from error
    for name in applied:
        if output.is_terminal():
            click.echo(f"applied {name}")
        else:
            output.json_line({"applied": name})
    if not applied and output.is_terminal():
        click.echo("nothing to apply")


@click.command(epilog="Example:  PORT=9000 reelready local")
def local() -> None:
    """
    Run a whole local cloud and the gateway, until Ctrl-C.

    Postgres, S3, MediaConvert and the Lambdas, all on this machine.  PORT changes
    the port, DATABASE_URL uses your own Postgres, DATA_DIR keeps the files.
    """
    try:
        from local.supervisor import main
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"local", "gateway", "workers"}:
            raise
        raise click.ClickException(
            f'{error.name} is not installed: pip install ".[local]" in a clone'
        ) from error
    sys.exit(main())
