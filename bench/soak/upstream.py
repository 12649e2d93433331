"""
Notices that AWS loses: every file still ends, and right.

The whole local cloud with its real Lambdas, its S3 and its MediaConvert, which
converts for real.  A share of all notices is dropped at the source; besides,
the worker is killed now and then.  Time runs fifteen times as fast as in
production, but for the rests between sweeps, which weigh as much more here.
"""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import imageio_ffmpeg
import yarl
from aiobotocore.session import get_session

from bench.children import Children
from bench.errors import RunError
from bench.soak.part import Figure, Outcome, Part, Size, at_least, at_most, none, told
from local.environment import CODE, s3_client, without_aws

FASTER = 15
"""How much faster time runs than in production."""

MAX_LATE_S = 600.0
"""After a deadline, and after what a lost notice told of; of production's time."""

_DEADLINES_S = {"awaiting_upload": 10, "uploaded": 60, "converting": 360}
_SETTINGS = {
    "UPLOAD_URL_SECONDS": _DEADLINES_S["awaiting_upload"],
    "UPLOAD_DEADLINE_SECONDS": _DEADLINES_S["awaiting_upload"],
    "START_DEADLINE_SECONDS": _DEADLINES_S["uploaded"],
    "CONVERSION_DEADLINE_SECONDS": _DEADLINES_S["converting"],
}
_VIDEO = "testsrc2=size=64x48:rate=10"
_READY = re.compile(rb"Reelready is running: (http://\S+/)\n")
_START_S = 60.0
_END_S = 900.0
_POLL_S = 0.5
_AT_ONCE = 4
_SAVER = "hls_file_manifest_saver"
"""Sent by notices only; repairs start conversions by calling the other Lambda."""

_LOST = ": fault: lost "
_FINAL = {"playable", "failed", "canceled", "expired"}


@dataclass(frozen=True)
class _Plan:
    """
    Attributes:
        silence_s: Until a file is looked into: production's two minutes, or less.
        lost: Shares of the notices that are dropped; a cloud for each.
        files: Of each cloud, by what becomes of them.
        kill_every_s: Between two kills of the worker.
    """

    silence_s: int
    lost: tuple[float, ...]
    files: dict[str, int]
    kill_every_s: float


_PLANS = {
    Size.SHORT: _Plan(2, (1.0,), {"playable": 3, "failed": 1, "expired": 1}, 8.0),
    Size.FULL: _Plan(
        120 // FASTER,
        (0.01, 0.1, 1.0),
        {"playable": 140, "failed": 40, "expired": 20},
        20.0,
    ),
}


@dataclass
class _Seen:
    """
    What was counted.

    Attributes:
        late_s: How long after the deadline of its stage each file ended, at
            worst; negative before it.
        lost: Notices that the cloud says it dropped.
        notified: Events of a Lambda that no repair can have called.
        repaired: Events that the reconciler wrote, but for uploads that expired.
        found_s: How long after each thing happened the reconciler told it.
    """

    files: int = 0
    ended: int = 0
    otherwise: int = 0
    terminal: int = 0
    gaps: int = 0
    jobs: int = 0
    uploads: int = 0
    lost: int = 0
    notified: int = 0
    repaired: int = 0
    found_s: list[float] = field(default_factory=list)
    kills: int = 0
    late_s: list[float] = field(default_factory=list)
    senders: Counter[str] = field(default_factory=Counter)


