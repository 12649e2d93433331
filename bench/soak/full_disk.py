"""
Postgres on a disk that fills up, under reports, and is given room again.

What was acknowledged must be there even after a kill -9: the disk was full, not
forgetful.  Needs root, for a file system of its own.
"""

import asyncio
import errno
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import aiohttp
import asyncpg

from bench.errors import MissingError
from bench.soak.kills import audit
from bench.soak.ledger import Ledger
from bench.soak.part import Outcome, Part, Size, at_least, at_most, none, told
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.tab import Tab, until
from local.environment import LOOPBACK

HEALED_S = 5.0

_DISK_MIB = 160
_FILES = 20
_CALM_S = 1.0
_FULL_S = {Size.SHORT: 2.0, Size.FULL: 60.0}
_END_S = 30.0
_MIB = b"\0" * (1 << 20)


@contextmanager
def _small_disk() -> Iterator[Path]:
    """
    Mount a file system in memory.

    Raises:
        MissingError: We are not root.
    """
    with tempfile.TemporaryDirectory(prefix="reelready-disk-") as name:
        size = f"size={_DISK_MIB}m,mode=711"
        command = ["mount", "-t", "tmpfs", "-o", size, "reelready-disk", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MissingError(f"root, to mount a small disk: {done.stderr.strip()}")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)


@contextmanager
def _filled(disk: Path) -> Iterator[None]:
    """Leave no byte free for the length of a block."""
    rest = disk / "rest"
    try:
        with rest.open("wb", buffering=0) as file:
            size = len(_MIB)
            while size:
                try:
                    file.write(_MIB[:size])
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2
        yield
    finally:
        rest.unlink()


@asynccontextmanager
async def _reporting(reporter: Reporter, file_ids: list[str]) -> AsyncIterator[None]:
    """Report on each file, one report after the other, for the length of a block."""

    async def report(file_id: str) -> None:
        while not over.is_set():
            await reporter.report(file_id)
            await asyncio.sleep(0.02)

    over = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for file_id in file_ids:
            tasks.create_task(report(file_id))
        try:
            yield
        finally:
            over.set()


async def _answers(stage: Stage, file_id: str, seconds: float) -> Counter[str]:
    """Register files and read one all the time; counts the answers, by kind."""
    said = {"name": "a.mp4", "content_type": "video/mp4", "size": 10}
    headers = {"Authorization": f"Bearer {stage.known.api_key}"}
    answers: Counter[str] = Counter()
    until_s = time.monotonic() + seconds
    async with aiohttp.ClientSession(f"http://{LOOPBACK}:{stage.port}") as http:
        while time.monotonic() < until_s:
            for kind, request in {
                "register": http.post("/v1/files", json=said, headers=headers),
                "read": http.get(f"/v1/files/{file_id}", headers=headers),
            }.items():
                async with request as answer:
                    after = " Retry-After" if "Retry-After" in answer.headers else ""
                    answers[f"{kind} {answer.status}{after}"] += 1
            await asyncio.sleep(0.02)
    return answers


async def _begin_new_log(stage: Stage) -> None:
    """Have Postgres need a new file for its log, without which it cannot live."""
    with suppress(asyncpg.PostgresError, OSError):
        async with stage.database() as database:
            await database.execute("select pg_switch_wal()")


async def _healed(stage: Stage, ledger: Ledger, happened: Counter[str]) -> float:
    """Seconds until a report on each file is stored; starts what has died."""
    began_s, heads = time.monotonic(), dict(ledger.heads)
    while time.monotonic() < began_s + _END_S:
        if not stage.postgres_is_alive:
            happened["Postgres started again"] += 1
            await stage.start_postgres()
        if all(ledger.heads[one] > head for one, head in heads.items()):
            break
        await asyncio.sleep(0.02)
    return time.monotonic() - began_s


async def _full_disk(size: Size) -> Outcome:
    ledger, happened = Ledger(), Counter[str]()
    answers: dict[str, Counter[str]] = {}
    refused: dict[str, int] = {}
    healed_s: list[float] = []
    with _small_disk() as disk:
        async with Stage(folder=disk) as stage, Reporter(stage, ledger) as reporter:
            await stage.start_gateway()
            await stage.ready()
            files = [await reporter.register() for _ in range(_FILES)]
            tabs = [
                Tab(stage.port, file_id, token, ledger, happened)
                for file_id, token in files
            ]
            for tab in tabs:
                tab.come()
            try:
                file_ids = [file_id for file_id, _ in files]
                async with _reporting(reporter, file_ids):
                    for fault in ("no room for rows", "no room for the log"):
                        await asyncio.sleep(_CALM_S)
                        before = reporter.happened["answer 503"]
                        with _filled(disk):
                            if fault == "no room for the log":
                                await _begin_new_log(stage)
                            answers[fault] = await _answers(
                                stage, file_ids[0], _FULL_S[size]
                            )
                            after = reporter.happened["answer 503"]
                        refused[fault] = after - before
                        healed_s.append(await _healed(stage, ledger, happened))
                dropped = sum(tab.connects != 1 for tab in tabs)
                stage.kill_postgres()
                await stage.start_postgres()
                for file_id in file_ids:
                    await reporter.complete(file_id)
                await until(lambda: all(tab.is_done for tab in tabs), limit_s=_END_S)
                await audit(stage, ledger, file_ids)
            finally:
                for tab in tabs:
                    tab.leave()
    fine = {f"{kind} 503 Retry-After" for kind in ("register", "read")}
    fine |= {"register 201", "read 200"}
    figures = [
        figure
        for fault, counted in answers.items()
        for figure in (
            at_least(
                f"{fault}: files refused with 503 and Retry-After",
                counted["register 503 Retry-After"],
                1,
            ),
            at_least(f"{fault}: reports refused with 503", refused[fault], 1),
            none(
                f"{fault}: files and reads answered but 2xx and such a 503",
                sum(n for one, n in counted.items() if one not in fine),
            ),
        )
    ]
    return Outcome(
        figures=[
            *figures,
            none("reports answered but 200 and 503", reporter.neither),
            none("streams that were dropped", dropped),
            at_most("stored again after there was room, s", max(healed_s), HEALED_S),
            none("acknowledged reports lost or wrong", ledger.faults.total()),
            none("clients not at the end", sum(not tab.is_done for tab in tabs)),
            told("times that Postgres died of it", happened["Postgres started again"]),
            told("reports acknowledged", ledger.acknowledged),
        ],
        samples={
            "answers": {fault: dict(one) for fault, one in answers.items()},
            "reporters": dict(reporter.happened),
            "clients": dict(happened),
            "faults": dict(ledger.faults),
        },
    )


FULL_DISK = Part(
    name="full-disk",
    rows="P9",
    about="the disk of Postgres is full: 503, streams stay, nothing acknowledged is lost",
    run=_full_disk,
)
