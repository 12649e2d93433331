"""
What AWS knows of a file that nobody hears of: S3, MediaConvert and Lambda.

Events get lost: S3 and EventBridge deliver at least once as a rule, and a
function that fails too often keeps its event in a dead-letter queue.  What
happened is still there to be asked for, and becomes the same report that the
lost event would have caused.

Nothing here ends a file or writes: an answer is what is known, or that nothing
could be learned now.

Source: S3 API reference, "HeadObject"; Lambda API reference, "Invoke";
docs/decisions/0009.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote_plus

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError
from msgspec import Struct
from msgspec.structs import replace

from gateway.config import Config
from gateway.errors import ConfigError, InvalidError
from gateway.model import FileId, FileRecord, FileState, Report, ReportType, Status
from gateway.protocol import manifest, report
from gateway.protocol.registration import extension
from lambdas.errors import NoPlaylistError, PlaylistError
from lambdas.job_reports import failure_report, no_playlist_report, progress_report
from lambdas.manifest import manifest_from_job, with_variants
from lambdas.playlist import MAX_PLAYLIST_BYTES, parse_master
from lambdas.reports import time_from_datetime
from workers.jobs import MISSING, Job, Jobs

SENDER = "reconciler"
MAX_QUESTIONS = 8
"""
At a time, of MediaConvert and of others: those must not wait for its pace.  On
top of it the clients slow down when AWS says so.
"""

MAX_QUESTION_S = 29.0
"""Two fit into `MAX_ASK_S`: a list that hangs, and then what is asked one by one."""

MAX_ASK_S = 60.0
"""For all questions of one sweep: what hangs must not hold up every file."""

MAX_INVOKE_S = 15.0
"""For all uploads of one sweep that the converter is told of again."""

_AWAY = (BotoCoreError, ClientError, OSError, TimeoutError)
_PART = 16 * 1024
_RUNNING = {"SUBMITTED", "PROGRESSING"}

_log = logging.getLogger("reelready.reconciler")


class Finding(Struct, frozen=True):
    """
    What was learned of one silent file.

    Attributes:
        reports: What lost events would have said, in order.
        alive: Whether a job is still at it, so that silence is no end.
        unstarted: Whether the upload is there and no job is.
        unknown: Why nothing could be learned; None: it was.
        unasked: Whether nothing could be learned because our own time was over,
            which says nothing of AWS.
    """

    reports: tuple[Report, ...] = ()
    alive: bool = False
    unstarted: bool = False
    unknown: str | None = None
    unasked: bool = False


class Upstream:
    """
    Asks AWS with the credentials of this machine.

    Region, endpoints and credentials are AWS's own environment variables.

    Raises:
        ConfigError: There is no region; on entering.
    """

    def __init__(self, config: Config) -> None:
        self._bucket = config.bucket
        self._upload_prefix = config.upload_prefix
        self._converter = config.converter_function
        self._outputs = manifest.Outputs(
            config.bucket, config.output_prefix, config.playback_base_url
        )
        self._turns = asyncio.Semaphore(MAX_QUESTIONS)
        self._job_turns = asyncio.Semaphore(MAX_QUESTIONS)
        self._stack = AsyncExitStack()
        self._s3: Any = None
        self._jobs: Any = None
        self._lambda: Any = None

    async def __aenter__(self) -> Self:
        session = get_session()
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        if region is None:
            raise ConfigError("AWS_REGION", "is not set (where the bucket is)")
        config = AioConfig(
            connect_timeout=3,
            read_timeout=10,
            retries={"mode": "adaptive", "max_attempts": 4},
        )
        self._s3, mediaconvert, self._lambda = [
            await self._stack.enter_async_context(
                session.create_client(service, region_name=region, config=config)
            )
            for service in ("s3", "mediaconvert", "lambda")
        ]
        self._jobs = Jobs(
            mediaconvert, lambda state: f"s3://{self._bucket}/{self._key(state)}"
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def ask(self, files: Sequence[FileRecord]) -> list[Finding]:
        """
        Learn what became of files, a finding for each; what goes wrong is one, too.

        Takes `MAX_ASK_S` at most: what is not answered by then is unknown, and
        unasked unless AWS answered none of its kind.
        """
        until_s = asyncio.get_running_loop().time() + MAX_ASK_S
        listed: dict[FileId, Job | None] = {}
        async with self._question("jobs", self._job_turns, until_s):
            listed = await self._jobs.listed(
                [one for one in files if one.state.status is not Status.AWAITING_UPLOAD]
            )
        findings = await asyncio.gather(
            *(self._finding(file, listed, until_s) for file in files)
        )
        asked = list(zip(map(_waits_for_upload, files), findings, strict=True))
        mute = {
            kind: _is_mute([finding for of, finding in asked if of is kind])
            for kind in (True, False)
        }
        unasked = sum(one.unasked and not mute[kind] for kind, one in asked)
        if unasked:
            _log.warning("no time to ask about %s of %s files", unasked, len(files))
        return [
            replace(finding, unasked=finding.unasked and not mute[kind])
            for kind, finding in asked
        ]

    async def convert(self, states: Iterable[FileState]) -> None:
        """
        Have the converter look at uploads again, as if S3 had told it.

        However often that happens, it makes one job (docs/decisions/0009).
        """
        if not self._converter:
            return
        until_s = asyncio.get_running_loop().time() + MAX_INVOKE_S
        await asyncio.gather(*(self._invoke(state, until_s) for state in states))

    async def _invoke(self, state: FileState, until_s: float) -> None:
        about = f"{self._converter} of {state.id}"
        async with self._question(about, self._turns, until_s):
            await self._lambda.invoke(
                FunctionName=self._converter,
                InvocationType="Event",
                Payload=json.dumps(self._notification(state)).encode(),
            )

    async def _finding(
        self, file: FileRecord, listed: Mapping[FileId, Job | None], until_s: float
    ) -> Finding:
        turns = self._turns if _waits_for_upload(file) else self._job_turns
        async with self._question(file.state.id, turns, until_s) as problems:
            return await self._ask(file, listed)
        return problems[0]

    @asynccontextmanager
    async def _question(
        self, about: str, turns: asyncio.Semaphore, until_s: float
    ) -> AsyncIterator[list[Finding]]:
        """Ask when it is our turn; what goes wrong is logged, and put on the list."""
        problems: list[Finding] = []
        async with turns:
            now_s = asyncio.get_running_loop().time()
            limit = asyncio.timeout_at(min(until_s, now_s + MAX_QUESTION_S))
            try:
                async with limit:
                    yield problems
            except _AWAY as problem:
                why = " ".join(str(problem).split()) or type(problem).__name__
                unasked = limit.expired() and limit.when() == until_s
                if not unasked:
                    _log.warning("cannot ask about %s: %s", about, why)
                problems.append(Finding(unknown=why, unasked=unasked))
            except Exception as problem:  # noqa: BLE001 - one odd answer must not hold up other files
                _log.exception("cannot understand what is said of %s", about)
                problems.append(Finding(unknown=type(problem).__name__))

    async def _ask(
        self, file: FileRecord, listed: Mapping[FileId, Job | None]
    ) -> Finding:
        if _waits_for_upload(file):
            return await self._ask_for_upload(file.state)
        job = (
            listed[file.state.id]
            if file.state.id in listed
            else await self._jobs.of(file)
        )
        if job is None:
            return Finding(unstarted=file.state.status is Status.UPLOADED)
        said = await self._said(file.state, job)
        return Finding(reports=(said,), alive=job["Status"] in _RUNNING)

    async def _ask_for_upload(self, state: FileState) -> Finding:
        try:
            found = await self._s3.head_object(
                Bucket=self._bucket, Key=self._key(state)
            )
        except ClientError as problem:
            if problem.response["Error"]["Code"] in MISSING:
                return Finding()
            raise
        uploaded = Report(
            type=ReportType.UPLOADED,
            occurred_at=found["LastModified"].astimezone(UTC),
            attempt=state.attempt,
            sender=SENDER,
        )
        return Finding(reports=(uploaded,), unstarted=True)

    async def _said(self, state: FileState, job: Job) -> Report:
        """
        Say of a job what the events of it would have said.

        Of which attempt it is, the file knows better than the job.
        """
        if job["Status"] == "COMPLETE":
            try:
                return await self._completed(state, job)
            except (NoPlaylistError, InvalidError) as problem:
                _log.error("job %s has no playlist: %s", job["Id"], problem)
                said = no_playlist_report()
        elif job["Status"] == "ERROR":
            said = failure_report(job.get("ErrorCode"), job.get("ErrorMessage"))
        elif job["Status"] == "CANCELED":
            said = {"type": "canceled"}
        else:
            said = progress_report(
                job.get("CurrentPhase"), job.get("JobPercentComplete")
            )
        said |= {
            "job_id": job["Id"],
            "attempt": state.attempt,
            "occurred_at": time_from_datetime(_last_moment(job)),
            "sender": SENDER,
        }
        return report.decode(json.dumps(said).encode())

    async def _completed(self, state: FileState, job: Job) -> Report:
        """
        Build what the manifest of a finished job says.

        Raises:
            NoPlaylistError, InvalidError: It has none that is ours to play.
        """
        made = manifest_from_job(job)
        try:
            made = with_variants(made, parse_master(await self._read(made)))
        except (*_AWAY, PlaylistError) as problem:
            _log.warning("%s: playlist unread: %s", state.id, problem)
        said = made | {"attempt": state.attempt, "sender": SENDER}
        return manifest.decode(json.dumps(said).encode(), state.id, self._outputs)

    async def _read(self, made: Mapping[str, Any]) -> str:
        bucket, _, key = made["master_playlist"].removeprefix("s3://").partition("/")
        answer = await self._s3.get_object(Bucket=bucket, Key=key)
        async with answer["Body"] as body:
            content = b""
            while len(content) <= MAX_PLAYLIST_BYTES and (
                part := await body.read(_PART)
            ):
                content += part
        return content.decode(errors="replace")

    def _key(self, state: FileState) -> str:
        return f"{self._upload_prefix}{state.id}{extension(state.name)}"

    def _notification(self, state: FileState) -> dict[str, Any]:
        """S3's own shape, so that the converter needs no other way in."""
        return {
            "Records": [
                {
                    "eventVersion": "2.2",
                    "eventSource": "aws:s3",
                    "eventName": "ObjectCreated:Put",
                    "eventTime": time_from_datetime(state.updated_at),
                    "s3": {
                        "bucket": {"name": self._bucket},
                        "object": {
                            "key": quote_plus(self._key(state), safe="/"),
                            "size": state.size,
                        },
                    },
                }
            ]
        }


def _waits_for_upload(file: FileRecord) -> bool:
    return file.state.status is Status.AWAITING_UPLOAD


def _is_mute(findings: Sequence[Finding]) -> bool:
    """Whether AWS failed whoever it was asked about, and so would the others."""
    return all(one.unknown for one in findings) and not all(
        one.unasked for one in findings
    )


def _last_moment(job: Job) -> datetime:
    """When the newest thing that GetJob tells happened."""
    timing = job.get("Timing", {})
    for name in ("FinishTime", "StartTime", "SubmitTime"):
        if name in timing:
            moment: datetime = timing[name]
            return moment
    created: datetime = job["CreatedAt"]
    return created
