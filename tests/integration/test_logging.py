"""What is logged never holds what a client sent where a credential may stand."""

import asyncio
import contextlib
import logging
from urllib.parse import urlsplit

from gateway.telemetry import start_logging

BROKEN = (
    b"POST /v1/files HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;secret-1\r\nsecret-2\r\nsecret-3\r\n\r\n"
)


@contextlib.contextmanager
def logging_as_when_serving():
    root, theirs = logging.getLogger(), logging.getLogger("aiohttp.server")
    handlers, level = root.handlers[:], root.level
    start_logging(access=True)
    try:
        yield theirs
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        theirs.disabled = False


async def said_of_broken_chunks(gateway, capfd) -> str:
    url = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(BROKEN)
    assert b" 400 " in await reader.read()
    writer.close()
    logging.getLogger().handlers[0].flush()
    return capfd.readouterr().err


async def test_what_aiohttp_cannot_parse_is_not_quoted(gateway, capfd):
    with logging_as_when_serving() as theirs:
        for silenced in (True, False):
            theirs.disabled = silenced
            said = await said_of_broken_chunks(gateway, capfd)

            assert " 400" in said
            assert "secret" not in said
