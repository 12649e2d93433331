"""Request bodies: bounded in size and in time, and never compressed."""

import asyncio

from aiohttp import web

from gateway.errors import InvalidError, TooLargeError

MAX_BODY_BYTES = 256 * 1024
BODY_DEADLINE_S = 10.0


async def read_body(request: web.Request) -> bytes:
    """
    Read a whole request body.

    Raises:
        InvalidError: It is encoded, or does not arrive in time.
        TooLargeError: It is over `MAX_BODY_BYTES`.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InvalidError("content-encoding", "is not accepted here")
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLargeError(MAX_BODY_BYTES) from None
    except TimeoutError:
        raise InvalidError(
            "body", f"did not arrive in {BODY_DEADLINE_S:.0f} s"
        ) from None
