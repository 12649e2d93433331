"""
The MediaConvert stand-in: the API that boto3 talks to, and the queue behind it.

A job that was accepted ends: COMPLETE, CANCELED or ERROR, with the event that
says so, whatever happens to it.  Jobs live in memory, as long as the process.

Source: botocore's model of ``mediaconvert`` (paths, statuses, errors);
MediaConvert API reference, "Idempotency".
"""

import asyncio
import base64
import contextlib
import json
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import aiobotocore.session
from aiohttp import web
from botocore.config import Config

from local.ladder import Ladder, SettingsError
from local.mediaconvert_job import Job, Place
from local.mediaconvert_model import request_problems, service_model
from local.probe import INTERNAL, Media, MediaError
from local.transcode import transcode

TOKEN_LIFETIME_S = 60.0
"""How long a ClientRequestToken names the job it made.  Not longer: a Lambda's
first retry comes after this, and what it then does must be seen here too."""

MAX_RESULTS = 20

_API = "/2017-08-29"
_MAX_REQUEST_BYTES = 1 << 20
_MAX_WAITING = 1000
_log = logging.getLogger(__name__)


class ApiError(Exception):
    """
    A refusal of the API.

    Attributes:
        kind: Its name in botocore's model.
        status: HTTP.
    """

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind

    def response(self) -> web.Response:
        """As rest-json clients read it."""
        headers = {"x-amzn-ErrorType": self.kind}
        body = {"message": str(self)}
        return web.json_response(body, status=self.status, headers=headers)


def _bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequestException", message)


