"""
Which gateway a command asks, and with which key.

The key is never printed, and without one only the gateway of this machine is
asked: its key is no secret.
"""

import functools
import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from gateway.client import Client
from gateway.config import LOCAL_API_KEY
from gateway.errors import ConfigError

_KEY = "REELREADY_API_KEY"


def with_client(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--url` and `--api-key`, and what they name as `client`."""

    @click.option(
        "--url",
        envvar="REELREADY_URL",
        default="http://127.0.0.1:8080/",
        show_default=True,
        show_envvar=True,
        callback=_checked_url,
        help="The gateway.",
    )
    @click.option(
        "--api-key",
        envvar=_KEY,
        show_envvar=True,
        metavar="KEY",
        help="Its API key, or REELREADY_API_KEY_FILE; on this machine: local.",
    )
    @functools.wraps(function)
    def command(*args: Any, url: str, api_key: str | None, **options: Any) -> None:
        client = Client(url, api_key=_checked_key(url, api_key))
        function(*args, client=client, **options)

    return command


def _checked_url(_ctx: click.Context, _param: click.Parameter, url: str) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not plain:
        raise click.BadParameter("is not a URL like https://video.example.com/")
    return url


def _checked_key(url: str, api_key: str | None) -> str:
    key = (api_key or _key_from_file() or "").strip()
    if not key and _is_loopback(urlsplit(url).hostname or ""):
        return LOCAL_API_KEY
    if not key:
        raise ConfigError(_KEY, f"is not set, and {url} is not on this machine")
    if not key.isascii() or not key.isprintable():
        raise ConfigError(_KEY, "holds characters that no API key has")
    return key


def _key_from_file() -> str | None:
    if not (path := os.environ.get(f"{_KEY}_FILE")):
        return None
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{_KEY}_FILE", f"cannot be read: {error}") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
