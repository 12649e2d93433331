"""
The main job in an account as the template makes it: whatever anybody did there was
granted, and whatever is granted was done.
"""

import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from deploy.aws.zips import ROOT
from gateway.app import gateway as build_gateway
from gateway.commands import doctor
from gateway.config import Config
from gateway.model import FileId, FileRecord, Job, Status
from tests.account import GATEWAY, Account
from tests.clips import QUICK_H264, clip
from tests.integration.conftest import API_KEY, TOKEN_SECRET
from tests.stack import ACCOUNT, NEEDED, Call, Grant, Stack, refused, unused
from tests.unit.gateway.fakes import NOW, file_state
from workers import checkup, jobs
from workers.checkup import Verdict
from workers.upstream import Finding, Upstream

PAGE = NEEDED["AllowedOrigins"].split(",")[0]
SOMEBODY = "https://evil.example.net"
CALLED = re.compile(
    r"""(?:\b(?:_?s3|mediaconvert|_lambda|functions)\.|_call\(")([a-z]\w+)[("]"""
)
pytestmark = pytest.mark.timeout(180)

ACTIONS = {
    "create_job": "mediaconvert:CreateJob",
    "get_job": "mediaconvert:GetJob",
    "get_object": "s3:GetObject",
    "get_object_tagging": "s3:GetObjectTagging",
    "head_bucket": "s3:ListBucket",
    "head_object": "s3:GetObject",
    "invoke": "lambda:InvokeFunction",
    "list_jobs": "mediaconvert:ListJobs",
    "put_object": "s3:PutObject",
    "search_jobs": "mediaconvert:SearchJobs",
    "generate_presigned_url": "s3:PutObjectTagging",
    "generate_presigned_post": "s3:PutObjectTagging",
}
"""What our code calls, by the action that it needs."""


def titled(one: Grant) -> str:
    """Name a test after a permission."""
    return f"{one.principal} {one.action} {one.resource.rpartition(':')[2]}"


OURS = [one for one in Stack().grants() if one.allows and one.principal == GATEWAY]
AWS = {"storage", "uploads", "conversions", "converter"}
"""What `reelready doctor` looks at there."""

ROLES = {"ConverterRole", "SaverRole", "MediaConvertRole", GATEWAY}