class MediaConvert:
    """
    Jobs, their queue and the children that convert; an async context manager.

    Serve ``app()`` while it is started.  On stop every ffmpeg is ended, and the
    working files are gone; unfinished jobs are forgotten without an event.

    Args:
        s3: Where inputs and outputs are, as keyword arguments of a boto client:
            ``endpoint_url``, ``aws_access_key_id``, ...
        on_event: Gets each EventBridge event, in order; must not block.
        work_dir: For temporary folders, one a job.
        concurrency: Conversions at a time.
        status_interval_s: Between STATUS_UPDATE events; None takes what the job
            asks for (10 s at least, too long for a short clip).
        max_job_s: Wall-clock limit of one job; then it ends in ERROR.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        *,
        s3: Mapping[str, Any],
        on_event: Callable[[dict[str, Any]], None],
        region: str,
        work_dir: Path,
        account: str = "000000000000",
        concurrency: int = 1,
        status_interval_s: float | None = 1.0,
        max_job_s: float = 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._s3_settings = dict(s3)
        self._on_event = on_event
        self._place = Place(account, region)
        self._work_dir = work_dir
        self._concurrency = concurrency
        self._status_interval_s = status_interval_s
        self._max_job_s = max_job_s
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._tokens: dict[str, tuple[float, Job]] = {}
        self._waiting: asyncio.PriorityQueue[tuple[int, int, Job]] = (
            asyncio.PriorityQueue()
        )
        self._workers: list[asyncio.Task[None]] = []
        self._resources = contextlib.AsyncExitStack()
        self._s3: Any = None

    async def start(self) -> None:
        """Begin to convert.  Once started, again is nothing."""
        if self._workers:
            return
        await asyncio.to_thread(service_model)
        await asyncio.to_thread(self._work_dir.mkdir, parents=True, exist_ok=True)
        config = Config(request_checksum_calculation="when_required")
        client = aiobotocore.session.get_session().create_client(
            "s3", config=config, **self._s3_settings
        )
        self._s3 = await self._resources.enter_async_context(client)
        self._workers = [
            asyncio.create_task(self._work()) for _ in range(self._concurrency)
        ]

    async def stop(self) -> None:
        """End what runs and wait for it.  Safe unstarted and twice."""
        running = [job.task for job in self._jobs.values() if job.task]
        tasks = [*self._workers, *running]
        self._workers = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._resources.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def app(self) -> web.Application:
        """The HTTP side; needs ``start`` for jobs to move."""
        app = web.Application(
            middlewares=[_answer_errors], client_max_size=_MAX_REQUEST_BYTES
        )
        app.router.add_post(f"{_API}/jobs", self._create_job)
        app.router.add_get(f"{_API}/jobs", self._list_jobs)
        app.router.add_get(f"{_API}/jobs/{{id}}", self._get_job)
        app.router.add_delete(f"{_API}/jobs/{{id}}", self._cancel_job)
        app.router.add_get(f"{_API}/search", self._list_jobs)
        return app

    # The API

    async def _create_job(self, request: web.Request) -> web.Response:
        body = await _json(request)
        _check("CreateJob", body)
        job = self._job_of_token(body) or self._submit(body)
        return web.json_response({"job": job.document()}, status=201)

    def _job_of_token(self, body: dict[str, Any]) -> Job | None:
        now_s = self._clock()
        self._tokens = {
            token: (made_s, job)
            for token, (made_s, job) in self._tokens.items()
            if now_s - made_s < TOKEN_LIFETIME_S
        }
        return self._tokens.get(body.get("clientRequestToken", ""), (0, None))[1]

    def _submit(self, body: dict[str, Any]) -> Job:
        try:
            ladder = Ladder.of(body["settings"])
        except SettingsError as error:
            raise _bad_request(str(error)) from error
        if self._waiting.qsize() >= _MAX_WAITING:
            raise ApiError(429, "TooManyRequestsException", "Too many waiting jobs")
        now_s = self._clock()
        job = Job.create(len(self._jobs), body, ladder, self._place, now_s)
        self._jobs[job.id] = job
        if token := body.get("clientRequestToken"):
            self._tokens[token] = (now_s, job)
        self._waiting.put_nowait((-job.priority, job.number, job))
        return job

    async def _get_job(self, request: web.Request) -> web.Response:
        return web.json_response({"job": self._find(request).document()})

    async def _cancel_job(self, request: web.Request) -> web.Response:
        job = self._find(request)
        if job.is_finished:
            msg = f"Job {job.id} is {job.status} and cannot be canceled"
            raise ApiError(409, "ConflictException", msg)
        self._finish(job, "CANCELED")
        if job.task:
            job.task.cancel()
            await asyncio.wait([job.task])
        return web.json_response({}, status=202)

    def _find(self, request: web.Request) -> Job:
        job = self._jobs.get(request.match_info["id"])
        if job is None:
            raise ApiError(404, "NotFoundException", "The job does not exist")
        return job

    async def _list_jobs(self, request: web.Request) -> web.Response:
        _check_query(request.query)
        found, token = _page(self._matching(request.query), request.query)
        body: dict[str, Any] = {"jobs": [job.document() for job in found]}
        if token:
            body["nextToken"] = token
        return web.json_response(body)

    def _matching(self, query: Mapping[str, str]) -> list[Job]:
        status, part = query.get("status"), query.get("inputFile", "")
        queue = query.get("queue", "")
        return [
            job
            for job in self._jobs.values()
            if status in {None, job.status}
            and part in str(job.ladder.source)
            and (not queue or job.queue in {queue, self._place.arn(f"queues/{queue}")})
        ]

    # The queue

    async def _work(self) -> None:
        while True:
            _, _, job = await self._waiting.get()
            if job.status == "SUBMITTED":
                job.task = asyncio.create_task(self._run(job))
                await asyncio.wait([job.task])
                job.task = None

    async def _run(self, job: Job) -> None:
        job.status, job.started_s = "PROGRESSING", self._clock()
        self._emit(job, "PROGRESSING")
        updates = asyncio.create_task(self._update(job))
        try:
            async with asyncio.timeout(self._max_job_s):
                job.outputs = await self._convert(job)
        except MediaError as error:
            self._fail(job, error.code, error.message)
        except TimeoutError:
            msg = f"The conversion took longer than {self._max_job_s:g} s."
            self._fail(job, INTERNAL, msg)
        except Exception:  # noqa: BLE001 - a job without an end leaves its file without one
            _log.exception("job %s", job.id)
            self._fail(job, INTERNAL, "The conversion failed unexpectedly.")
        else:
            self._finish(job, "COMPLETE", **job.completion())
        finally:
            updates.cancel()
            await asyncio.wait([updates])

    async def _convert(self, job: Job) -> Any:
        def announce(media: Media) -> None:
            self._emit(job, "INPUT_INFORMATION", **job.input_information(media))

        with tempfile.TemporaryDirectory(
            prefix="mediaconvert-", dir=self._work_dir, ignore_cleanup_errors=True
        ) as folder:
            return await transcode(
                job.ladder,
                s3=self._s3,
                folder=Path(folder),
                progress=job.progress,
                on_probed=announce,
            )

    async def _update(self, job: Job) -> None:
        interval_s = self._status_interval_s
        if interval_s is None:
            wanted = job.request.get("statusUpdateInterval", "SECONDS_60")
            interval_s = float(wanted.removeprefix("SECONDS_"))
        while True:
            await asyncio.sleep(interval_s)
            if not job.is_finished:
                self._emit(job, "STATUS_UPDATE", **job.status_update())

    def _fail(self, job: Job, code: int, message: str) -> None:
        job.error = (code, message)
        self._finish(job, "ERROR", errorCode=code, errorMessage=message)

    def _finish(self, job: Job, status: str, **extra: Any) -> None:
        if not job.is_finished:
            job.status, job.finished_s = status, self._clock()
            self._emit(job, status, **extra)

    def _emit(self, job: Job, status: str, **extra: Any) -> None:
        try:
            self._on_event(job.event(status, self._clock(), **extra))
        except Exception:  # noqa: BLE001 - the listener's trouble is not the job's
            _log.exception("event %s of job %s", status, job.id)


@web.middleware
async def _answer_errors(
    request: web.Request,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    try:
        if not request.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 "):
            raise ApiError(403, "ForbiddenException", "Missing Authentication Token")  # noqa: TRY301 - one way out for all refusals
        return await handler(request)
    except ApiError as error:
        return error.response()
    except web.HTTPRequestEntityTooLarge:
        return _bad_request("The request is too large").response()
    except web.HTTPException as error:
        return ApiError(error.status, "NotFoundException", error.reason).response()


async def _json(request: web.Request) -> Any:
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        msg = "The request body is not JSON"
        raise _bad_request(msg) from error


def _check_query(query: Mapping[str, str]) -> None:
    """ListJobs and SearchJobs differ in ``inputFile`` only."""
    given: dict[str, Any] = dict(query)
    with contextlib.suppress(ValueError):
        given["maxResults"] = int(query.get("maxResults", MAX_RESULTS))
    _check("SearchJobs", given)


def _check(operation: str, given: Any) -> None:
    if problems := request_problems(operation, given):
        raise _bad_request("; ".join(problems[:5]))


def _page(
    jobs: Iterable[Job], query: Mapping[str, str]
) -> tuple[list[Job], str | None]:
    """
    One page and the token of the next.  A token names the last job shown, so
    jobs that come meanwhile neither repeat nor hide others.
    """
    ascending = query.get("order") == "ASCENDING"
    ordered = sorted(jobs, key=lambda job: job.number, reverse=not ascending)
    if token := query.get("nextToken"):
        last = _last_shown(token)
        ordered = [
            job
            for job in ordered
            if (job.number > last if ascending else job.number < last)
        ]
    size = int(query.get("maxResults", MAX_RESULTS))
    page = ordered[:size]
    if len(ordered) <= size:
        return page, None
    return page, base64.urlsafe_b64encode(str(page[-1].number).encode()).decode()


def _last_shown(token: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(token))
    except ValueError as error:
        msg = "nextToken is not valid"
        raise _bad_request(msg) from error
