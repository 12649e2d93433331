"""What the reconciler learns of AWS, with AWS's own clients and real conversions."""

import asyncio
import json
import socket
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from moto.server import ThreadedMotoServer

from gateway.errors import ConfigError
from gateway.model import FileId, FileRecord, Job, Phase, ReportType, Status
from gateway.protocol import manifest
from lambdas.manifest import manifest_from_event, named_master, with_variants
from lambdas.playlist import parse_master
from lambdas.uploads import uploads_in
from local.lambda_api import lambda_api
from local.mediaconvert import ApiError
from tests.clips import QUICK_H264, clip
from tests.conversion import REGION, as_boto, conversion, waiting_room
from tests.integration.conftest import config_for
from tests.jobs import request
from tests.unit.gateway.fakes import NOW, file_state, record
from workers import jobs
from workers import upstream as upstream_module
from workers.jobs import MIN_FILES_PER_PAGE
from workers.upstream import SENDER, Finding, Upstream

FILE = FileId("f-1")
KEY = "in/f-1.mov"
OUTPUTS = manifest.Outputs("films", "out/", "https://play.example.com/")


@pytest.fixture(scope="module")
def s3_url():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
async def cloud(s3_url, tmp_path):
    async with conversion(s3_url, tmp_path / "work") as it:
        yield it


@pytest.fixture
def aws(monkeypatch, s3_url):
    """The environment of a worker; points services at these URLs."""

    def point(**services: str) -> None:
        for service, url in ({"s3": s3_url} | services).items():
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service.upper()}", url)

    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    point()
    return point


def config(**settings):
    return config_for(
        "postgresql://nobody@127.0.0.1/none",
        bucket="films",
        upload_prefix="in/",
        output_prefix="out/",
        **settings,
    )


async def asked(status, *, attempt=1, jobs=(), **settings):
    """Ask about a file that is like that."""
    file = record(status=status, attempt=attempt)
    known = {job_id: Job(attempt=attempt, occurred_at=NOW) for job_id in jobs}
    async with Upstream(config(**settings)) as upstream:
        (finding,) = await upstream.ask([type(file)(state=file.state, jobs=known)])
    return finding


def converting(*job_ids, file_id=FILE, created_at=NOW):
    """A silent conversion, of which these jobs were heard."""
    state = file_state(
        id=FileId(file_id), status=Status.CONVERTING, created_at=created_at
    )
    known = {job_id: Job(attempt=1, occurred_at=NOW) for job_id in job_ids}
    return FileRecord(state=state, jobs=known)


async def submit(cloud, key=KEY, **changes):
    said = request(source=f"s3://films/{key}", destination="s3://films/out/f-1/master")
    answer = await cloud.jobs.create_job(**as_boto(said | changes))
    return answer["Job"]["Id"]


async def put_clip(cloud, tmp_path: Path):
    source = await asyncio.to_thread(clip, tmp_path / "a.mp4", *QUICK_H264, seconds=2)
    await cloud.upload(source, KEY)


async def test_an_upload_is_found_whose_event_was_lost(cloud, aws):
    aws(mediaconvert=cloud.url)
    await cloud.s3.put_object(Bucket="films", Key=KEY, Body=b"v")
    head = await cloud.s3.head_object(Bucket="films", Key=KEY)

    finding = await asked(Status.AWAITING_UPLOAD)

    (said,) = finding.reports
    assert (ReportType.UPLOADED, 1, SENDER) == (said.type, said.attempt, said.sender)
    assert head["LastModified"] == said.occurred_at
    assert finding.unstarted
    assert not finding.alive


async def test_an_upload_that_never_came_is_not_found(cloud, aws):
    aws(mediaconvert=cloud.url)

    assert Finding() == await asked(Status.AWAITING_UPLOAD)


async def test_an_upload_without_a_job_is_unstarted(cloud, aws):
    aws(mediaconvert=cloud.url)

    assert Finding(unstarted=True) == await asked(Status.UPLOADED)


async def test_a_finished_job_says_what_its_lost_event_would_have_said(
    cloud, aws, tmp_path
):
    aws(mediaconvert=cloud.url)
    await put_clip(cloud, tmp_path)
    job_id = await submit(cloud)
    event = await cloud.events.end(job_id)

    by_id = await asked(Status.CONVERTING, jobs=[job_id])
    by_search = await asked(Status.UPLOADED)

    master = named_master(event)
    variants = parse_master((await cloud.read("out/f-1/master.m3u8")).decode())
    told = with_variants(
        manifest_from_event(
            event, master_playlist=master, occurred_at="2026-01-01T00:00:00Z"
        ),
        variants,
    )
    expected = manifest.decode(json.dumps(told).encode(), FILE, OUTPUTS)
    assert by_id == by_search
    (said,) = by_id.reports
    assert expected.playback == said.playback
    assert (ReportType.COMPLETED, job_id, 1, SENDER) == (
        *(said.type, said.job_id, said.attempt, said.sender),
    )
    assert not by_id.alive


