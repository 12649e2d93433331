"""D2: a gateway that is told to stop while its tables are locked leaves in time."""

import asyncio
import signal

import pytest

from bench.server import get, post
from bench.soak.ledger import Ledger
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage

EXIT_S = 5
REGISTRATION = b'{"name": "a.mp4", "content_type": "video/mp4", "size": 10}'
UPLOADED = b'{"type": "uploaded", "occurred_at": "2026-01-02T03:04:05Z"}'
LOCK = "lock table files, events in access exclusive mode"


async def ask(stage, request):
    """Read to the end of the connection, which is the gateway's to close."""
    reader, writer = await asyncio.open_connection(stage.address, stage.port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.timeout(120)
async def test_everybody_is_answered_before_it_leaves():
    async with Stage() as stage:
        await stage.start_gateway()
        await stage.ready()
        async with Reporter(stage, Ledger()) as reporter:
            file_id, token = await reporter.register()
        path, key = f"/v1/files/{file_id}", f"Authorization: Bearer {token}"
        back_end = f"Authorization: Bearer {stage.known.api_key}"
        signed = stage.known.signed("w-1", UPLOADED)
        stream = get(f"{path}/events", key, "Accept: text/event-stream") + b"\r\n"
        poll = get(f"{path}/events?after=1&wait=5", key) + b"\r\n"
        opened = asyncio.create_task(ask(stage, stream))
        while (await stage.metrics())["subscribers"] != 1:  # noqa: ASYNC110 - it is another process's
            await asyncio.sleep(0.05)
        async with stage.database() as database, database.transaction():
            await database.execute(LOCK)
            asked = asyncio.gather(
                ask(stage, stream),
                ask(stage, poll),
                ask(stage, post("/v1/files", REGISTRATION, back_end)),
                ask(stage, post(f"{path}/reports", UPLOADED, *signed)),
            )
            while (await stage.metrics())["connections"] < 4:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
            exit_s = await stage.end_gateway(signal.SIGTERM)
            refused, *unavailable = await asked
        code = stage.gateway.returncode

    assert 0 == code
    assert exit_s < EXIT_S
    assert (await opened).endswith(b'event: bye\ndata: {"reason": "drain"}\n\n')
    assert refused.startswith(b"HTTP/1.1 200 ")
    assert refused.endswith(b'event: bye\ndata: {"reason": "refused"}\n\n')
    assert [b"HTTP/1.1 503"] * 3 == [answer[:12] for answer in unavailable]
    assert all(b"\r\nRetry-After: " in answer for answer in unavailable)
