"""
What an answer of the gateway means: go on, later, or never.

Source: RFC 9110 (status codes, ``Retry-After``); RFC 9457 (problem documents).
"""

import re

import aiohttp
import msgspec

from gateway.client.errors import NotAGatewayError, RefusedError
from gateway.errors import UnavailableError

MAX_PROBLEM_BYTES = 64 * 1024
MAX_RETRY_AFTER_S = 60

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_OURS = "urn:reelready:problem:"
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)


class Problem(msgspec.Struct, frozen=True):
    """The parts of a problem document that are shown or compared."""

    type: str | None = None
    title: str = ""
    detail: str = ""


async def check(answer: aiohttp.ClientResponse) -> None:
    """
    Let an answer pass that is what was asked for.

    Raises:
        UnavailableError: The same request can succeed later.
        RefusedError: It cannot.
    """
    status = answer.status
    if 200 <= status < 300:  # noqa: PLR2004 - success, as the standard numbers it
        return
    if 300 <= status < 400:  # noqa: PLR2004 - redirects, as the standard numbers them
        where = answer.headers.get("Location", "somewhere else")
        raise RefusedError(status, f"{answer.url} redirects to {where}; use that URL")
    problem = await _problem(answer)
    detail = problem.detail or problem.title or f"{answer.url} answers HTTP {status}"
    if status in _PASSING:
        raise UnavailableError(detail, retry_after_s=_retry_after_s(answer))
    raise RefusedError(status, detail, problem.type)


def check_type(answer: aiohttp.ClientResponse, content_type: str) -> None:
    """
    Let only this media type pass.

    Raises:
        NotAGatewayError: It is another one.
    """
    if answer.content_type != content_type:
        raise NotAGatewayError(str(answer.url), f"answers with {answer.content_type}")


def is_ours(error: NotAGatewayError | RefusedError) -> bool:
    """Tell a gateway's refusal from the page of something in front of it."""
    problem = error.problem if isinstance(error, RefusedError) else None
    return problem is not None and problem.startswith(_OURS)


async def start_of(answer: aiohttp.ClientResponse) -> bytes:
    """Read a body that explains something, but no more than `MAX_PROBLEM_BYTES`."""
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) >= MAX_PROBLEM_BYTES:
            break
    return bytes(body[:MAX_PROBLEM_BYTES])


async def _problem(answer: aiohttp.ClientResponse) -> Problem:
    try:
        return msgspec.json.decode(await start_of(answer), type=Problem)
    except (aiohttp.ClientError, msgspec.DecodeError, UnicodeDecodeError):
        return Problem()


def _retry_after_s(answer: aiohttp.ClientResponse) -> int:
    said = answer.headers.get("Retry-After", "")
    return min(int(said), MAX_RETRY_AFTER_S) if _SECONDS.fullmatch(said) else 0
