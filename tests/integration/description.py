"""The description of the API, and requests signed as it says."""

import base64
import hmac
import itertools
import secrets
import time
from importlib import resources
from typing import Any

import requests
import yaml

TEXT = (resources.files("gateway") / "static" / "openapi.yaml").read_text("utf-8")
DOCUMENT: dict[str, Any] = yaml.safe_load(TEXT)
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method in {"get", "post"}
}
STREAMS = ["/v1/files/{file_id}/events", "/v1/events"]


class Signed(requests.auth.AuthBase):
    """Signs whatever bytes are sent, text or not, as a Lambda does."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._ids = (f"{secrets.token_hex(4)}-{n}" for n in itertools.count())

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        said = request.body or b""
        raw = said.encode() if isinstance(said, str) else said
        request.headers.update(
            signed(self._key, next(self._ids), int(time.time()), raw)
        )
        return request


def signed(key: bytes, webhook_id: str, timestamp: int, raw: bytes) -> dict[str, str]:
    """Sign as docs/protocol.md says, word for word."""
    content = f"{webhook_id}.{timestamp}.".encode() + raw
    signature = base64.b64encode(hmac.digest(key, content, "sha256")).decode()
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }


def with_key(gateway) -> dict[str, str]:
    return {"Authorization": f"Bearer {gateway.config.api_keys[0]}"}