async def test_a_job_that_failed_or_was_canceled_says_so(cloud, aws):
    aws(mediaconvert=cloud.url)
    await cloud.s3.put_object(Bucket="films", Key=KEY, Body=b"no video")
    failed = await submit(cloud)
    event = await cloud.events.end(failed)

    (said,) = (await asked(Status.CONVERTING, jobs=[failed])).reports

    assert "ERROR" == event["status"]
    assert ReportType.FAILED is said.type
    assert event["errorMessage"] == said.error.message


async def test_a_job_at_work_is_alive(aws, tmp_path):
    async with waiting_room(tmp_path) as cloud:
        aws(mediaconvert=cloud.url)
        job_id = await submit(cloud)

        waiting = await asked(Status.CONVERTING, jobs=[job_id])
        await cloud.jobs.cancel_job(Id=job_id)
        canceled = await asked(Status.CONVERTING, jobs=[job_id])

    assert waiting.alive
    assert [ReportType.PROGRESS] == [said.type for said in waiting.reports]
    assert waiting.reports[0].phase in {None, *Phase}
    assert not canceled.alive
    assert [ReportType.CANCELED] == [said.type for said in canceled.reports]


async def test_jobs_of_others_and_of_other_attempts_are_not_ours(aws, tmp_path):
    async with waiting_room(tmp_path) as cloud:
        aws(mediaconvert=cloud.url)
        await submit(cloud, userMetadata={"file_id": "f-2"})
        await submit(cloud, userMetadata={})
        await submit(cloud, userMetadata={"file_id": "f-1", "attempt": "1"})

        assert Finding(unstarted=True) == await asked(Status.UPLOADED, attempt=2)
        assert (await asked(Status.UPLOADED)).alive


async def test_a_job_that_mediaconvert_has_forgotten_is_searched_for(aws, tmp_path):
    async with waiting_room(tmp_path) as cloud:
        aws(mediaconvert=cloud.url)
        forgotten = "1700000000000-abcdef"
        assert Finding() == await asked(Status.CONVERTING, jobs=[forgotten])
        await submit(cloud)

        assert (await asked(Status.CONVERTING, jobs=[forgotten])).alive


async def test_mediaconvert_that_refuses_for_a_while_is_asked_again_more_slowly(
    aws, tmp_path
):
    """Each question is refused once, as one is of an account that asks too much."""
    calls: Counter[str] = Counter()

    @web.middleware
    async def gate(request, handler):
        if request.method == "GET":
            calls[request.path] += 1
            if calls[request.path] == 1:
                raise ApiError(429, "TooManyRequestsException", "Too Many Requests")
        return await handler(request)

    async with waiting_room(tmp_path, gate=gate) as cloud:
        aws(mediaconvert=cloud.url)
        job_ids = [await submit(cloud) for _ in range(MIN_FILES_PER_PAGE - 1)]
        files = [converting(job_id) for job_id in job_ids]
        async with Upstream(config()) as upstream:
            findings = await upstream.ask(files)

    assert [True] * len(files) == [finding.alive for finding in findings]
    assert [2] * len(files) == list(calls.values())


async def test_many_silent_jobs_cost_few_calls(aws, tmp_path):
    calls: Counter[str] = Counter()

    @web.middleware
    async def gate(request, handler):
        calls[f"{request.method} {request.path.rpartition('/')[2]}"] += 1
        return await handler(request)

    async with waiting_room(tmp_path, gate=gate) as cloud:
        aws(mediaconvert=cloud.url)
        ours = {f"f-{number}": {"file_id": f"f-{number}"} for number in range(45)}
        for metadata in ours.values():
            await submit(cloud, userMetadata=metadata)
        files = [
            converting(file_id=file_id, created_at=datetime.now(UTC))
            for file_id in ours
        ]
        async with Upstream(config()) as upstream:
            findings = await upstream.ask(files)

    assert [(True, 1)] * 45 == [
        (finding.alive, len(finding.reports)) for finding in findings
    ]
    assert {"POST jobs": 45, "GET jobs": 3} == calls


async def test_of_which_attempt_a_known_job_is_the_file_knows_better(aws, tmp_path):
    async with waiting_room(tmp_path) as cloud:
        aws(mediaconvert=cloud.url)
        job_id = await submit(cloud, userMetadata={"file_id": "f-1", "attempt": "1"})

        (said,) = (await asked(Status.CONVERTING, attempt=2, jobs=[job_id])).reports

    assert 2 == said.attempt


async def test_an_answer_that_nobody_thought_of_is_no_answer(cloud, aws, monkeypatch):
    aws(mediaconvert=cloud.url)

    async def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(Upstream, "_ask", broken)

    assert "ZeroDivisionError" == (await asked(Status.AWAITING_UPLOAD)).unknown