@dataclass
class Story:
    """What happened in the one run that all tests look at."""

    stack: Stack
    preflights: dict[str, int] = field(default_factory=dict)
    ends: dict[str, dict[str, Any]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    examined: dict[Grant | None, list[checkup.Finding]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    statuses: set[str] = field(default_factory=set)
    written: list[str] = field(default_factory=list)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def story(
    shared_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Story:
    folder = tmp_path_factory.mktemp("account")
    with (
        pytest.MonkeyPatch.context() as environ,
        socket.create_server(("127.0.0.1", 0)) as door,
    ):
        environ.setattr(jobs, "CALLS_PER_SECOND", 100.0)
        # Here the gateway has no TLS, and one rendition is enough.
        address = f"http://127.0.0.1:{door.getsockname()[1]}"
        stack = Stack(GatewayUrl=address, LadderHeights="240")
        async with Account(stack, folder) as account:
            for name, value in account.environment(GATEWAY).items():
                environ.setenv(name, value)
            config = Config.from_env(settings(stack, shared_database_url))
            async with serving(config, door) as http:
                return await lived(account, config, http, folder)


def settings(stack: Stack, database_url: str) -> dict[str, str]:
    """What docs/aws.md puts together: the stack's output and what is one's own."""
    lines = stack.outputs["GatewaySettings"].splitlines()
    return dict(line.split("=", 1) for line in lines) | {
        "REELREADY_DATABASE_URL": database_url,
        "REELREADY_INGEST_SECRETS": NEEDED["IngestSecret"],
        "REELREADY_API_KEYS": API_KEY,
        "REELREADY_TOKEN_SECRETS": TOKEN_SECRET,
    }


@contextlib.asynccontextmanager
async def serving(
    config: Config, door: socket.socket
) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with (
        build_gateway(config) as built,
        built.listening("127.0.0.1", 0, inherited=[door]),
        aiohttp.ClientSession(config.base_url, headers=headers) as http,
    ):
        yield http


async def lived(
    account: Account, config: Config, http: aiohttp.ClientSession, folder: Path
) -> Story:
    """Everything that happens in an account, the rare things as well."""
    story = Story(account.stack)
    film = clip(folder / "film.mp4", *QUICK_H264, seconds=1).read_bytes()
    film_id = await uploaded(http, film, story)
    story.ends["film"] = await ended(http, film_id)

    # Its converter died before it could say whether it had made a job.
    letter_id, upload = await registered(http, b"no film")
    await leave_a_claim(account, letter_id)
    await put(upload, b"no film")
    story.ends["letter"] = await ended(http, letter_id)

    # Deleted before the converter came to look.
    await account.functions["Converter"].invoke(created(account, "video/origin/x.mp4"))

    # Finished, said MediaConvert, but not where the playlist is, and nothing is there.
    lost_id, _ = await registered(http, b"lost")
    await account.functions["Saver"].invoke(finished(account, lost_id))
    story.ends["lost"] = await ended(http, lost_id)

    job_id = await job_of(account, film_id)
    async with Upstream(config) as upstream:
        story.findings = await upstream.ask([waiting(film_id), waiting("none")])
        story.findings += await upstream.ask([converting(film_id, job_id)])
        story.findings += await upstream.ask([converting(letter_id)])
        await upstream.ask([converting(f"none-{n}") for n in range(8)])
        await upstream.convert([file_state(id=FileId(film_id), name="film.mp4")])
    await account.idle()
    story.examined[None] = await examined(config)

    async with account.client("s3") as s3:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=account.bucket)
        story.written = [one["Key"] async for page in pages for one in page["Contents"]]
    story.calls = [*account.calls]
    story.statuses = set(account.statuses)
    for gone in OURS:
        account.grants = [one for one in account.stack.grants() if one != gone]
        story.examined[gone] = await examined(config)
    return story


async def examined(config: Config) -> list[checkup.Finding]:
    """What the doctor says of AWS."""
    parts = (checkup.everything_behind(config), doctor._uploads(config))
    return [one for part in parts async for one in part if one.check in AWS]


async def uploaded(http: aiohttp.ClientSession, film: bytes, story: Story) -> str:
    """Upload as a browser does, which asks first; the value is the file's id."""
    file_id, upload = await registered(http, film)
    for origin in (PAGE, SOMEBODY):
        story.preflights[origin] = await preflight(upload, origin)
    await put(upload, film)
    return file_id


async def registered(
    http: aiohttp.ClientSession, film: bytes
) -> tuple[str, dict[str, Any]]:
    said = {"name": "film.mp4", "content_type": "video/mp4", "size": len(film)}
    async with http.post("v1/files", json=said) as answer:
        assert 201 == answer.status, await answer.text()
        made = await answer.json()
    return made["file"]["id"], made["upload"]


async def preflight(upload: dict[str, Any], origin: str) -> int:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": upload["method"],
        "Access-Control-Request-Headers": ",".join(map(str.lower, upload["headers"])),
    }
    async with aiohttp.request("OPTIONS", url_of(upload), headers=asked) as answer:
        return answer.status


async def put(upload: dict[str, Any], film: bytes) -> None:
    request = aiohttp.request(
        upload["method"], url_of(upload), data=film, headers=upload["headers"]
    )
    async with request as answer:
        assert 200 == answer.status, await answer.text()


def url_of(upload: dict[str, Any]) -> URL:
    return URL(upload["url"], encoded=True)


async def ended(http: aiohttp.ClientSession, file_id: str) -> dict[str, Any]:
    """Wait for the last event of a file."""
    events: list[dict[str, Any]] = []
    while True:
        after = events[-1]["seq"] if events else 0
        path = f"v1/files/{file_id}/events?after={after}&wait=10"
        async with http.get(path) as answer:
            said = await answer.json()
        events += said["events"]
        if said["final"]:
            return events[-1]


async def leave_a_claim(account: Account, file_id: str) -> None:
    claim = {
        "file_id": file_id,
        "owner": "one that died",
        "claimed_at_s": 0,
        "sequencer": "",
        "job_id": None,
        "error": None,
    }
    async with account.client("s3") as s3:
        key = f"video/claims/{file_id}.json"
        body = json.dumps(claim).encode()
        await s3.put_object(Bucket=account.bucket, Key=key, Body=body)


async def job_of(account: Account, file_id: str) -> str:
    async with account.client("mediaconvert") as client:
        made = (await client.list_jobs())["Jobs"]
    return next(j["Id"] for j in made if j["UserMetadata"]["file_id"] == file_id)


def created(account: Account, key: str) -> dict[str, Any]:
    """S3's word through EventBridge."""
    return {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "time": "2026-01-02T03:04:05Z",
        "detail": {"bucket": {"name": account.bucket}, "object": {"key": key}},
    }


def finished(account: Account, file_id: str) -> dict[str, Any]:
    """A COMPLETE that names no paths, as accelerated jobs have sent."""
    detail = {
        "timestamp": 1_767_323_045_000,
        "jobId": "1767323045000-abcdef",
        "status": "COMPLETE",
        "userMetadata": {"file_id": file_id, "attempt": "1", "bucket": account.bucket},
        "outputGroupDetails": [],
    }
    return {"source": "aws.mediaconvert", "id": "e-1", "detail": detail}


def waiting(file_id: str) -> FileRecord:
    return FileRecord(state=file_state(id=FileId(file_id), name="film.mp4"))


def converting(file_id: str, *job_ids: str) -> FileRecord:
    state = file_state(
        id=FileId(file_id),
        name="film.mp4",
        status=Status.CONVERTING,
        created_at=datetime.now(UTC),
    )
    known = {job_id: Job(attempt=1, occurred_at=NOW) for job_id in job_ids}
    return FileRecord(state=state, jobs=known)


def played(story: Story) -> list[Call]:
    """What CloudFront reads for the players."""
    by = f"arn:aws:cloudfront::{ACCOUNT}:distribution/reelready-playback"
    about = frozenset({("aws:sourcearn", by), ("aws:securetransport", "true")})
    return [
        Call("cloudfront.amazonaws.com", "s3:GetObject", f"arn:aws:s3:::{key}", about)
        for key in (f"{story.stack.outputs['Bucket']}/{one}" for one in story.written)
        if "/hls/" in key
    ]


def everything(story: Story) -> list[Call]:
    return [*story.calls, *story.stack.implied(), *played(story)]


def test_the_main_job_comes_to_its_end(story):
    film = story.ends["film"]

    assert "playable" == film["status"]
    base = story.stack.outputs["PlaybackBaseUrl"]
    assert film["playback"]["hls_url"].startswith(f"{base}video/hls/")
    assert film["playback"]["hls_url"].removeprefix(base) in story.written
    assert ["failed", "failed"] == [story.ends[n]["status"] for n in ("letter", "lost")]
    assert [True, False, True, True] == [bool(one.reports) for one in story.findings]
    assert not any(one.unknown for one in story.findings)


def test_the_doctor_finds_all_of_it(story):
    found = story.examined[None]

    assert AWS == {one.check for one in found}
    assert {Verdict.FINE} == {one.verdict for one in found}
    assert not [key for key in story.written if checkup.PROBE in key]


def test_the_page_shows_what_the_doctor_says(story):
    """
    But for names.
    """
    page = (ROOT / "docs" / "aws.md").read_text()
    lines = re.findall(r"^ok +(\w+) +(.+)$", page, re.MULTILINE)
    found = [(one.check, one.said) for one in story.examined[None]]

    assert {anonymous(*one) for one in found} == {
        anonymous(*one) for one in lines if one[0] in AWS
    }


def anonymous(check: str, said: str) -> tuple[str, str]:
    """Leave out whose it is."""
    said = re.sub(r"-[0-9A-Fa-f]{12}\b", "", said)
    return check, re.sub(r"https?://\S+", "", said).lower()


@pytest.mark.parametrize("gone", OURS, ids=titled)
def test_the_doctor_names_each_permission_that_is_missing(story, gone):
    said = [one for one in story.examined[gone] if one.verdict is Verdict.WRONG]

    if gone.action.startswith("mediaconvert:"):
        remedy = f"AWS credentials: allow {gone.action}"
        assert [remedy] == [one.remedy for one in said]
    else:
        place = gone.resource.rpartition(":")[2]
        assert f"{gone.action} on {place}" in said[0].remedy


def test_nobody_did_what_the_template_does_not_grant(story):
    assert [] == list(map(str, refused(everything(story), story.stack.grants())))


def test_nothing_is_granted_that_nobody_needs(story):
    assert [] == list(map(str, unused(everything(story), story.stack.grants())))


@pytest.mark.parametrize(
    ("folders", "principals"),
    [
        (["lambdas"], {"ConverterRole", "SaverRole"}),
        (["gateway", "workers"], {GATEWAY}),
    ],
)
def test_whatever_the_code_can_call_was_called(story, folders, principals):
    """A new operation belongs into `lived`, so that its permission is looked at."""
    done = {call.action for call in story.calls if call.principal in principals}
    files = [path for one in folders for path in (ROOT / one).rglob("*.py")]
    found = {name for path in files for name in CALLED.findall(path.read_text())}

    assert found
    assert set() == {name for name in found if ACTIONS.get(name) not in done}


@pytest.mark.parametrize(
    "gone",
    [one for one in Stack().grants() if one.allows],
    ids=titled,
)
def test_each_permission_is_missed_when_it_is_taken_away(story, gone):
    left = [one for one in story.stack.grants() if one != gone]
    missed = refused(everything(story), left)

    assert {(gone.principal, gone.action)} == {(c.principal, c.action) for c in missed}


def test_the_bucket_takes_nothing_without_tls(story):
    to_bucket = [call for call in story.calls if call.action.startswith("s3:")]
    in_clear = [
        replace(call, context=frozenset({("aws:securetransport", "false")}))
        for call in to_bucket
    ]

    assert ROLES == {call.principal for call in to_bucket}
    assert set(in_clear) == set(refused(in_clear, story.stack.grants()))


def test_players_get_renditions_and_nothing_else(story):
    watched = played(story)
    bucket = story.stack.arn("Bucket")
    other = frozenset({("aws:sourcearn", "arn:aws:cloudfront::1:distribution/other")})
    unasked = [
        replace(watched[0], resource=f"{bucket}/video/origin/a.mp4"),
        replace(watched[0], resource=f"{bucket}/video/claims/a.json"),
        replace(watched[0], action="s3:PutObject"),
        replace(watched[0], context=other),
    ]

    assert unasked == refused([*watched, *unasked], story.stack.grants())


def test_only_the_pages_named_may_upload(story):
    assert {PAGE: 200, SOMEBODY: 403} == story.preflights


def test_the_rule_brought_what_the_jobs_said(story):
    said = {"PROGRESSING", "INPUT_INFORMATION", "STATUS_UPDATE", "COMPLETE", "ERROR"}

    assert said == story.statuses
