"""
Every setting and every limit, read once from the environment and checked.

A wrong or missing one stops the start with one line that names it.  Units are
in the names; lists are separated by commas; a secret `NAME` may also come from
the file named by `NAME_FILE`.
"""

import base64
import binascii
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import timedelta
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.errors import ConfigError
from gateway.model import Status

PREFIX = "REELREADY_"
MIN_SECRET_CHARS = 32

LOCAL_API_KEY = "local"
LOCAL_INGEST_SECRET = "whsec_cmVlbHJlYWR5LWxvY2FsLW9ubHktc2VjcmV0LTAwMDE="  # noqa: S105 - public on purpose, refused by `serve`

Network = IPv4Network | IPv6Network

_ELSEWHERE = {
    f"{PREFIX}{name}"
    for name in ("URL", "API_KEY", "LOCAL_FAULTS", "LOCAL_STATUS_SECONDS")
}
"""Settings of the command line and the local cloud, which are read there."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HOST_AND_PORT = re.compile(r"(\[[^]]*\]|[^:]*)(:\d*)?", re.ASCII)
_FUNCTION = re.compile(r"[\w:$-]{1,170}", re.ASCII)


def _text(raw: str) -> str:
    if not raw:
        msg = "is empty"
        raise ValueError(msg)
    return raw


def _function(raw: str) -> str:
    if not _FUNCTION.fullmatch(raw):
        msg = f"{raw!r} is not the name or ARN of a Lambda function"
        raise ValueError(msg)
    return raw


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        if not re.fullmatch(r"\d{1,18}", raw) or not low <= int(raw) <= high:
            msg = f"{raw!r} is not a whole number from {low} to {high}"
            raise ValueError(msg)
        return int(raw)

    return parse


def _switch(raw: str) -> bool:
    if raw not in {"on", "off"}:
        msg = f"{raw!r} is neither on nor off"
        raise ValueError(msg)
    return raw == "on"


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        try:
            parts = urlsplit(raw)
        except ValueError:
            parts = urlsplit("")  # its words would quote the password
        where = parts.netloc or parts.query or (parts.scheme == "unix" and parts.path)
        if parts.scheme not in schemes or not where:
            msg = f"is not a URL that starts with {' or '.join(schemes)}://"
            raise ValueError(msg)
        return raw

    return parse


def _postgres_url(raw: str) -> str:
    parts = urlsplit(_url("postgres", "postgresql")(raw))
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if not all(map(_HOST_AND_PORT.fullmatch, hosts)):
        msg = "is not a URL like postgresql://app:password@host:5432/app"
        raise ValueError(f"{msg} (encode / and # as %2F, %23)")
    return raw


def _redis_url(raw: str) -> str:
    parts = urlsplit(_url("redis", "rediss", "unix")(raw))
    try:
        fine = parts.port is None or parts.port > 0
    except ValueError:
        fine = False  # its words would quote the password
    if not fine or not re.fullmatch(r"(db=\d+)?", parts.query) or parts.fragment:
        msg = "is not a URL like redis://:password@host:6379/0 (encode / and # as %2F, %23)"
        raise ValueError(msg)
    return raw


def _base_url(raw: str) -> str:
    if not urlsplit(_url("http", "https")(raw)).hostname or set("?#@") & set(raw):
        msg = "is not a URL of a place: scheme, host and path only"
        raise ValueError(msg)
    return raw.rstrip("/") + "/"


def _key_prefix(raw: str) -> str:
    if not re.fullmatch(r"([\w!.*'()-]+/)+", raw, re.ASCII):
        msg = f"{raw!r} is not a key prefix like video/origin/"
        raise ValueError(msg)
    return raw


def _bucket(raw: str) -> str:
    if not _BUCKET.fullmatch(raw):
        msg = f"{raw!r} is not a bucket name"
        raise ValueError(msg)
    return raw


def _words(raw: str) -> tuple[str, ...]:
    words = tuple(word for part in raw.split(",") if (word := part.strip()))
    if not words:
        msg = "is an empty list"
        raise ValueError(msg)
    return words


def _secrets(raw: str) -> tuple[str, ...]:
    for secret in (secrets := _words(raw)):
        if len(secret) < MIN_SECRET_CHARS and secret != LOCAL_API_KEY:
            msg = f"holds a secret of fewer than {MIN_SECRET_CHARS} characters"
            raise ValueError(msg)
    return secrets


def _token_secrets(raw: str) -> tuple[str, ...]:
    if "-----BEGIN " in raw:
        # Half of such a pair may be public, and whoever has it could sign.
        msg = "holds a PEM key, but tokens are signed with a shared secret (HS256)"
        raise ValueError(msg)
    secrets = _secrets(raw)
    if LOCAL_API_KEY in secrets:
        msg = f"holds a secret of fewer than {MIN_SECRET_CHARS} characters"
        raise ValueError(msg)
    return secrets


def _webhook_secrets(raw: str) -> tuple[bytes, ...]:
    keys = []
    for word in _words(raw):
        try:
            key = base64.b64decode(word.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            key = b""
        if not word.startswith("whsec_") or len(key) < 24:  # noqa: PLR2004 - 192 bit, the least Standard Webhooks allows
            msg = "holds a secret that is not whsec_ and base64 of 24 bytes or more"
            raise ValueError(msg)
        keys.append(key)
    return tuple(keys)


def _origins(raw: str) -> tuple[str, ...]:
    for origin in (origins := _words(raw)):
        parts = urlsplit(origin)
        if origin != f"{parts.scheme}://{parts.netloc}" or not parts.netloc:
            msg = f"{origin!r} is not an origin like https://app.example.com"
            raise ValueError(msg)
    return origins


def _networks(raw: str) -> tuple[Network, ...]:
    return tuple(ip_network(word) for word in _words(raw))


def _file(raw: str) -> Path:
    if not (path := Path(raw)).is_file():
        msg = f"{raw!r} is not a file"
        raise ValueError(msg)
    return path


def _setting(
    parse: Callable[[str], Any],
    default: Any = MISSING,
    *,
    about: str,
    secret: bool = False,
) -> Any:
    metadata = {"parse": parse, "about": about, "secret": secret}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    The settings of one process.

    Raises:
        ConfigError: from `from_env`, naming the setting.
    """

    database_url: str = _setting(_postgres_url, about="Postgres", secret=True)
    bucket: str = _setting(_bucket, about="S3 bucket of uploads and renditions")
    playback_base_url: str = _setting(
        _base_url, about="what stands before an object's key for players"
    )
    ingest_secrets: tuple[bytes, ...] = _setting(
        _webhook_secrets, about="whsec_... of the Lambdas; first is newest", secret=True
    )
    api_keys: tuple[str, ...] = _setting(
        _secrets, about="keys of the app's back end", secret=True
    )
    token_secrets: tuple[str, ...] = _setting(
        _token_secrets, about="sign watch tokens; first is newest", secret=True
    )
    listen_database_url: str = _setting(
        _postgres_url,
        "",
        about="direct Postgres for LISTEN, past any pooler (default: DATABASE_URL)",
        secret=True,
    )
    public_url: str = _setting(
        _base_url, "", about="this gateway as clients see it (default: HOST:PORT)"
    )
    upload_prefix: str = _setting(
        _key_prefix, "video/origin/", about="key prefix of uploads"
    )
    output_prefix: str = _setting(
        _key_prefix, "video/hls/", about="key prefix of renditions"
    )
    allowed_origins: tuple[str, ...] = _setting(
        _origins, (), about="exact origins that may read from a browser"
    )
    host: str = _setting(_text, "127.0.0.1", about="address to listen on")
    port: int = _setting(_number(0, 65535), 8080, about="port to listen on")
    heartbeat_seconds: int = _setting(
        _number(1, 300),
        15,
        about="between heartbeats of one stream, 30 at most for our clients",
    )
    max_wait_seconds: int = _setting(_number(1, 3600), 55, about="longest long-poll")
    stream_max_age_seconds: int = _setting(
        _number(1, 86400), 900, about="planned end of a stream"
    )
    max_subscribers: int = _setting(
        _number(1, 10_000_000), 100_000, about="waiting clients of this process"
    )
    max_subscribers_per_ip: int = _setting(
        _number(0, 10_000_000), 0, about="waiting clients of one address; 0: no limit"
    )
    max_subscribers_per_file: int = _setting(
        _number(0, 10_000_000), 0, about="waiting clients of one file; 0: no limit"
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        _networks, (), about="addresses or networks whose X-Forwarded-For is believed"
    )
    max_memory_bytes: int = _setting(
        _number(0, 1 << 50),
        0,
        about="memory of this process; 0: what its cgroup or the machine allows",
    )
    max_upload_bytes: int = _setting(
        _number(1, 5 * 1024**3), 5 * 1024**3, about="size of one upload"
    )
    upload_url_seconds: int = _setting(
        _number(1, 604_800),
        900,
        about="life of a signed upload, no longer than UPLOAD_DEADLINE_SECONDS",
    )
    watch_token_seconds: int = _setting(
        _number(1, 31_536_000), 86_400, about="life of a watch token"
    )
    upload_deadline_seconds: int = _setting(
        _number(1, 31_536_000), 86_400, about="an upload that never came has expired"
    )
    start_deadline_seconds: int = _setting(
        _number(1, 31_536_000), 3_600, about="silence after the upload that is failure"
    )
    conversion_deadline_seconds: int = _setting(
        _number(1, 31_536_000), 21_600, about="silence of a conversion that is failure"
    )
    silence_seconds: int = _setting(
        _number(1, 31_536_000), 120, about="without a word of a file: AWS is asked"
    )
    converter_function: str = _setting(
        _function,
        "",
        about="Lambda that starts conversions, to be invoked again if need be",
    )
    progress_life_seconds: int = _setting(
        _number(60, 315_360_000), 604_800, about="events of mere progress are kept"
    )
    expired_file_life_seconds: int = _setting(
        _number(60, 315_360_000), 2_592_000, about="files that never came are kept"
    )
    safety_read_seconds: int = _setting(
        _number(1, 3600), 60, about="between looks for missed notifications"
    )
    max_pool_connections: int = _setting(
        _number(2, 1000), 8, about="Postgres connections besides LISTEN"
    )
    access_log: bool = _setting(
        _switch, default=False, about="log a line for every answer: on or off"
    )
    tracing: bool = _setting(
        _switch,
        default=False,
        about="traces by OpenTelemetry (extra otel), where OTEL_EXPORTER_OTLP_* say",
    )
    redis_url: str = _setting(
        _redis_url,
        "",
        about="Redis or Valkey, any node of a cluster; unset: none",
        secret=True,
    )
    page_api_key: str = _setting(
        _text, "", about="handed to everyone who opens the page; for demos", secret=True
    )
    hls_js: Path | None = _setting(
        _file, None, about="hls.js for browsers that do not play HLS themselves"
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Config":
        """
        Read the environment.

        Raises:
            ConfigError: A setting is missing, unreadable, out of range or at odds
                with another.
        """
        values = {
            one.name: _parsed(one.name, raw, one.metadata["parse"])
            for one in fields(cls)
            if (raw := _raw(environ, one.name)) is not None
        }
        _refuse_late_uploads(values)
        for one in fields(cls):
            if one.default is MISSING and one.name not in values:
                name = PREFIX + one.name.upper()
                raise ConfigError(name, f"is not set ({one.metadata['about']})")
        values["listen_database_url"] = (
            values.get("listen_database_url") or values["database_url"]
        )
        return cls(**values)

    @property
    def listen_setting(self) -> str:
        """Name of the setting that says where to LISTEN."""
        is_own = self.listen_database_url != self.database_url
        return f"{PREFIX}LISTEN_DATABASE_URL" if is_own else f"{PREFIX}DATABASE_URL"

    @property
    def base_url(self) -> str:
        """The gateway as clients see it, ending in a slash."""
        return self.public_url or f"http://{self.host}:{self.port}/"

    @property
    def deadlines(self) -> dict[Status, timedelta]:
        """How long a file may be silent in each stage before it is ended."""
        return {
            Status.AWAITING_UPLOAD: timedelta(seconds=self.upload_deadline_seconds),
            Status.UPLOADED: timedelta(seconds=self.start_deadline_seconds),
            Status.CONVERTING: timedelta(seconds=self.conversion_deadline_seconds),
        }

    @property
    def silence(self) -> timedelta:
        """After how long without a word a file is looked into."""
        return timedelta(seconds=self.silence_seconds)

    @property
    def silences(self) -> dict[Status, timedelta]:
        """The same for each stage: no later than its deadline."""
        return {
            status: min(self.silence, life) for status, life in self.deadlines.items()
        }

    def refuse_local_secrets(self) -> None:
        """
        Refuse the credentials that everybody knows.

        Raises:
            ConfigError: The API key or ingest secret of the local stack is set.
        """
        if LOCAL_API_KEY in self.api_keys:
            raise ConfigError(f"{PREFIX}API_KEYS", "holds the key of the local stack")
        if _webhook_secrets(LOCAL_INGEST_SECRET)[0] in self.ingest_secrets:
            raise ConfigError(
                f"{PREFIX}INGEST_SECRETS", "holds the secret of the local stack"
            )


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One line of `reelready config`; `value` of a secret is masked."""

    name: str
    value: str
    origin: str
    about: str


def describe(environ: Mapping[str, str] = os.environ) -> list[SettingLine]:
    """Every setting, its value and where that comes from; never fails."""
    return [_line(one, environ) for one in fields(Config)]


def unknown(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Name what has the prefix and is no setting, and what may have been meant."""
    known = {f"{PREFIX}{one.name.upper()}" for one in fields(Config)} | _ELSEWHERE
    lines = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name.removesuffix("_FILE") not in known:
            close = get_close_matches(name, sorted(known), 1, 0.9)
            meant = f"; is it {close[0]}?" if close else ""
            lines.append(f"{name}: is no setting{meant}")
    return lines


def database_url(environ: Mapping[str, str] = os.environ) -> str:
    """
    Read only `DATABASE_URL`: all that migrating needs.

    Raises:
        ConfigError: It is missing or wrong.
    """
    return str(_required("database_url", environ))


def token_secrets(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """
    Read only `TOKEN_SECRETS`: all that minting a watch token needs.

    Raises:
        ConfigError: It is missing or wrong.
    """
    secrets: tuple[str, ...] = _required("token_secrets", environ)
    return secrets


def _refuse_late_uploads(values: Mapping[str, Any]) -> None:
    """An upload that S3 takes when its file has expired would be lost for good."""
    life, deadline = "upload_url_seconds", "upload_deadline_seconds"
    default = {one.name: one.default for one in fields(Config)}
    life_s, deadline_s = ({**default, **values}[name] for name in (life, deadline))
    if life_s > deadline_s:
        raise ConfigError(
            PREFIX + (deadline if deadline in values else life).upper(),
            f"a signed upload may come for {life_s} s ({PREFIX}UPLOAD_URL_SECONDS), "
            f"but expires after {deadline_s} s ({PREFIX}UPLOAD_DEADLINE_SECONDS)",
        )


def _required(name: str, environ: Mapping[str, str]) -> Any:
    one = next(one for one in fields(Config) if one.name == name)
    raw = _raw(environ, name)
    if raw is None:
        about = one.metadata["about"]
        raise ConfigError(PREFIX + name.upper(), f"is not set ({about})")
    return _parsed(name, raw, one.metadata["parse"])


def _line(one: Any, environ: Mapping[str, str]) -> SettingLine:
    name = PREFIX + one.name.upper()
    about = one.metadata["about"]
    try:
        raw = _raw(environ, one.name)
    except ConfigError as error:
        return SettingLine(name, "?", str(error), about)
    if raw is None:
        missing = one.default is MISSING
        value = "" if missing else _shown(one.default)
        return SettingLine(name, value, "missing" if missing else "default", about)
    shown = "***" if one.metadata["secret"] else raw
    return SettingLine(name, shown, "environment" if name in environ else "file", about)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else str(value)


def _raw(environ: Mapping[str, str], name: str) -> str | None:
    variable = PREFIX + name.upper()
    if variable in environ:
        return environ[variable]
    if (path := environ.get(f"{variable}_FILE")) is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{variable}_FILE", f"cannot be read: {error}") from error


def _parsed(name: str, raw: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(raw)
    except (ValueError, OSError) as error:
        raise ConfigError(PREFIX + name.upper(), str(error)) from error