class _Cloud:
    """
    A local cloud of its own, as `make run` starts it.

    Attributes:
        folder: With the pids of its processes.
    """

    def __init__(self, http: aiohttp.ClientSession, folder: Path) -> None:
        self.folder = folder
        self._http = http

    async def upload(self, end: str, content: bytes) -> str:
        """Register a file and, unless it is to expire, upload it; returns its id."""
        said = {"name": "a.mp4", "content_type": "video/mp4", "size": len(content)}
        async with self._http.post("/v1/files", json=said) as answer:
            made = await answer.json()
        if end != "expired":
            url = yarl.URL(made["upload"]["url"], encoded=True)
            headers = made["upload"]["headers"]
            async with aiohttp.request(
                "PUT", url, data=content, headers=headers
            ) as put:
                put.raise_for_status()
        file_id: str = made["file"]["id"]
        return file_id

    async def story(self, file_id: str) -> list[dict[str, Any]]:
        """Every event of a file; none while the gateway is away."""
        events: list[dict[str, Any]] = []
        after = 0
        with suppress(aiohttp.ClientError, KeyError):
            while True:
                path = f"/v1/files/{file_id}/history?after={after}"
                async with self._http.get(path) as answer:
                    page = await answer.json()
                events += page["events"]
                after = page["after"]
                if after == page["file"]["seq"]:
                    return events
        return []

    def worker(self) -> int | None:
        """Pid of the worker, while there is one."""
        pid: int | None = json.loads((self.folder / "children.json").read_text()).get(
            "worker"
        )
        return pid

    def lost(self) -> int:
        """How many notices it says it dropped."""
        return (self.folder / "logs" / "local.log").read_text().count(_LOST)

    async def jobs(self) -> Counter[str]:
        """How many jobs MediaConvert has of each file."""
        environ = Path(f"/proc/{self.worker()}/environ").read_text()  # noqa: ASYNC240 - no disk
        found = re.search(r"AWS_ENDPOINT_URL_MEDIACONVERT=([^\0]+)", environ)
        if found is None:
            raise RunError("the worker does not know where MediaConvert is")
        counted: Counter[str] = Counter()
        client = get_session().create_client("mediaconvert", **s3_client(found[1]))
        async with client as mediaconvert:
            async for page in mediaconvert.get_paginator("list_jobs").paginate():
                counted.update(job["UserMetadata"]["file_id"] for job in page["Jobs"])
        return counted


@asynccontextmanager
async def _cloud(
    children: Children, lost: float, silence_s: int
) -> AsyncIterator[_Cloud]:
    folder = children.temporary("cloud-")
    folder.chmod(0o711)  # Postgres may run as another user
    settings = {f"REELREADY_{name}": str(one) for name, one in _SETTINGS.items()}
    settings["REELREADY_SILENCE_SECONDS"] = str(silence_s)
    theirs = {k: v for k, v in os.environ.items() if not k.startswith("REELREADY_")}
    env = without_aws(theirs) | settings
    env |= {
        "PORT": "0",
        "DATABASE_URL": "",
        "DATA_DIR": str(folder),
        "PYTHONPATH": str(CODE),
        "REELREADY_LOCAL_FAULTS": f"lose={lost},seed={random.randrange(2**32)}",
    }
    command = [sys.executable, "-m", "local"]
    async with children.child("cloud", command, env=env, is_talking=True) as process:
        assert process.stdout is not None
        async with asyncio.timeout(_START_S):
            ready = _READY.fullmatch(await process.stdout.readline())
        if ready is None:
            raise RunError(f"no cloud: {children.last_words('cloud')}")
        headers = {"Authorization": "Bearer local"}
        async with aiohttp.ClientSession(ready[1].decode(), headers=headers) as http:
            yield _Cloud(http, folder)


async def _upstream(size: Size) -> Outcome:
    plan = _PLANS[size]
    figures: list[Figure] = []
    samples: dict[str, Any] = {}
    async with Children() as children:
        contents = {
            "playable": await asyncio.to_thread(_video, children.temporary("video-")),
            "failed": b"This is no video.",
            "expired": b"This never comes.",
        }
        for lost in plan.lost:
            async with _cloud(children, lost, plan.silence_s) as cloud:
                began_s = time.monotonic()
                seen = await _run(cloud, plan, contents)
            figures += _judged(f"{lost:.0%} lost", seen)
            if lost == 1:
                figures += _repaired(f"{lost:.0%} lost", seen)
            if size is Size.FULL:
                killed = f"{lost:.0%} lost: kills of the worker, at least"
                figures.append(at_least(killed, seen.kills, 1))
            samples[f"{lost:.0%}"] = {
                "seconds": round(time.monotonic() - began_s, 1),
                "files": plan.files,
                "senders": dict(seen.senders),
                "late_s": sorted(round(one, 2) for one in seen.late_s),
                "found_s": sorted(round(one, 2) for one in seen.found_s),
            }
    return Outcome(figures=figures, samples=samples)


async def _run(cloud: _Cloud, plan: _Plan, contents: dict[str, bytes]) -> _Seen:
    seen = _Seen()
    ends: dict[str, str] = {}
    waiting = [end for end, count in plan.files.items() for _ in range(count)]
    random.shuffle(waiting)

    async def uploader() -> None:
        while waiting:
            end = waiting.pop()
            ends[await cloud.upload(end, contents[end])] = end

    killing = asyncio.create_task(_kill(cloud, plan.kill_every_s, seen))
    async with asyncio.TaskGroup() as uploaders:
        for _ in range(_AT_ONCE):
            uploaders.create_task(uploader())
    try:
        stories = await _ended(cloud, list(ends))
    finally:
        killing.cancel()
        with suppress(asyncio.CancelledError):
            await killing
    seen.files = len(ends)
    seen.uploads = sum(end != "expired" for end in ends.values())
    for file_id, story in stories.items():
        _count(seen, ends[file_id], story)
    seen.lost = cloud.lost()
    jobs = await cloud.jobs()
    seen.jobs = sum(jobs[one] != (end != "expired") for one, end in ends.items())
    return seen


