"""The API as real clients meet it, and the queue behind it."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import boto3
import psutil
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from local.mediaconvert import MediaConvert
from local.mediaconvert_model import answer_problems
from tests.clips import QUICK_H264, clip
from tests.conversion import (
    REGION,
    Conversion,
    Events,
    as_boto,
    conversion,
    waiting_room,
)
from tests.jobs import output, request

SLOW = output("_1080", 1920, 1080, scalingBehavior="FIT")
"""Takes much longer than a test, with the long clip."""


class Clock:
    """Time that a test moves."""

    now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """A store of objects."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute and a half, quickly made."""
    folder = tmp_path_factory.mktemp("long")
    return clip(folder / "a.mp4", *QUICK_H264, "-r", "10", seconds=90)


@pytest.fixture
def clock() -> Clock:
    """For tokens."""
    return Clock()


@pytest.fixture
async def waiting(tmp_path: Path, clock: Clock) -> AsyncIterator[Conversion]:
    """A stand-in that takes jobs and leaves them in the queue."""
    async with waiting_room(tmp_path, clock=clock) as it:
        yield it


@pytest.fixture
async def cloud(s3_url: str, tmp_path: Path) -> AsyncIterator[Conversion]:
    """One that works."""
    async with conversion(s3_url, tmp_path / "work") as it:
        yield it


def children() -> list[psutil.Process]:
    """Every ffmpeg this test started."""
    mine = psutil.Process().children(recursive=True)
    return [child for child in mine if "ffmpeg" in child.name()]


async def refused(call: Awaitable[Any]) -> tuple[str, int, str]:
    """A call's error: its name, its status, what it says."""
    with pytest.raises(ClientError) as caught:
        await call
    answer = caught.value.response
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    return answer["Error"]["Code"], status, answer["Error"]["Message"]


async def transcoding(cloud: Conversion, job_id: str) -> None:
    """Return when ffmpeg has got somewhere."""
    await cloud.events.until(job_id, lambda detail: detail.get("framesDecoded", 0) > 0)


async def raw(
    cloud: Conversion, method: str, path: str, body: bytes = b""
) -> tuple[int, str, Any]:
    """A request no client library would send: status, error type, JSON."""
    headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=local"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method, cloud.url + path, data=io.BytesIO(body), headers=headers
        ) as answer,
    ):
        kind = answer.headers.get("x-amzn-ErrorType", "")
        return answer.status, kind, await answer.json()


