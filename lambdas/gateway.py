"""
Posts to the gateway, signed by Standard Webhooks.

The one rule: the same ``webhook-id`` always comes with the same body.  The
gateway refuses anything else, and that refusal would lose the report.  So the
id ends in a digest of the body: a redelivered event repeats the id byte for
byte, while a manifest that could be completed only the second time, or by a
newer release of this code, is a post of its own (and stale, if it says nothing
new).  So is one that asks what is so now, not what was so the first time.

Stored is what a gateway says is stored: an answer without an outcome, such as a
load balancer's page that all will be well soon, is none, whatever its status.

Source: https://www.standardwebhooks.com, docs/protocol.md.
"""

import base64
import hashlib
import hmac
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from lambdas.errors import GatewayRefusedError, GatewayUnavailableError
from lambdas.log import log
from lambdas.settings import GatewaySettings
from lambdas.trace import traceparent

TIMEOUT_S = 5.0
"""Longest silence of the gateway within one try."""

PAUSES_S = (0.2, 1.0)
"""Waits between tries: a gateway that restarts is back before AWS's retry."""

_MAX_ANSWER_BYTES = 64 * 1024
_MAX_SHOWN_CHARACTERS = 500
_RETRYABLE = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_FIRST_SERVER_ERROR = 500


def signature(secret: bytes, webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """The ``webhook-signature`` header of one post."""
    signed = f"{webhook_id}.{timestamp_s}.".encode() + body
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def body_of(content: Mapping[str, object]) -> bytes:
    """The bytes of one post; half a surrogate pair in a foreign text is a ``?``."""
    text = json.dumps(
        content, ensure_ascii=False, separators=(",", ":"), sort_keys=True
    )
    return text.encode(errors="replace")


@dataclass(frozen=True, slots=True)
class Gateway:
    """
    The gateway as the Lambdas see it: two doors, both idempotent.

    Attributes:
        sleep: Waits some seconds between two tries.
    """

    settings: GatewaySettings
    sleep: Callable[[float], None] = time.sleep

    def report(self, file_id: str, cause: str, report: Mapping[str, object]) -> str:
        """
        Say what happened to a file.

        Args:
            cause: Names the event behind it, the same on every delivery; or,
                to hear what is so now, this try alone.

        Returns:
            The outcome: one of docs/protocol.md, or of a newer gateway.

        Raises:
            GatewayRefusedError: The answer is final: no such file, a wrong
                key, a report it cannot read.
            GatewayUnavailableError: It is away, also after some tries, or
                somebody else answers in its place.
        """
        return _outcome_in(self._post(file_id, "reports", cause, report))

    def manifest(
        self, file_id: str, cause: str, manifest: Mapping[str, object]
    ) -> None:
        """Complete a file.  Arguments and errors as for `report`."""
        self._post(file_id, "manifest", cause, manifest)

    def _post(
        self, file_id: str, door: str, cause: str, content: Mapping[str, object]
    ) -> str:
        body = body_of(content)
        webhook_id = f"{cause}-{hashlib.sha256(body).hexdigest()[:16]}"
        url = f"{self.settings.url}/v1/files/{file_id}/{door}"
        answer = self._send_until_answered(url, webhook_id, body)
        log(
            "info",
            f"{door}.posted",
            file_id=file_id,
            type=content.get("type"),
            webhook_id=webhook_id,
            answer=_shown(answer),
        )
        return answer

    def _send_until_answered(self, url: str, webhook_id: str, body: bytes) -> str:
        for pause_s in PAUSES_S:
            try:
                return self._send(url, webhook_id, body)
            except GatewayUnavailableError as problem:
                log("warning", "gateway.unavailable", url=url, problem=problem)
            self.sleep(pause_s)
        return self._send(url, webhook_id, body)

    def _send(self, url: str, webhook_id: str, body: bytes) -> str:
        timestamp_s = int(time.time())
        trace = traceparent()
        request = urllib.request.Request(  # noqa: S310 - settings allow http(s) only
            url,
            data=body,
            headers={
                "content-type": "application/json",
                "webhook-id": webhook_id,
                "webhook-timestamp": str(timestamp_s),
                "webhook-signature": signature(
                    self.settings.secret, webhook_id, timestamp_s, body
                ),
            }
            | ({"traceparent": trace} if trace else {}),
        )
        try:
            answer = _answer_to(request)
        except (OSError, http.client.HTTPException) as problem:
            msg = f"{url} cannot be reached: {problem}"
            raise GatewayUnavailableError(msg) from problem
        _outcome_in(answer)
        return answer


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A signed post is for the host in the settings and for no other."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def _answer_to(request: urllib.request.Request) -> str:
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
            return _text(answer)
    except urllib.error.HTTPError as problem:
        with problem:
            text = _shown(_text(problem))
        if problem.code in _RETRYABLE or problem.code >= _FIRST_SERVER_ERROR:
            msg = f"the gateway answered {problem.code}: {text}"
            raise GatewayUnavailableError(msg) from None
        raise GatewayRefusedError(problem.code, text) from None


def _outcome_in(answer: str) -> str:
    """
    What a gateway of this release or a newer one says has become of a post.

    Raises:
        GatewayUnavailableError: It is no gateway's answer and promises nothing.
    """
    try:
        outcome = json.loads(answer)["outcome"]
    except (ValueError, TypeError, KeyError):
        outcome = None
    if not isinstance(outcome, str):
        msg = f"no gateway answered: {_shown(answer)}"
        raise GatewayUnavailableError(msg)
    return outcome


def _text(answer: http.client.HTTPResponse | urllib.error.HTTPError) -> str:
    return answer.read(_MAX_ANSWER_BYTES).decode(errors="replace")


def _shown(answer: str) -> str:
    """The start of an answer, fit for one line of a log."""
    return answer[:_MAX_SHOWN_CHARACTERS]
