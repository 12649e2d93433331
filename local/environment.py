"""
What the local cloud's processes are told: the settings of production, with
endpoints on this machine.

Nothing of the AWS account of the person at the keyboard gets through.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config import LOCAL_API_KEY, LOCAL_INGEST_SECRET
from local.lambda_invocation import NO_ONE_ELSES_AWS

BUCKET = "reelready-local"
REGION = "ap-northeast-2"
ACCESS_KEY = "local"
SECRET_KEY = "reelready-local-only"  # noqa: S105 - public on purpose, loopback only
UPLOAD_PREFIX = "video/origin/"
OUTPUT_PREFIX = "video/hls/"
CONVERTER = "VideoMediaConverter"
SAVER = "HLSFileManifestSaver"
LOOPBACK = "127.0.0.1"

FORGOTTEN_S = 600
"""Unlike AWS, the local cloud forgets its jobs when it ends."""

CODE = Path(__file__).parents[1]
_HLS_JS = CODE / "node_modules" / "hls.js" / "dist" / "hls.light.min.js"
_ROLE = "arn:aws:iam::111122223333:role/MediaConvert"


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """Where the parts of one local cloud are; URLs without a slash at the end."""

    gateway_port: int
    s3_url: str
    mediaconvert_url: str
    lambda_url: str = ""

    @property
    def gateway_url(self) -> str:
        return f"http://{LOOPBACK}:{self.gateway_port}"


def s3_client(s3_url: str) -> dict[str, Any]:
    """Arguments of a boto client of the S3 stand-in."""
    return {
        "endpoint_url": s3_url,
        "region_name": REGION,
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
    }


def without_aws(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without accounts, and with loopback past any proxy."""
    kept = {name: value for name, value in environ.items() if name[:4] != "AWS_"}
    return kept | NO_ONE_ELSES_AWS | {"NO_PROXY": "*", "no_proxy": "*"}


def gateway_environment(
    environ: Mapping[str, str],
    endpoints: Endpoints,
    *,
    database_url: str,
    token_secret: str,
) -> dict[str, str]:
    """For the gateway and the worker; other `REELREADY_` settings pass through."""
    settings = {
        "DATABASE_URL": database_url,
        "BUCKET": BUCKET,
        "UPLOAD_PREFIX": UPLOAD_PREFIX,
        "OUTPUT_PREFIX": OUTPUT_PREFIX,
        "CONVERTER_FUNCTION": CONVERTER,
        "PLAYBACK_BASE_URL": f"{endpoints.s3_url}/{BUCKET}/",
        "PUBLIC_URL": f"{endpoints.gateway_url}/",
        "INGEST_SECRETS": LOCAL_INGEST_SECRET,
        "API_KEYS": LOCAL_API_KEY,
        "PAGE_API_KEY": LOCAL_API_KEY,
        "TOKEN_SECRETS": token_secret,
        "HOST": LOOPBACK,
        "PORT": str(endpoints.gateway_port),
    }
    if _HLS_JS.is_file():
        settings["HLS_JS"] = str(_HLS_JS)
    prefixed = {f"REELREADY_{name}": value for name, value in settings.items()}
    deadline = {"REELREADY_CONVERSION_DEADLINE_SECONDS": str(FORGOTTEN_S)}
    lambda_api = {"AWS_ENDPOINT_URL_LAMBDA": endpoints.lambda_url}
    return deadline | without_aws(environ) | _aws(endpoints) | lambda_api | prefixed


def lambda_environment(endpoints: Endpoints) -> dict[str, str]:
    """For both functions."""
    return _aws(endpoints) | {
        "GATEWAY_URL": endpoints.gateway_url,
        "INGEST_SECRET": LOCAL_INGEST_SECRET,
        "OUTPUT_PREFIX": OUTPUT_PREFIX,
        "MEDIACONVERT_ROLE_ARN": _ROLE,
        "STATUS_UPDATE_SECONDS": "10",
        "NO_PROXY": "*",
    }


def _aws(endpoints: Endpoints) -> dict[str, str]:
    return {
        # As in Lambda: some clients read the one, some the other.
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL_S3": endpoints.s3_url,
        "AWS_ENDPOINT_URL_MEDIACONVERT": endpoints.mediaconvert_url,
    }
