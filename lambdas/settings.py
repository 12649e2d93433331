"""
The settings of both functions, from the environment, checked as a whole.

Source: docs/protocol.md.  AWS's own variables (``AWS_REGION``,
``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL_MEDIACONVERT``) are boto3's business.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from lambdas.errors import SettingError

Environment = Mapping[str, str]

STATUS_UPDATE_SECONDS = (
    *(10, 12, 15, 20, 30),
    *range(60, 601, 60),
)
"""What MediaConvert allows as `StatusUpdateInterval`, in seconds."""

LADDER_HEIGHTS = (1080, 720, 540, 480, 360, 240)
"""The renditions there are settings for, in lines."""

_MIN_SECRET_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """
    Where reports go, and the key they are signed with.

    Attributes:
        url: Without a slash at the end.
        secret: The bytes of the key; never shown.
    """

    url: str
    secret: bytes = field(repr=False)

    @classmethod
    def from_env(cls, env: Environment) -> "GatewaySettings":
        """
        Read ``GATEWAY_URL`` and ``INGEST_SECRET``.

        Raises:
            SettingError: One is missing or wrong.
        """
        return cls(url=_gateway_url(env), secret=_secret(env))


@dataclass(frozen=True, slots=True)
class ConverterSettings:
    """
    How uploads become jobs.

    Attributes:
        role_arn: The role MediaConvert reads and writes S3 with.
        queue_arn: None: the account's default queue.
        claim_s: How long one invocation may hold an upload without a job.
            The function's timeout must be shorter, or two could be at work.
        status_update_s: Seconds between a job's progress events.
        heights: Lines of each rendition, tallest first.
    """

    role_arn: str
    queue_arn: str | None
    upload_prefix: str
    output_prefix: str
    claim_prefix: str
    claim_s: int
    status_update_s: int
    heights: tuple[int, ...]

    @classmethod
    def from_env(cls, env: Environment) -> "ConverterSettings":
        """
        Read everything VideoMediaConverter needs.

        Raises:
            SettingError: One is missing or wrong, or what the function writes
                would wake it again.
        """
        settings = cls(
            role_arn=_required(env, "MEDIACONVERT_ROLE_ARN"),
            queue_arn=env.get("MEDIACONVERT_QUEUE_ARN") or None,
            upload_prefix=_prefix(env, "UPLOAD_PREFIX", "video/origin/"),
            output_prefix=output_prefix(env),
            claim_prefix=_prefix(env, "CLAIM_PREFIX", "video/claims/"),
            claim_s=_seconds(env, "CLAIM_SECONDS", 120),
            status_update_s=_status_update_s(env),
            heights=_heights(env),
        )
        for name, prefix in (
            ("OUTPUT_PREFIX", settings.output_prefix),
            ("CLAIM_PREFIX", settings.claim_prefix),
        ):
            if prefix.startswith(settings.upload_prefix):
                problem = "is inside UPLOAD_PREFIX, so each write would be an upload"
                raise SettingError(name, problem)
        return settings


def output_prefix(env: Environment) -> str:
    """Where HLS goes, with a slash at the end; all `HLSFileManifestSaver` needs."""
    return _prefix(env, "OUTPUT_PREFIX", "video/hls/")


def _required(env: Environment, name: str) -> str:
    value = env.get(name, "").strip()
    if not value:
        raise SettingError(name, "is not set")
    return value


def _gateway_url(env: Environment) -> str:
    value = _required(env, "GATEWAY_URL")
    try:
        url = urlsplit(value)
        usable = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in value or "?" in value or "#" in value:
        problem = "must be http(s)://host[:port][/path] and nothing more"
        raise SettingError("GATEWAY_URL", problem)
    return value.rstrip("/")


def _secret(env: Environment) -> bytes:
    value = _required(env, "INGEST_SECRET")
    if not value.startswith("whsec_") or len(value) < _MIN_SECRET_CHARACTERS:
        problem = f"must be whsec_ and base64, {_MIN_SECRET_CHARACTERS} characters up"
        raise SettingError("INGEST_SECRET", problem)
    try:
        return base64.b64decode(value.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        # The cause would show a piece of the secret in a stack trace.
        raise SettingError("INGEST_SECRET", "is not base64 after whsec_") from None


def _prefix(env: Environment, name: str, default: str) -> str:
    value = env.get(name) or default
    if not value.endswith("/") or value.startswith("/"):
        raise SettingError(name, "must end with a slash and not begin with one")
    return value


def _seconds(env: Environment, name: str, default: int) -> int:
    value = env.get(name) or str(default)
    if not (value.isascii() and value.isdigit()) or int(value) == 0:
        raise SettingError(name, "must be a whole number of seconds above 0")
    return int(value)


def _status_update_s(env: Environment) -> int:
    seconds = _seconds(env, "STATUS_UPDATE_SECONDS", 10)
    if seconds not in STATUS_UPDATE_SECONDS:
        allowed = ", ".join(map(str, STATUS_UPDATE_SECONDS))
        raise SettingError("STATUS_UPDATE_SECONDS", f"must be one of {allowed}")
    return seconds


def _heights(env: Environment) -> tuple[int, ...]:
    known = {str(height): height for height in LADDER_HEIGHTS}
    words = [
        word.strip()
        for word in (env.get("LADDER_HEIGHTS") or "1080,720,480").split(",")
    ]
    if any(word not in known for word in words):
        problem = f"must name some of {', '.join(known)}, separated by commas"
        raise SettingError("LADDER_HEIGHTS", problem)
    return tuple(sorted({known[word] for word in words}, reverse=True))
