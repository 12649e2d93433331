"""
`reelready token`: a watch token, minted here.

No gateway is asked and only REELREADY_TOKEN_SECRETS is needed, as in a team's
own back end with any JWT library.

Source: docs/protocol.md; RFC 7519.
"""

import re
import time
from datetime import UTC, datetime

import click

from gateway.auth import AUDIENCE
from gateway.commands import output
from gateway.config import token_secrets
from gateway.protocol import jws

_FILE_ID = re.compile(r"[0-9a-z-]{1,64}", re.ASCII)
_LIFE = re.compile(r"(\d{1,9})([smhd]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_MAX_LIFE_S = 31_536_000


def _file_ids(
    _ctx: click.Context, _param: click.Parameter, ids: tuple[str, ...]
) -> list[str]:
    for one in ids:
        if not _FILE_ID.fullmatch(one):
            raise click.BadParameter(f"{one!r} is not a file id")
    return list(ids)


def _life_s(_ctx: click.Context, _param: click.Parameter, text: str) -> int:
    match = _LIFE.fullmatch(text)
    life_s = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 1 <= life_s <= _MAX_LIFE_S:
        raise click.BadParameter(f"{text!r} is not like 90, 15m, 12h or 7d, up to 365d")
    return life_s


@click.command(
    epilog="""Example:

    \b
      TOKEN=$(reelready token --file "$ID" --plain)
      curl -N -H "Authorization: Bearer $TOKEN" \\
        -H 'Accept: text/event-stream' "$URL/v1/files/$ID/events"
    """
)
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="ID",
    callback=_file_ids,
    help="A file it may watch; can be repeated.",
)
@click.option("--owner", metavar="NAME", help="Whose files it may watch.")
@click.option(
    "--ttl",
    "life_s",
    default="24h",
    show_default=True,
    metavar="TIME",
    callback=_life_s,
    help="How long it lasts: 90 (seconds), 15m, 12h, 7d.",
)
@click.option("--plain", is_flag=True, help="Only the token, for $(...).")
def token(files: list[str], owner: str | None, life_s: int, plain: bool) -> None:  # noqa: FBT001 - click gives flags as arguments
    """
    Mint a watch token.

    Signed with the first of REELREADY_TOKEN_SECRETS, the only setting it needs.
    """
    if not files and not owner:
        raise click.UsageError("say for whom: --file ID or --owner NAME")
    now_s = int(time.time())
    claims: dict[str, object] = {
        "aud": AUDIENCE,
        "iat": now_s,
        "exp": now_s + life_s,
    }
    claims |= {"files": files} if files else {}
    claims |= {"owner": owner} if owner else {}
    minted = jws.sign(claims, token_secrets()[0].encode())
    if plain or output.is_terminal():
        click.echo(minted)
    else:
        expires_at = datetime.fromtimestamp(now_s + life_s, UTC)
        output.json_line({"token": minted, "expires_at": expires_at})
