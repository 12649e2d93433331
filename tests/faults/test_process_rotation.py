"""D9: secrets are changed under load; nobody who shows a valid one is refused."""

import asyncio
import base64
import json
import secrets
import signal
import time
from collections import Counter
from datetime import UTC, datetime

import aiohttp
import jwt
import pytest
from standardwebhooks import Webhook

from tests.integration.conftest import aws_environment, make_gateway
from tests.integration.test_restarts import listening, serving, until

__all__ = ["aws_environment", "listening", "make_gateway"]


class Keys:
    """One generation of all three."""

    def __init__(self):
        self.ingest = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.api = secrets.token_hex(20)
        self.token = secrets.token_hex(20)

    def settings(self, *older):
        kept = (self, *older)
        return {
            "INGEST_SECRETS": ",".join(one.ingest for one in kept),
            "API_KEYS": ",".join(one.api for one in kept),
            "TOKEN_SECRETS": ",".join(one.token for one in kept),
        }

    def report(self):
        """A signed report: body and headers."""
        body = json.dumps(
            {"type": "uploaded", "occurred_at": datetime.now(UTC).isoformat()}
        )
        webhook_id, now = f"w-{secrets.token_hex(8)}", datetime.now(UTC)
        return body, {
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(self.ingest).sign(webhook_id, now, body),
        }

    def watch_token(self, file_id):
        claims = {"aud": "reelready", "exp": time.time() + 600, "files": [file_id]}
        return jwt.encode(claims, self.token, algorithm="HS256")


class Senders:
    """
    A Lambda, a back end and a browser, each with its own keys.

    A connection that a restart cuts, or the 503 of a drain, is no answer: it asks
    again, as all of them do.
    """

    def __init__(self, url, file_id):
        self.path = f"{url}/v1/files/{file_id}"
        self.file_id = file_id

    async def ask(self, http, keys):
        """Use every key once; returns the statuses."""
        body, signed = keys.report()
        token = {"Authorization": f"Bearer {keys.watch_token(self.file_id)}"}
        key = {"Authorization": f"Bearer {keys.api}"}
        return [
            await self._status(http.post, "/reports", data=body, headers=signed),
            await self._status(http.get, "", headers=key),
            await self._status(http.get, "/events", headers=token),
        ]

    async def load(self, keys_now, answers, stop):
        """Ask all the time, with whatever keys are valid at the time."""
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as http:
            while not stop.is_set():
                answers.update(await self.ask(http, keys_now()))

    async def _status(self, method, suffix, **how):
        while True:
            try:
                async with method(self.path + suffix, **how) as answer:
                    if answer.status != 503:
                        return answer.status
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                pass
            await asyncio.sleep(0.01)


@pytest.mark.timeout(120)
async def test_a_rotation_refuses_nobody_and_then_the_old(
    database_url, make_gateway, listening
):
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with make_gateway(database_url) as beside:
        senders = Senders(url, await beside.new_file())
    old, new = Keys(), Keys()
    senders_use = [old]
    answers, stop = Counter(), asyncio.Event()

    async def serve(settings, *, through):
        async with serving(database_url, listening, **settings) as process:
            await through()
            process.send_signal(signal.SIGTERM)
            assert 0 == await process.wait()

    async def some_answers():
        enough = answers.total() + 200
        await until(lambda: answers.total() >= enough)

    async def senders_change():
        await some_answers()
        senders_use.append(new)
        await some_answers()
        senders_use.remove(old)
        await some_answers()

    async def only_the_new():
        await some_answers()
        async with aiohttp.ClientSession() as http:
            refused = await senders.ask(http, old)
        assert [401, 401, 401] == refused
        stop.set()
        await asyncio.wait(loads)

    async with asyncio.TaskGroup() as tasks:
        loads = [
            tasks.create_task(
                senders.load(lambda: secrets.choice(senders_use), answers, stop)
            )
            for _ in range(4)
        ]
        await serve(old.settings(), through=some_answers)
        await serve(new.settings(old), through=senders_change)
        await serve(new.settings(), through=only_the_new)

    assert {200} == set(answers)