async def test_boto3_itself_is_served(waiting: Conversion) -> None:
    """The Lambdas' client, with nothing but an endpoint changed."""

    def create_and_read() -> tuple[dict[str, Any], dict[str, Any]]:
        client = boto3.client(
            "mediaconvert",
            region_name=REGION,
            endpoint_url=waiting.url,
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        created = client.create_job(**as_boto(request()))
        found = client.get_job(Id=created["Job"]["Id"])
        client.close()
        return created, found

    created, found = await asyncio.to_thread(create_and_read)

    assert 201 == created["ResponseMetadata"]["HTTPStatusCode"]
    assert "SUBMITTED" == created["Job"]["Status"]
    assert {"file_id": "f-1"} == created["Job"]["UserMetadata"]
    assert as_boto(request())["Settings"] == created["Job"]["Settings"]
    assert found["Job"] == created["Job"]


@pytest.mark.parametrize(
    ("operation", "path", "key"),
    [
        ("GetJob", "/jobs/{id}", "job"),
        ("ListJobs", "/jobs", "jobs"),
        ("SearchJobs", "/search", "jobs"),
    ],
)
async def test_answers_are_what_the_service_model_says(
    waiting: Conversion, operation: str, path: str, key: str
) -> None:
    """On the wire, before a client forgives anything."""
    job_id = await waiting.submit()

    status, _, answer = await raw(
        waiting, "GET", "/2017-08-29" + path.replace("{id}", job_id)
    )

    assert 200 == status
    assert key in answer
    assert [] == answer_problems(operation, answer)


@pytest.mark.parametrize("token", ["same", None])
async def test_a_token_names_its_job_for_a_minute(
    waiting: Conversion, clock: Clock, token: str | None
) -> None:
    """And no longer.  A client that sends none makes a new one each time."""
    body = as_boto(request()) | ({"ClientRequestToken": token} if token else {})

    async def create(at_s: float) -> str:
        clock.now_s = Clock.now_s + at_s
        job_id: str = (await waiting.jobs.create_job(**body))["Job"]["Id"]
        return job_id

    first, within, after = await create(0), await create(59.9), await create(60)

    assert (first == within) is (token is not None)
    assert first != after


async def test_a_request_nobody_signed_is_forbidden(waiting: Conversion) -> None:
    """As at the service's door."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{waiting.url}/2017-08-29/jobs") as answer,
    ):
        assert 403 == answer.status
        assert "ForbiddenException" == answer.headers["x-amzn-ErrorType"]
        assert "message" in await answer.json()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b"{}" + b" " * (1 << 20)],
    ids=["none", "half", "array", "null", "bytes", "deep", "large"],
)
async def test_a_body_that_is_no_job_is_a_bad_request(
    waiting: Conversion, body: bytes
) -> None:
    """Never an internal error."""
    status, kind, answer = await raw(waiting, "POST", "/2017-08-29/jobs", body)

    assert (400, "BadRequestException") == (status, kind)
    assert answer["message"]


async def test_a_missing_member_is_named(waiting: Conversion) -> None:
    """The role, which only the real service would use."""
    body = request()
    del body["role"]

    answer = await raw(waiting, "POST", "/2017-08-29/jobs", json.dumps(body).encode())

    assert (400, "BadRequestException", {"message": "/role: is required"}) == answer


async def test_what_cannot_be_done_here_is_refused_by_name(
    waiting: Conversion,
) -> None:
    """When the job is made, not when it runs."""
    wrong = as_boto(request(output(codecSettings={"codec": "AV1"})))

    code, status, message = await refused(waiting.jobs.create_job(**wrong))

    assert ("BadRequestException", 400) == (code, status)
    assert "outputs/0/videoDescription/codecSettings/codec: AV1" in message


async def test_an_unknown_job_is_not_found(waiting: Conversion) -> None:
    """For reading and for canceling."""
    for call in (waiting.jobs.get_job, waiting.jobs.cancel_job):
        code, status, _ = await refused(call(Id="1700000000000-abcdef"))

        assert ("NotFoundException", 404) == (code, status)


async def test_an_unknown_path_is_not_found(waiting: Conversion) -> None:
    """In the API's own form."""
    status, kind, answer = await raw(waiting, "GET", "/2017-08-29/nothing")

    assert (404, "NotFoundException") == (status, kind)
    assert "message" in answer


async def test_jobs_are_listed_in_pages_newest_first(waiting: Conversion) -> None:
    """A job made between two pages neither repeats nor hides one."""
    made = [await waiting.submit() for _ in range(5)]

    first = await waiting.jobs.list_jobs(MaxResults=2)
    await waiting.submit()
    second = await waiting.jobs.list_jobs(MaxResults=2, NextToken=first["NextToken"])
    third = await waiting.jobs.list_jobs(MaxResults=2, NextToken=second["NextToken"])

    listed = [job["Id"] for page in (first, second, third) for job in page["Jobs"]]
    assert made[::-1] == listed
    assert "NextToken" not in third


async def test_jobs_are_listed_oldest_first_on_request(waiting: Conversion) -> None:
    """With pages that go on the same way."""
    made = [await waiting.submit() for _ in range(3)]

    first = await waiting.jobs.list_jobs(Order="ASCENDING", MaxResults=2)
    second = await waiting.jobs.list_jobs(
        Order="ASCENDING", MaxResults=2, NextToken=first["NextToken"]
    )

    assert made == [job["Id"] for page in (first, second) for job in page["Jobs"]]


async def test_a_page_holds_twenty_at_most(waiting: Conversion) -> None:
    """Without being told."""
    for _ in range(21):
        await waiting.submit()

    page = await waiting.jobs.list_jobs()

    assert 20 == len(page["Jobs"])
    assert "NextToken" in page


async def test_lists_are_filtered_by_status_queue_and_input(
    waiting: Conversion,
) -> None:
    """A part of the input's name is enough to search."""
    one = await waiting.submit(source="s3://films/in/one.mp4")
    two = await waiting.submit(source="s3://films/in/two.mp4")
    fast = await waiting.jobs.create_job(**as_boto(request() | {"queue": "Fast"}))
    await waiting.jobs.cancel_job(Id=two)

    async def ids(call: Awaitable[dict[str, Any]]) -> list[str]:
        return [job["Id"] for job in (await call)["Jobs"]]

    jobs = waiting.jobs
    assert [two] == await ids(jobs.list_jobs(Status="CANCELED"))
    assert [fast["Job"]["Id"]] == await ids(jobs.list_jobs(Queue="Fast"))
    assert [fast["Job"]["Id"]] == await ids(jobs.list_jobs(Queue=fast["Job"]["Queue"]))
    assert [one] == await ids(jobs.search_jobs(InputFile="one"))
    assert [one] == await ids(
        jobs.search_jobs(InputFile="s3://films/in/one.mp4", Status="SUBMITTED")
    )
    assert [] == await ids(jobs.search_jobs(InputFile="one", Status="COMPLETE"))


@pytest.mark.parametrize(
    "query",
    ["maxResults=0", "maxResults=21", "maxResults=x", "status=LOST", "order=UP"],
)
async def test_a_filter_nobody_knows_is_a_bad_request(
    waiting: Conversion, query: str
) -> None:
    """It names the parameter."""
    status, kind, answer = await raw(waiting, "GET", f"/2017-08-29/jobs?{query}")

    assert (400, "BadRequestException") == (status, kind)
    assert query.partition("=")[0] in answer["message"]


@pytest.mark.parametrize("token", ["x", "%FF", "eHg="])
async def test_a_token_of_a_page_that_is_none_is_a_bad_request(
    waiting: Conversion, token: str
) -> None:
    """Not the first page again."""
    status, _, answer = await raw(waiting, "GET", f"/2017-08-29/jobs?nextToken={token}")

    assert 400 == status
    assert "nextToken" in answer["message"]


async def test_a_waiting_job_is_canceled_at_once(waiting: Conversion) -> None:
    """It never started."""
    job_id = await waiting.submit()

    answer = await waiting.jobs.cancel_job(Id=job_id)

    assert 202 == answer["ResponseMetadata"]["HTTPStatusCode"]
    assert ["CANCELED"] == waiting.events.statuses(job_id)
    found = await waiting.jobs.get_job(Id=job_id)
    assert "CANCELED" == found["Job"]["Status"]
    assert "StartTime" not in found["Job"]["Timing"]


async def test_canceling_a_running_job_ends_its_ffmpeg(
    cloud: Conversion, long_clip: Path, tmp_path: Path
) -> None:
    """The next job finds the machine free."""
    await cloud.upload(long_clip)
    job_id = await cloud.submit(SLOW)
    await transcoding(cloud, job_id)
    assert 1 == len(children())

    await cloud.jobs.cancel_job(Id=job_id)

    assert [] == children()
    assert [] == list((tmp_path / "work").iterdir())
    assert "CANCELED" == cloud.events.details(job_id)[-1]["status"]
    assert {} == await cloud.types()
    _, last = await cloud.convert(clip(tmp_path / "b.mp4", *QUICK_H264), output())
    assert "COMPLETE" == last["status"]


async def test_a_finished_job_cannot_be_canceled(waiting: Conversion) -> None:
    """It says in which state it is."""
    job_id = await waiting.submit()
    await waiting.jobs.cancel_job(Id=job_id)

    code, status, message = await refused(waiting.jobs.cancel_job(Id=job_id))

    assert ("ConflictException", 409) == (code, status)
    assert "CANCELED" in message
    assert ["CANCELED"] == waiting.events.statuses(job_id)


async def test_one_job_runs_at_a_time_the_urgent_one_first(
    cloud: Conversion, long_clip: Path
) -> None:
    """Then in the order they came."""
    await cloud.upload(long_clip)
    running = await cloud.submit(SLOW)
    await transcoding(cloud, running)
    first = await cloud.submit(source="s3://films/in/none.mp4")
    second = await cloud.submit(source="s3://films/in/none.mp4")
    urgent_job = request(source="s3://films/in/none.mp4") | {"priority": 10}
    urgent = (await cloud.jobs.create_job(**as_boto(urgent_job)))["Job"]["Id"]
    assert 1 == len(children())

    await cloud.jobs.cancel_job(Id=running)
    await cloud.events.end(second)

    started = [
        event["detail"]["jobId"]
        for event in cloud.events.seen
        if event["detail"]["status"] == "PROGRESSING"
    ]
    assert [running, urgent, first, second] == started


async def test_a_job_that_takes_too_long_ends_in_an_error(
    s3_url: str, long_clip: Path, tmp_path: Path
) -> None:
    """Its ffmpeg with it."""
    async with conversion(s3_url, tmp_path, max_job_s=1.5) as cloud:
        _, last = await cloud.convert(long_clip, SLOW)

        assert ("ERROR", 1999) == (last["status"], last["errorCode"])
        assert "longer than 1.5 s" in last["errorMessage"]
        assert [] == children()


async def test_stopping_ends_every_child_and_leaves_no_file(
    s3_url: str, long_clip: Path, tmp_path: Path
) -> None:
    """With one running and one waiting; nothing is said about either."""
    async with conversion(s3_url, tmp_path / "work") as cloud:
        await cloud.upload(long_clip)
        running, queued = await cloud.submit(SLOW), await cloud.submit(SLOW)
        await transcoding(cloud, running)
        events = cloud.events

    assert [] == children()
    assert [] == list((tmp_path / "work").iterdir())
    assert ["PROGRESSING", "INPUT_INFORMATION"] == events.statuses(running)
    assert [] == events.details(queued)


async def test_a_stand_in_is_stopped_unstarted_and_twice(tmp_path: Path) -> None:
    """Whoever cleans up need not know."""
    service = MediaConvert(s3={}, on_event=Events(), region=REGION, work_dir=tmp_path)

    await service.stop()
    await service.stop()


async def test_a_listener_that_fails_does_not_stop_the_job(
    s3_url: str, tmp_path: Path
) -> None:
    """Its trouble is logged; the job ends as if it had listened."""

    class Failing(Events):
        def __call__(self, event: dict[str, Any]) -> None:
            super().__call__(event)
            raise RuntimeError("not today")

    async with conversion(s3_url, tmp_path, events=Failing()) as cloud:
        _, last = await cloud.convert(clip(tmp_path / "a.mp4", *QUICK_H264), output())

        assert "COMPLETE" == last["status"]
