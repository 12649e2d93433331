"""The MediaConvert stand-in over real HTTP, with real clients and an S3 beside it."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiobotocore.session
import m3u8
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore.exceptions import ClientError

from local.mediaconvert import MediaConvert
from tests.jobs import request

REGION = "ap-northeast-2"
_ENOUGH_S = 40


class Events:
    """What was sent to EventBridge, and a way to wait for it."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    def __call__(self, event: dict[str, Any]) -> None:
        self.seen.append(event)
        self._news.set()

    def details(self, job_id: str) -> list[dict[str, Any]]:
        """Of one job, in the order sent."""
        details = [event["detail"] for event in self.seen]
        return [detail for detail in details if detail["jobId"] == job_id]

    def statuses(self, job_id: str) -> list[str]:
        """Of one job, in the order sent, without the updates between."""
        every = [detail["status"] for detail in self.details(job_id)]
        return [status for status in every if status != "STATUS_UPDATE"]

    async def until(
        self, job_id: str, found: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """The first event of the job that is it; it may have been sent before."""
        async with asyncio.timeout(_ENOUGH_S):
            while True:
                for detail in self.details(job_id):
                    if found(detail):
                        return detail
                self._news.clear()
                await self._news.wait()

    async def status(self, job_id: str, *wanted: str) -> dict[str, Any]:
        """The first event with one of these statuses."""
        return await self.until(job_id, lambda detail: detail["status"] in wanted)

    async def end(self, job_id: str) -> dict[str, Any]:
        """The event that ends the job."""
        return await self.status(job_id, "COMPLETE", "ERROR", "CANCELED")


class Conversion:
    """
    One started stand-in.

    Attributes:
        jobs: A real mediaconvert client; likewise ``s3``.
        events: Everything it sent.
        url: Of its API.
    """

    def __init__(
        self, url: str, jobs: Any, s3: Any, events: Events, work_dir: Path
    ) -> None:
        self.url = url
        self.work_dir = work_dir
        self.jobs = jobs
        self.s3 = s3
        self.events = events

    async def submit(self, *outputs: dict[str, Any], **more: Any) -> str:
        """Start a job on ``s3://films/in/a.mp4``; its id."""
        answer = await self.jobs.create_job(**as_boto(request(*outputs, **more)))
        job_id: str = answer["Job"]["Id"]
        return job_id

    async def convert(
        self, source: Path, *outputs: dict[str, Any], **more: Any
    ) -> tuple[str, dict[str, Any]]:
        """Upload a file, run a job to its end; its id and last event."""
        await self.upload(source)
        job_id = await self.submit(*outputs, **more)
        return job_id, await self.events.end(job_id)

    async def upload(self, source: Path, key: str = "in/a.mp4") -> None:
        """Put an input where jobs look for it."""
        body = await asyncio.to_thread(source.read_bytes)
        await self.s3.put_object(Bucket="films", Key=key, Body=body)

    async def read(self, key: str) -> bytes:
        """An object's bytes."""
        answer = await self.s3.get_object(Bucket="films", Key=key)
        body: bytes = await answer["Body"].read()
        return body

    async def types(self, prefix: str = "out/") -> dict[str, str]:
        """Content type by key of everything written."""
        listed = await self.s3.list_objects_v2(Bucket="films", Prefix=prefix)
        result = {}
        for entry in listed.get("Contents", []):
            head = await self.s3.head_object(Bucket="films", Key=entry["Key"])
            result[entry["Key"]] = head["ContentType"]
        return result

    async def playlist(self, key: str) -> m3u8.M3U8:
        """A playlist, parsed."""
        return m3u8.loads((await self.read(key)).decode())

    async def download(self, name: str, folder: Path) -> Path:
        """All segments of a rendition as one playable file."""
        playlist = await self.playlist(f"out/a/{name}.m3u8")
        parts = [await self.read(f"out/a/{s.uri}") for s in playlist.segments]
        target = folder / f"{name}.ts"
        target.write_bytes(b"".join(parts))
        return target


@contextlib.asynccontextmanager
async def conversion(
    s3_url: str, work_dir: Path, *, events: Events | None = None, **options: Any
) -> AsyncIterator[Conversion]:
    """Start one, with an empty bucket ``films``; ``options`` are MediaConvert's."""
    events = events or Events()
    service = MediaConvert(
        s3=_settings(s3_url),
        on_event=events,
        region=REGION,
        work_dir=work_dir,
        **{"status_interval_s": 0.05} | options,
    )
    async with (
        service,
        _served(service) as (url, jobs),
        _session().create_client("s3", **_settings(s3_url)) as s3,
    ):
        await empty_bucket(s3)
        yield Conversion(url, jobs, s3, events, work_dir)


@contextlib.asynccontextmanager
async def waiting_room(
    work_dir: Path, *, gate: Any = None, **options: Any
) -> AsyncIterator[Conversion]:
    """
    One that is served but never started: its jobs wait, and it has no S3.

    `gate` is a middleware before its API.
    """
    events = Events()
    service = MediaConvert(
        s3={}, on_event=events, region=REGION, work_dir=work_dir, **options
    )
    async with _served(service, *filter(None, [gate])) as (url, jobs):
        yield Conversion(url, jobs, None, events, work_dir)


@contextlib.asynccontextmanager
async def _served(service: MediaConvert, *gates: Any) -> AsyncIterator[tuple[str, Any]]:
    app = service.app()
    app.middlewares.extend(gates)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        client = _session().create_client("mediaconvert", **_settings(url))
        async with client as jobs:
            yield url, jobs


def _settings(url: str) -> dict[str, str]:
    return {
        "endpoint_url": url,
        "aws_access_key_id": "local",
        "aws_secret_access_key": "local",
        "region_name": REGION,
    }


@functools.cache
def _session() -> aiobotocore.session.AioSession:
    """One for all tests: it reads botocore's models once."""
    return aiobotocore.session.get_session()


async def empty_bucket(s3: Any) -> None:
    """``films``, with nothing in it."""
    where = {"LocationConstraint": REGION}
    with contextlib.suppress(ClientError):
        await s3.create_bucket(Bucket="films", CreateBucketConfiguration=where)
    for entry in (await s3.list_objects_v2(Bucket="films")).get("Contents", []):
        await s3.delete_object(Bucket="films", Key=entry["Key"])


def as_boto(value: Any) -> Any:
    """The wire's JSON with boto's spelling of the members."""
    if isinstance(value, list):
        return [as_boto(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name[0].upper() + name[1:]: item if name == "userMetadata" else as_boto(item)
        for name, item in value.items()
    }


@contextlib.asynccontextmanager
async def canary() -> AsyncIterator[tuple[str, list[str]]]:
    """An HTTP server nobody may call: its URL, and who did."""
    calls: list[str] = []

    async def note(request: web.Request) -> web.Response:
        calls.append(request.path)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", note)
    async with TestServer(app) as server:
        yield str(server.make_url("/")), calls