async def _kill(cloud: _Cloud, every_s: float, seen: _Seen) -> None:
    while True:
        await asyncio.sleep(every_s * random.uniform(0.5, 1.5))
        pid = cloud.worker()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                seen.kills += 1


async def _ended(cloud: _Cloud, file_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Wait until all have; whoever has not in time is told as it is."""
    stories: dict[str, list[dict[str, Any]]] = {one: [] for one in file_ids}
    until_s = time.monotonic() + _END_S
    left = file_ids
    while left and time.monotonic() < until_s:
        await asyncio.sleep(_POLL_S)
        for file_id in left:
            stories[file_id] = await cloud.story(file_id)
        left = [one for one in left if not _is_final(stories[one][-1:])]
    return stories


def _is_final(last: list[dict[str, Any]]) -> bool:
    return bool(last) and last[0]["state"]["status"] in _FINAL


def _count(seen: _Seen, end: str, story: list[dict[str, Any]]) -> None:
    finals = sum(event["state"]["status"] in _FINAL for event in story)
    seqs = [event["seq"] for event in story]
    seen.ended += finals > 0
    seen.terminal += finals != 1
    seen.otherwise += not story or story[-1]["state"]["status"] != end
    seen.gaps += seqs != list(range(1, len(seqs) + 1))
    seen.senders.update(str(event["sender"]) for event in story)
    repairs = [event for event in story if event["sender"] == "reconciler"]
    seen.repaired += sum(event["type"] != "expired" for event in repairs)
    first = story.index(repairs[0]) if repairs else len(story)
    seen.notified += sum(
        event["sender"] == _SAVER
        or (at < first and event["sender"] not in {"gateway", "reconciler"})
        for at, event in enumerate(story)
    )
    seen.found_s += [
        _at(event, "recorded_at") - _at(event, "occurred_at")
        for event in repairs
        if event["type"] != "progress"  # which occurs all the time
    ]
    silences = [
        _at(after, "recorded_at")
        - _at(before, "recorded_at")
        - _DEADLINES_S[before["state"]["status"]]
        for before, after in pairwise(story)
    ]
    if silences:
        seen.late_s.append(max(silences))


def _at(event: dict[str, Any], name: str) -> float:
    return datetime.fromisoformat(event[name]).timestamp()


def _judged(what: str, seen: _Seen) -> list[Figure]:
    return [
        told(f"{what}: files", seen.files),
        none(f"{what}: files that never ended", seen.files - seen.ended),
        none(f"{what}: files that ended otherwise", seen.otherwise),
        none(f"{what}: files without exactly one terminal event", seen.terminal),
        none(f"{what}: files with a gap in seq", seen.gaps),
        none(f"{what}: uploads without exactly one job", seen.jobs),
        at_most(
            f"{what}: latest end after a deadline, s of production",
            FASTER * max(seen.late_s, default=0.0),
            MAX_LATE_S,
        ),
        at_most(
            f"{what}: latest repair after what was lost, s of production",
            FASTER * max(seen.found_s, default=0.0),
            MAX_LATE_S,
        ),
        at_least(f"{what}: notices that were lost", seen.lost, 1),
        told(f"{what}: events that the reconciler wrote", seen.repaired),
        told(f"{what}: kills of the worker", seen.kills),
    ]


def _repaired(what: str, seen: _Seen) -> list[Figure]:
    """Judge that nothing but repairs moved a file."""
    return [
        none(f"{what}: events that a notice brought", seen.notified),
        at_least(f"{what}: repairs of what was uploaded", seen.repaired, seen.uploads),
    ]


def _video(folder: Path) -> bytes:
    """One second of a small moving picture."""
    target = folder / "a.mp4"
    making = ["-f", "lavfi", "-i", _VIDEO, "-t", "1", "-pix_fmt", "yuv420p"]
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run(
        [ffmpeg, "-loglevel", "error", *making, str(target)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return target.read_bytes()


UPSTREAM = Part(
    name="upstream",
    rows="I5",
    about="notices that AWS loses: every file still ends, once and right",
    run=_upstream,
)
