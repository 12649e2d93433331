"""
What MediaConvert knows of conversions, asked slowly.

A silent conversion is the exception, and GetJob tells of one.  When many are
silent at a time, a page of ListJobs tells of twenty: their jobs are among the
newest of the account, because nothing was heard since.  Which jobs there are
not is learned there, too: a job is younger than its file.

Source: MediaConvert API reference, "GetJob", "ListJobs", "SearchJobs";
docs/decisions/0009.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from gateway.model import FileId, FileRecord, FileState
from lambdas.manifest import attempt_of

Job = Mapping[str, Any]
"""As aiobotocore spells it."""

CALLS_PER_SECOND = 2.0
"""Of one worker.  AWS does not say what it allows; some have seen it refuse few."""

PAGE_JOBS = 20
"""As many as MediaConvert gives at a time."""

MIN_FILES_PER_PAGE = 4
"""A page of ListJobs is read for so many silent files, or not at all."""

MAX_LIST_PAGES = 20
MAX_SEARCH_PAGES = 5

CLOCKS_DIFFER = timedelta(minutes=5)
"""By how much a job may seem older than its file."""

MISSING = {"404", "NoSuchKey", "NotFound", "NotFoundException"}


class Jobs:
    """
    The jobs of one account and region.

    Args:
        mediaconvert: A client of aiobotocore; it backs off when AWS says so.
        source: S3 URI of what a file's jobs read.
    """

    def __init__(self, mediaconvert: Any, source: Callable[[FileState], str]) -> None:
        self._mediaconvert = mediaconvert
        self._source = source
        self._next_call_s = 0.0
        self._turn = asyncio.Lock()

    async def listed(self, files: Sequence[FileRecord]) -> dict[FileId, Job | None]:
        """
        Look for many files' jobs at a time, as far as that is cheaper.

        Returns:
            The newest job of the current attempt; None: there is none.  Files
            that are left out must be asked about one by one: a job that was
            heard of and is not listed, too.

        Raises:
            ClientError, BotoCoreError: AWS refuses, or is away.
        """
        found: dict[FileId, Job | None] = {}
        left = {file.state.id: file for file in files}
        by_job = {job_id: file for file in files for job_id in _known(file)}
        query: dict[str, Any] = {"MaxResults": PAGE_JOBS, "Order": "DESCENDING"}
        for _ in range(min(len(files) // MIN_FILES_PER_PAGE, MAX_LIST_PAGES)):
            answer = await self._call("list_jobs", **query)
            page = answer.get("Jobs", [])
            for job in page:
                file = by_job.get(job["Id"]) or left.get(_file_id(job))
                if file is not None and file.state.id in left and _is_of(file, job):
                    found[file.state.id] = job
                    del left[file.state.id]
            if not answer.get("NextToken") or _is_older(page, left.values()):
                unheard = [one for one, file in left.items() if not _known(file)]
                return found | dict.fromkeys(unheard)
            query["NextToken"] = answer["NextToken"]
        return found

    async def of(self, file: FileRecord) -> Job | None:
        """
        Find the newest job of the current attempt; None: there is none.

        Raises:
            ClientError, BotoCoreError: AWS refuses, or is away.
        """
        told = [await self._get(job_id) for job_id in _known(file)]
        jobs = [job for job in told if job is not None]
        return max(
            jobs or await self._search(file),
            key=lambda job: job["CreatedAt"],
            default=None,
        )

    async def _get(self, job_id: str) -> Job | None:
        try:
            answer = await self._call("get_job", Id=job_id)
        except ClientError as problem:
            if problem.response["Error"]["Code"] in MISSING:
                return None
            raise
        job: Job = answer["Job"]
        return job

    async def _search(self, file: FileRecord) -> Sequence[Job]:
        """Jobs by what they read, newest page first."""
        query: dict[str, Any] = {
            "InputFile": self._source(file.state),
            "MaxResults": PAGE_JOBS,
            "Order": "DESCENDING",
        }
        for _ in range(MAX_SEARCH_PAGES):
            answer = await self._call("search_jobs", **query)
            found = [job for job in answer.get("Jobs", []) if _is_of(file, job)]
            if found or not answer.get("NextToken"):
                return found
            query["NextToken"] = answer["NextToken"]
        return []

    async def _call(self, operation: str, **query: Any) -> Mapping[str, Any]:
        """
        Call when it is our turn: apart, and not in step with other workers.

        Whoever gives up before leaves its turn to the next.
        """
        clock = asyncio.get_running_loop().time
        async with self._turn:
            await asyncio.sleep(self._next_call_s - clock())
            apart_s = random.uniform(0.5, 1.5) / CALLS_PER_SECOND  # noqa: S311 - no secret
            self._next_call_s = clock() + apart_s
        answer: Mapping[str, Any] = await getattr(self._mediaconvert, operation)(
            **query
        )
        return answer


def _known(file: FileRecord) -> list[str]:
    """Ids of the current attempt's jobs that were heard of."""
    attempt = file.state.attempt
    return [job_id for job_id, job in file.jobs.items() if job.attempt == attempt]


def _is_of(file: FileRecord, job: Job) -> bool:
    """Of which attempt a job is that was heard of, the file knows better."""
    return job["Id"] in _known(file) or (
        _file_id(job) == file.state.id
        and attempt_of(job.get("UserMetadata", {})) == file.state.attempt
    )


def _file_id(job: Job) -> FileId:
    return FileId(job.get("UserMetadata", {}).get("file_id", ""))


def _is_older(page: Sequence[Job], files: Collection[FileRecord]) -> bool:
    """Whether the jobs after this page are older than any of the files."""
    if not files:
        return True
    oldest: datetime = min(file.state.created_at for file in files)
    return bool(page) and page[-1]["CreatedAt"] < oldest - CLOCKS_DIFFER