async def test_without_a_region_the_start_says_so(monkeypatch):
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)

    with pytest.raises(ConfigError, match="AWS_REGION"):
        await Upstream(config()).__aenter__()


async def test_a_playlist_that_cannot_be_read_costs_detail_and_not_the_end(
    cloud, aws, tmp_path, monkeypatch
):
    aws(mediaconvert=cloud.url)
    await put_clip(cloud, tmp_path)
    job_id = await submit(cloud)
    await cloud.events.end(job_id)

    async def away(*_):
        raise TimeoutError

    monkeypatch.setattr(Upstream, "_read", away)
    (said,) = (await asked(Status.CONVERTING, jobs=[job_id])).reports

    assert ReportType.COMPLETED is said.type
    assert [None, None] == [one.codecs for one in said.playback.renditions]


async def test_aws_that_is_away_is_no_answer(aws):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    aws(s3=url, mediaconvert=url, **{"lambda": url})

    files = [FileRecord(state=file_state()), converting("1700000000000-abcdef")]
    async with Upstream(config(converter_function="Converter")) as upstream:
        findings, _ = await asyncio.gather(
            upstream.ask(files), upstream.convert([file_state()])
        )
    assert all(finding.unknown and not finding.reports for finding in findings)


async def test_aws_that_never_answers_costs_a_bounded_time(aws, monkeypatch):
    """
    Of many questions, too: each waits for its turn, and then hangs.

    That there is no time for all of them is the fault of AWS.
    """
    monkeypatch.setattr(upstream_module, "MAX_ASK_S", 2.0)
    monkeypatch.setattr(upstream_module, "MAX_QUESTION_S", 0.5)
    monkeypatch.setattr(upstream_module, "MAX_INVOKE_S", 1.0)
    waiting = [FileRecord(state=file_state()) for _ in range(25)]
    files = [*waiting, *(converting(f"1700000000000-{n:06}") for n in range(25))]
    with socket.create_server(("127.0.0.1", 0), backlog=200) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        aws(s3=url, mediaconvert=url, **{"lambda": url})
        async with Upstream(config(converter_function="Converter")) as upstream:
            async with asyncio.timeout(15):
                findings = await upstream.ask(files)
                await upstream.convert([file.state for file in files])

    assert 50 == len(findings)
    assert all(finding.unknown and not finding.unasked for finding in findings)


async def test_what_our_own_pace_leaves_no_time_for_is_unasked(
    aws, monkeypatch, tmp_path
):
    """And whoever gave up does not hold up the next sweep."""
    async with waiting_room(tmp_path) as room:
        aws(mediaconvert=room.url)
        silent = [converting(await submit(room)) for _ in range(60)]
        monkeypatch.setattr(jobs, "MIN_FILES_PER_PAGE", 1000)
        monkeypatch.setattr(jobs, "CALLS_PER_SECOND", 10.0)
        monkeypatch.setattr(upstream_module, "MAX_ASK_S", 2.0)
        async with Upstream(config()) as upstream:
            sweeps = [await upstream.ask(silent) for _ in range(2)]

    for findings in sweeps:
        assert {(True, False), (False, True)} == {
            (finding.alive, finding.unasked) for finding in findings
        }
        assert all(bool(finding.unknown) is finding.unasked for finding in findings)


async def test_uploads_do_not_wait_for_the_pace_of_mediaconvert(
    cloud, aws, monkeypatch, tmp_path
):
    monkeypatch.setattr(jobs, "CALLS_PER_SECOND", 0.001)
    monkeypatch.setattr(upstream_module, "MAX_ASK_S", 5.0)
    async with waiting_room(tmp_path) as room:
        aws(mediaconvert=room.url)
        silent = [converting(f"1700000000000-{n:06}") for n in range(20)]
        waiting = [FileRecord(state=file_state()) for _ in range(20)]
        async with Upstream(config()) as upstream:
            findings = await upstream.ask([*silent, *waiting])

    assert [Finding()] * 20 == findings[20:]


async def test_the_converter_is_told_of_an_upload_as_s3_would_tell_it(aws):
    told: asyncio.Queue = asyncio.Queue()
    async with (
        lambda_api({"Converter": told.put}) as app,
        TestServer(app) as server,
    ):
        aws(**{"lambda": f"http://127.0.0.1:{server.port}"})
        async with Upstream(config(converter_function="Converter")) as upstream:
            await upstream.convert([file_state()])
        async with Upstream(config(converter_function="Unknown")) as upstream:
            await upstream.convert([file_state()])
        async with Upstream(config()) as upstream:
            await upstream.convert([file_state()])

        (upload,), problems = uploads_in(await asyncio.wait_for(told.get(), 10))

    assert [] == problems
    assert ("films", KEY, file_state().size) == (
        *(upload.bucket, upload.key, upload.size_bytes),
    )
    assert told.empty()
