"""
Lambdas: each report is sent until it is acknowledged, under the same webhook id.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import cycle
from typing import Any, Self

import aiohttp
import msgspec

from bench.soak.ledger import Ledger
from bench.soak.stage import Stage

_PAUSE_S = 0.05
_ANSWER_S = 15.0


class Reporter:
    """
    Registers files and reports on them, through whatever dies meanwhile.

    Args:
        hosts: Where gateways are, asked in turn; the stage's own if there are none.

    Attributes:
        happened: Answers and failures, by name.
        under_way: Files of which a report waits to be acknowledged.
    """

    def __init__(self, stage: Stage, ledger: Ledger, hosts: Sequence[str] = ()) -> None:
        self.happened: Counter[str] = Counter()
        self.under_way: set[str] = set()
        self._stage = stage
        self._hosts = cycle(hosts or (stage.address,))
        self._ledger = ledger
        self._attempts: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        limit = aiohttp.ClientTimeout(total=_ANSWER_S)
        self._http = aiohttp.ClientSession(timeout=limit)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    @property
    def neither(self) -> int:
        """Reports that were neither stored, refused with 503 nor cut off."""
        fine = {"answer 200", "answer 503"}
        return sum(
            count
            for what, count in self.happened.items()
            if what not in fine and what.startswith(("answer", "TimeoutError"))
        )

    async def register(self, **more: object) -> tuple[str, str]:
        """Make a file; returns its id and a watch token."""
        said = {"name": "a.mp4", "content_type": "video/mp4", "size": 10, **more}
        headers = {"Authorization": f"Bearer {self._stage.known.api_key}"}
        async with self._http.post(
            self._url("/v1/files"), json=said, headers=headers
        ) as answer:
            made = await answer.json()
        file_id = made["file"]["id"]
        self._attempts[file_id] = 1
        self._ledger.heads[file_id] = 1
        return file_id, made["watch"]["token"]

    async def report(self, file_id: str) -> None:
        """Say what is always accepted: that a new attempt has begun."""
        self._attempts[file_id] += 1
        attempt = self._attempts[file_id]
        body = {"type": "converting", "attempt": attempt, "job_id": f"j-{attempt}"}
        answer = await self._say(file_id, "reports", body, f"{file_id}-{attempt}")
        if answer["outcome"] != "applied":
            self._ledger.faults[f"a report was {answer['outcome']}"] += 1
        self._ledger.acknowledge(file_id, answer["seq"], attempt)

    async def complete(self, file_id: str) -> None:
        """End a file."""
        attempt = self._attempts[file_id]
        playlist = f"s3://reelready-bench/video/hls/{file_id}/master"
        body = {
            "job_id": f"j-{attempt}",
            "attempt": attempt,
            "master_playlist": f"{playlist}.m3u8",
            "duration_ms": 30_500,
            "renditions": [{"playlist": f"{playlist}_480.m3u8"}],
        }
        answer = await self._say(file_id, "manifest", body, f"{file_id}-end")
        self._ledger.acknowledge(file_id, answer["seq"], attempt)

    def _url(self, path: str) -> str:
        return f"http://{next(self._hosts)}:{self._stage.port}{path}"

    async def _say(
        self, file_id: str, kind: str, body: dict[str, object], webhook_id: str
    ) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat()
        raw = msgspec.json.encode(body | {"occurred_at": now})
        path = f"/v1/files/{file_id}/{kind}"
        self.under_way.add(file_id)
        while True:
            signed = self._stage.known.signed(webhook_id, raw)
            headers = dict(line.split(": ", 1) for line in signed)
            try:
                async with self._http.post(
                    self._url(path), data=raw, headers=headers
                ) as answer:
                    self.happened[f"answer {answer.status}"] += 1
                    if answer.status == 200:
                        said: dict[str, Any] = await answer.json()
                        self.under_way.discard(file_id)
                        return said
            except (aiohttp.ClientError, TimeoutError) as error:
                self.happened[type(error).__name__] += 1
            await asyncio.sleep(_PAUSE_S)
