"""
`reelready`: one door to every process and every question.

A command is imported when it is asked for, so `--help` is quick and a gateway
in production never loads what draws progress bars.

Exit codes: 0 done, 1 failed, 2 usage or a wrong setting, 130 interrupted.
"""

import errno
import os
from importlib import import_module
from typing import Any

import click

from gateway.config import unknown
from gateway.errors import ConfigError, GatewayError

_INTERRUPTED = 130

COMMANDS = {
    "serve": ("services", "Run the gateway."),
    "worker": ("services", "Run the reconciler and the janitor."),
    "relay": ("services", "Pass doorbells on to many gateways, by Redis or Valkey."),
    "migrate": ("services", "Bring the database up to date."),
    "local": ("services", "Run a whole local cloud and the gateway."),
    "upload": ("upload", "Upload videos, and watch them become playable."),
    "watch": ("watch", "Follow files until each has ended."),
    "explain": ("explain", "Tell one file's whole story."),
    "token": ("token", "Mint a watch token."),
    "doctor": ("doctor", "Find out what is wrong, and say what to do."),
    "config": ("config", "Show every setting, its value and its origin."),
}
"""Name: module of `gateway.commands`, and what the list of commands says."""


class Commands(click.Group):
    """Finds commands by name, and turns what went wrong into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Give the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"gateway.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the list without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; the only place where errors become exit codes."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except GatewayError as error:
            raise _failure(error) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            raise _failure(error) from error


class _SettingFailure(click.ClickException):
    exit_code = 2


def _failure(error: Exception) -> click.ClickException:
    kind = _SettingFailure if isinstance(error, ConfigError) else click.ClickException
    return kind(" ".join(str(error).split()))


@click.group(
    cls=Commands,
    epilog="Settings are environment variables; `reelready config` lists them.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="reelready")
def main() -> None:
    """
    Know the moment your video is ready.

    On a terminal the answers are for people; piped, they are JSON lines.
    """
    for line in unknown(os.environ):
        click.echo(f"Warning: {line}", err=True)
