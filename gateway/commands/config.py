"""
`reelready config`: every setting, its value and its origin.

Secrets are masked.  All that is wrong is said, not only what a start would
stumble over first.
"""

import os
from collections.abc import Mapping

import click
from rich.table import Table
from rich.text import Text

from gateway.commands import output
from gateway.config import Config, SettingLine, describe
from gateway.errors import ConfigError


@click.command(
    epilog="Example:  reelready config | jq -r 'select(.origin == \"missing\").name'"
)
@click.pass_context
def config(ctx: click.Context) -> None:
    """
    Show every setting, its value and its origin.

    Ends with exit code 1 if one is missing or wrong, and says which.
    """
    lines = describe(os.environ)
    if output.is_terminal():
        output.console().print(_table(lines))
    else:
        for line in lines:
            output.json_line(line)
    problems = _problems(os.environ, lines)
    for problem in problems:
        output.problem(output.clean(problem))
    if problems:
        ctx.exit(1)


def _table(lines: list[SettingLine]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("setting", no_wrap=True)
    for title in ("value", "origin", "about"):
        table.add_column(title, overflow="fold")
    for line in lines:
        cells = (line.name, line.value, line.origin, line.about)
        style = "red" if line.origin == "missing" else ""
        table.add_row(*(Text(output.clean(cell)) for cell in cells), style=style)
    return table


def _problems(environ: Mapping[str, str], lines: list[SettingLine]) -> list[str]:
    missing = [
        f"{line.name}: is not set ({line.about})"
        for line in lines
        if line.origin == "missing"
    ]
    return [*_wrong(dict(environ)), *missing]


def _wrong(environ: dict[str, str]) -> list[str]:
    """Each setting that is there and wrong: found, taken away, and so on."""
    wrong: list[str] = []
    for _ in environ.copy():
        try:
            Config.from_env(environ)
        except ConfigError as error:
            if not environ.keys() & {error.setting, f"{error.setting}_FILE"}:
                break
            environ.pop(error.setting, None)
            environ.pop(f"{error.setting}_FILE", None)
            wrong.append(str(error))
        else:
            break
    return wrong
