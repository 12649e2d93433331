"""
What AWS knows of a file that nobody hears of: S3, MediaConvert and Lambda.

Events get lost: S3 and EventBridge deliver at least once as a rule, and a
function that fails too often keeps its event in a dead-letter queue.  What
happened is still there to be asked for, and becomes the same report that the
lost event would have caused.

Nothing here ends a file or writes: an answer is what is known, or that nothing
could be learned now.

Source: S3 API reference, "HeadObject"; MediaConvert API reference, "GetJob",
"SearchJobs"; Lambda API reference, "Invoke"; docs/decisions/0009.
"""

import asyncio
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote_plus

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError
from msgspec import Struct

from gateway.config import Config
from gateway.errors import ConfigError, InvalidError
from gateway.model import FileRecord, FileState, Report, ReportType, Status
from gateway.protocol import manifest, report
from gateway.protocol.registration import extension
from lambdas.errors import NoPlaylistError, PlaylistError
from lambdas.job_reports import failure_report, no_playlist_report, progress_report
from lambdas.manifest import attempt_of, manifest_from_job, with_variants
from lambdas.playlist import MAX_PLAYLIST_BYTES, parse_master
from lambdas.reports import time_from_datetime

SENDER = "reconciler"
MAX_QUESTIONS = 8
"""At a time; on top of it the clients slow down when AWS says so."""

MAX_SEARCH_PAGES = 5

MAX_ASK_S = 30.0

_AWAY = (BotoCoreError, ClientError, OSError, TimeoutError)
_MISSING = {"404", "NoSuchKey", "NotFound", "NotFoundException"}
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
    """

    reports: tuple[Report, ...] = ()
    alive: bool = False
    unstarted: bool = False
    unknown: str | None = None


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
        self._stack = AsyncExitStack()
        self._s3: Any = None
        self._mediaconvert: Any = None
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
        self._s3, self._mediaconvert, self._lambda = [
            await self._stack.enter_async_context(
                session.create_client(service, region_name=region, config=config)
            )
            for service in ("s3", "mediaconvert", "lambda")
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def ask(self, file: FileRecord) -> Finding:
        """Learn what became of one file; what goes wrong is the answer, too."""
        async with self._turns:
            try:
                async with asyncio.timeout(MAX_ASK_S):
                    return await self._ask(file)
            except _AWAY as problem:
                why = " ".join(str(problem).split()) or type(problem).__name__
                _log.warning("cannot ask about %s: %s", file.state.id, why)
            except Exception as problem:  # noqa: BLE001 - one odd answer must not hold up other files
                _log.exception("cannot understand what is said of %s", file.state.id)
                why = type(problem).__name__
            return Finding(unknown=why)

    async def convert(self, state: FileState) -> None:
        """
        Have the converter look at an upload again, as if S3 had told it.

        However often that happens, it makes one job (docs/decisions/0009).
        """
        if not self._converter:
            return
        async with self._turns:
            try:
                await self._lambda.invoke(
                    FunctionName=self._converter,
                    InvocationType="Event",
                    Payload=json.dumps(self._notification(state)).encode(),
                )
            except _AWAY as problem:
                _log.warning("cannot invoke %s: %s", self._converter, problem)

    async def _ask(self, file: FileRecord) -> Finding:
        if file.state.status is Status.AWAITING_UPLOAD:
            return await self._ask_for_upload(file.state)
        job = await self._job(file)
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
            if problem.response["Error"]["Code"] in _MISSING:
                return Finding()
            raise
        uploaded = Report(
            type=ReportType.UPLOADED,
            occurred_at=found["LastModified"].astimezone(UTC),
            attempt=state.attempt,
            sender=SENDER,
        )
        return Finding(reports=(uploaded,), unstarted=True)

    async def _job(self, file: FileRecord) -> Mapping[str, Any] | None:
        """Find the newest job of the current attempt; None: there is none."""
        known = [
            job_id
            for job_id, job in file.jobs.items()
            if job.attempt == file.state.attempt
        ]
        told = [await self._get_job(job_id) for job_id in known]
        jobs = [job for job in told if job is not None]
        return max(
            jobs or await self._search(file.state),
            key=lambda job: job["CreatedAt"],
            default=None,
        )

    async def _get_job(self, job_id: str) -> Mapping[str, Any] | None:
        try:
            answer = await self._mediaconvert.get_job(Id=job_id)
        except ClientError as problem:
            if problem.response["Error"]["Code"] in _MISSING:
                return None
            raise
        job: Mapping[str, Any] = answer["Job"]
        return job

    async def _search(self, state: FileState) -> Sequence[Mapping[str, Any]]:
        """Jobs of this file's attempt by what they read, newest page first."""
        query = {
            "InputFile": f"s3://{self._bucket}/{self._key(state)}",
            "MaxResults": 20,
            "Order": "DESCENDING",
        }
        for _ in range(MAX_SEARCH_PAGES):
            answer = await self._mediaconvert.search_jobs(**query)
            found = [job for job in answer.get("Jobs", []) if _is_of(state, job)]
            if found or not answer.get("NextToken"):
                return found
            query["NextToken"] = answer["NextToken"]
        return []

    async def _said(self, state: FileState, job: Mapping[str, Any]) -> Report:
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

    async def _completed(self, state: FileState, job: Mapping[str, Any]) -> Report:
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


def _is_of(state: FileState, job: Mapping[str, Any]) -> bool:
    metadata = job.get("UserMetadata", {})
    return metadata.get("file_id") == state.id and attempt_of(metadata) == state.attempt


def _last_moment(job: Mapping[str, Any]) -> datetime:
    """When the newest thing that GetJob tells happened."""
    timing = job.get("Timing", {})
    for name in ("FinishTime", "StartTime", "SubmitTime"):
        if name in timing:
            moment: datetime = timing[name]
            return moment
    created: datetime = job["CreatedAt"]
    return created
