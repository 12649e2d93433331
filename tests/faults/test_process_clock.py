"""
D7: the clock jumps by an hour and by a day, either way, under a working gateway.

libfaketime steps the clock of this one process; time that only passes
(CLOCK_MONOTONIC) stays as it is, as it does when an administrator sets a clock.
"""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import jwt
import pytest

from tests.integration.conftest import (
    API_KEY,
    TOKEN_SECRET,
    aws_environment,
    make_gateway,
    signed,
)
from tests.integration.test_restarts import listening, serving, until

__all__ = ["aws_environment", "listening", "make_gateway"]

HOUR_S, DAY_S = 3600, 86_400
STEPS_S = (HOUR_S, -HOUR_S, DAY_S, -DAY_S)
KEY = {"Authorization": f"Bearer {API_KEY}"}


class Clock:
    """The gateway's, which a test may set."""

    def __init__(self, folder):
        self._file = folder / "clock"
        self.ahead_s = 0
        self.step(0)

    @property
    def environ(self):
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def step(self, ahead_s):
        """Be so far ahead of the true time."""
        whole = self._file.with_suffix(".new")
        whole.write_text(f"{ahead_s:+d}\n")
        whole.replace(self._file)
        self.ahead_s = ahead_s


class Lambda:
    """Signs by a clock of its own."""

    def __init__(self, http, path):
        self._http = http
        self._path = path
        self._attempt = 1

    async def report(self, ahead_s=0):
        """Say what is always accepted; returns status and seq."""
        self._attempt += 1
        now = time.time() + ahead_s
        said = {
            "type": "converting",
            "attempt": self._attempt,
            "occurred_at": datetime.fromtimestamp(now, UTC).isoformat(),
        }
        raw = json.dumps(said).encode()
        async with self._http.post(
            f"{self._path}/reports", data=raw, headers=signed(raw, at=now)
        ) as answer:
            return answer.status, (await answer.json()).get("seq")


class Listener:
    """Reads one stream to its end."""

    def __init__(self):
        self.ids, self.beats, self.byes = [], [], []

    async def read(self, http, path):
        headers = KEY | {"Accept": "text/event-stream"}
        async with http.get(f"{path}/events", headers=headers) as answer:
            async for line in answer.content:
                if line.startswith(b"id: "):
                    self.ids.append(int(line[4:]))
                elif line == b"event: hb\n":
                    self.beats.append(time.monotonic())
                elif line.startswith(b'data: {"reason"'):
                    self.byes.append(line)


async def registered_at(http, url):
    """When a new file says that it was made."""
    said = {"name": "a.mp4", "content_type": "video/mp4", "size": 10}
    async with http.post(url, headers=KEY, json=said) as answer:
        made = await answer.json()
    return datetime.fromisoformat(made["file"]["created_at"])


async def polled_s(http, path, after, wait_s):
    """How long a poll waits that nothing answers."""
    began_s = time.monotonic()
    async with http.get(
        f"{path}/events?after={after}&wait={wait_s}", headers=KEY
    ) as answer:
        assert [] == (await answer.json())["events"]
    return time.monotonic() - began_s


async def seen_by(http, path, file_id, *, exp):
    """How somebody is answered whose token ends then."""
    claims = {"aud": "reelready", "exp": exp, "files": [file_id]}
    token = jwt.encode(claims, TOKEN_SECRET, algorithm="HS256")
    async with http.get(path, headers={"Authorization": f"Bearer {token}"}) as answer:
        return answer.status


@pytest.mark.timeout(120)
async def test_a_clock_that_jumps_ends_no_wait_and_disorders_nothing(
    database_url, make_gateway, listening, tmp_path
):
    clock = Clock(tmp_path)
    async with make_gateway(database_url) as beside:
        file_id = await beside.new_file()
    path = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/files/{file_id}"
    listener = Listener()
    async with (
        serving(
            database_url, listening, environ=clock.environ, HEARTBEAT_SECONDS="1"
        ) as process,
        aiohttp.ClientSession() as http,
        aiohttp.ClientSession() as idle,
    ):
        sender = Lambda(http, path)
        reading = asyncio.ensure_future(listener.read(http, path))
        await until(lambda: listener.ids == [1])
        assert (200, 2) == await sender.report()
        seq = 2
        for step_s in STEPS_S:
            await polled_s(idle, path, seq, 0)
            poll = asyncio.ensure_future(polled_s(http, path, seq, 3))
            await asyncio.sleep(0.5)
            clock.step(step_s)
            beats = len(listener.beats)

            assert 2.9 <= await poll <= 8
            assert len(listener.beats) - beats >= 2
            assert not reading.done()
            # A keep-alive connection is no older than it was.
            await polled_s(idle, path, seq, 0)

            # By the clock of the database, as its deadlines are.
            made_at = await registered_at(http, path.rpartition("/")[0])
            assert abs(datetime.now(UTC) - made_at) < timedelta(seconds=60)

            assert (401, None) == await sender.report()
            assert (200, seq + 1) == await sender.report(ahead_s=step_s)
            in_half_an_hour = time.time() + HOUR_S / 2
            seen = await seen_by(http, path, file_id, exp=in_half_an_hour)
            assert (401 if step_s > 0 else 200) == seen

            clock.step(0)
            assert (200, seq + 2) == await sender.report()
            seq += 2
            assert 200 == await seen_by(http, path, file_id, exp=in_half_an_hour)
        await until(lambda: listener.ids[-1] == seq)
        reading.cancel()
        assert process.returncode is None

    assert list(range(1, seq + 1)) == listener.ids
    assert [] == listener.byes
