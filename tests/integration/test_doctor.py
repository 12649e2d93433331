"""What `reelready doctor` finds, at real places that are well or not."""

import asyncio
import contextlib
import os
import sys

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from moto.server import ThreadedMotoServer
from yarl import URL

from bench.children import Children
from bench.peers.redis import redis as redis_server
from bench.soak.deaf import pgbouncer
from gateway.commands import doctor
from tests.conversion import conversion
from tests.integration.conftest import config_for
from workers.checkup import MAX_SKEW_S, Verdict, everything_behind, skewed
from workers.migrate import migrate
from workers.relay import relaying

pytestmark = pytest.mark.timeout(60)

ORIGIN = "https://app.example.com"
CORS = {
    "CORSRules": [
        {
            "AllowedOrigins": [ORIGIN],
            "AllowedMethods": ["PUT", "POST"],
            "AllowedHeaders": ["content-type", "if-none-match", "x-amz-tagging"],
        }
    ]
}


@pytest.fixture(scope="module")
def s3_url():
    """An S3 that answers whoever asks."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
async def aws(monkeypatch, s3_url, tmp_path):
    """The AWS of one account, with the bucket `films`."""
    async with conversion(s3_url, tmp_path / "work") as cloud:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_MEDIACONVERT", cloud.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", s3_url)
        monkeypatch.setenv("AWS_REGION", "ap-northeast-2")
        yield cloud


async def found(config):
    """Everything behind the gateway, by check and in order."""
    return [one async for one in everything_behind(config)]


def verdicts(findings):
    return {one.check: one.verdict.value for one in findings}


async def of(check, findings):
    (one,) = [one for one in findings if one.check == check]
    return one


async def test_all_is_well_where_all_is_well(database_url, aws):
    async with Children() as children, redis_server(children) as redis:
        config = config_for(database_url, bucket="films", redis_url=redis.url)
        async with relaying(config):
            findings = await found(config)

    assert {
        "database": "fine",
        "schema": "fine",
        "clock": "fine",
        "durability": "doubtful",
        "statements": "fine",
        "doorbell": "fine",
        "relay": "fine",
        "storage": "fine",
        "conversions": "fine",
        "converter": "skipped",
    } == verdicts(findings), "and the Postgres of the tests writes nothing to disk"
    assert 2 == sum(one.check == "clock" for one in findings), "Postgres' and S3's"


async def test_a_relay_of_another_database_is_none(
    database_url, empty_database_url, aws
):
    await migrate(empty_database_url)
    async with Children() as children, redis_server(children) as redis:
        ours = config_for(database_url, redis_url=redis.url)
        async with relaying(config_for(empty_database_url, redis_url=redis.url)):
            alone = await of("relay", await found(ours))
            unknown = config_for("postgresql://a@127.0.0.1:1/b", redis_url=redis.url)
            lost = await of("relay", await found(unknown))
            async with relaying(ours):
                beside = await of("relay", await found(ours))

    assert (
        Verdict.WRONG,
        "only a relay of another database beats at REELREADY_REDIS_URL",
    ) == (alone.verdict, alone.said)
    assert "REELREADY_DATABASE_URL" in alone.remedy
    assert Verdict.WRONG is lost.verdict
    assert "REELREADY_DATABASE_URL" in lost.remedy
    assert Verdict.FINE is beside.verdict


async def test_a_schema_that_is_older_or_newer(empty_database_url, database_url, aws):
    older = await of("schema", await found(config_for(empty_database_url)))
    session = await asyncpg.connect(database_url)
    await session.execute(
        "insert into schema_migrations (name, sha256) values ('9999_x.sql', 'x')"
    )
    await session.close()
    newer = await of("schema", await found(config_for(database_url)))

    assert (Verdict.WRONG, "reelready migrate") == (older.verdict, older.remedy)
    assert Verdict.DOUBTFUL is newer.verdict
    assert "9999_x.sql" in newer.said


async def test_a_listen_that_hears_another_database(
    empty_database_url, database_url, aws
):
    config = config_for(database_url, listen_database_url=empty_database_url)
    finding = await of("doorbell", await found(config))

    assert Verdict.WRONG is finding.verdict
    assert "REELREADY_LISTEN_DATABASE_URL" in finding.remedy
    assert "pooler" in finding.remedy


async def test_a_pooler_that_keeps_no_prepared_statements(database_url, aws):
    async with Children() as children, pgbouncer(database_url, children) as pooled_url:
        config = config_for(pooled_url, listen_database_url=database_url)
        finding = await of("statements", await found(config))

    assert Verdict.WRONG is finding.verdict
    assert finding.said.startswith("prepared statement ")
    assert (
        "REELREADY_DATABASE_URL leads to a transaction pooler that keeps no prepared"
        " statements: lead it past that, or let it keep them (max_prepared_statements)"
    ) == finding.remedy


async def test_a_pooler_that_keeps_sessions_keeps_them(database_url, aws):
    async with (
        Children() as children,
        pgbouncer(database_url, children, mode="session") as pooled_url,
    ):
        config = config_for(pooled_url, listen_database_url=database_url)
        finding = await of("statements", await found(config))

    assert Verdict.FINE is finding.verdict


async def test_places_that_are_not_there(monkeypatch):
    for service in ("S3", "MEDIACONVERT", "LAMBDA"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", "http://127.0.0.1:1")
    config = config_for(
        "postgresql://nobody@127.0.0.1:1/none",
        redis_url="redis://127.0.0.1:1/0",
        converter_function="converter",
    )
    findings = await found(config)

    assert {
        "database": "wrong",
        "doorbell": "wrong",
        "relay": "wrong",
        "storage": "wrong",
        "conversions": "wrong",
        "converter": "wrong",
    } == verdicts(findings)
    assert all(one.said and one.remedy for one in findings)
    assert "REELREADY_DATABASE_URL" in findings[0].remedy


async def test_a_bucket_that_there_is_not(database_url, aws):
    finding = await of("storage", await found(config_for(database_url, bucket="film")))

    assert (Verdict.WRONG, "there is no bucket film") == (finding.verdict, finding.said)
    assert "REELREADY_BUCKET" in finding.remedy


async def test_no_region_is_named(monkeypatch, database_url):
    monkeypatch.delenv("AWS_REGION", raising=False)
    finding = await of("storage", await found(config_for(database_url)))

    assert Verdict.WRONG is finding.verdict
    assert "AWS_REGION" in finding.remedy


@pytest.mark.parametrize(
    ("ahead_s", "verdict"),
    [(0, "fine"), (MAX_SKEW_S + 1, "wrong"), (-MAX_SKEW_S - 1, "wrong")],
)
def test_clocks_that_differ(ahead_s, verdict):
    assert verdict == skewed("clock", ahead_s, "S3").verdict.value


async def test_pages_of_which_origins_may_upload(aws):
    await aws.s3.put_bucket_cors(Bucket="films", CORSConfiguration=CORS)
    config = config_for(
        "postgresql://nobody@127.0.0.1:1/none",
        bucket="films",
        allowed_origins=(ORIGIN, "https://other.example.com"),
    )
    verdicts = [one.verdict.value async for one in doctor._uploads(config)]

    assert ["fine", "fine", "wrong"] == verdicts


@pytest.mark.parametrize(
    ("status", "code", "named"),
    [
        (200, "", "If-Match"),
        (403, "SignatureDoesNotMatch", "credentials"),
        (404, "NoSuchBucket", "AWS_REGION"),
        (501, "NotImplemented", "AWS_REGION"),
    ],
)
async def test_a_storage_that_takes_no_uploads(monkeypatch, status, code, named):
    async def answer(_request):
        text = f"<Error><Code>{code}</Code><Message>&quot;so&quot;</Message></Error>"
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_put("/films/{key:.*}", answer)
    async with TestServer(app) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", str(server.make_url("/")))
        monkeypatch.setenv("AWS_REGION", "ap-northeast-2")
        config = config_for("postgresql://nobody@127.0.0.1:1/none", bucket="films")
        found = [one async for one in doctor._uploads(config)]

    assert [Verdict.WRONG, Verdict.SKIPPED] == [one.verdict for one in found]
    assert named in found[0].remedy
    assert status == 200 or '"so"' in found[0].said


async def delivered(gateway, url=None, **settings):
    config = config_for("postgresql://nobody@127.0.0.1:1/none", **settings)
    part = doctor._gateway(config, URL(url or gateway.url))
    return [one async for one in part]


async def test_an_event_gets_through_and_the_file_is_ended(gateway):
    findings = await delivered(gateway)

    assert {"fine"} == {one.verdict.value for one in findings}
    assert {"gateway", "clock", "delivery"} == verdicts(findings).keys()


async def test_a_gateway_that_is_not_there_or_is_none(gateway):
    (gone,) = await delivered(gateway, "http://127.0.0.1:1")
    (other,) = await delivered(gateway, f"{gateway.url}/v1")

    assert "REELREADY_PUBLIC_URL" in gone.remedy
    assert "proxy" in other.remedy
    assert {Verdict.WRONG} == {gone.verdict, other.verdict}


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("api_keys", ("x" * 40,), "REELREADY_API_KEYS"),
        ("ingest_secrets", (b"x" * 24,), "REELREADY_INGEST_SECRETS"),
    ],
)
async def test_secrets_that_differ(gateway, setting, value, named):
    *_, last = await delivered(gateway, **{setting: value})

    assert Verdict.WRONG is last.verdict
    assert named in last.remedy


@contextlib.asynccontextmanager
async def holding_back(port):
    """A proxy that passes on an answer when it is complete, or 64 KiB of it."""

    async def pass_on(reader, writer):
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)

        async def ask():
            while data := await reader.read(65536):
                up_writer.write(data)
            up_writer.close()

        asking = asyncio.ensure_future(ask())
        kept = b""
        while data := await up_reader.read(65536):
            kept += data
            if b"text/event-stream" not in kept:
                writer.write(kept)
                kept = b""
        writer.write(kept)
        asking.cancel()
        for one in (writer, up_writer):
            with contextlib.suppress(OSError):
                one.close()
                await one.wait_closed()

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_proxy_that_holds_back(gateway, monkeypatch):
    timeout = doctor.aiohttp.ClientTimeout(total=2)
    monkeypatch.setattr(doctor, "_TIMEOUT", timeout)
    async with holding_back(URL(gateway.url).port) as url:
        findings = await delivered(gateway, url)

    *_, last = findings
    assert (Verdict.WRONG, "delivery") == (last.verdict, last.check)
    assert "proxy_buffering off" in last.remedy


async def test_the_command_ends_with_1_and_json_lines(gateway, monkeypatch):
    """As a process, with everything but the gateway missing."""
    env = {name: one for name, one in os.environ.items() if "REELREADY" not in name}
    env |= {
        "REELREADY_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "REELREADY_BUCKET": "films",
        "REELREADY_PLAYBACK_BASE_URL": "https://play.example.com/",
        "REELREADY_INGEST_SECRETS": "whsec_" + "aWlp" * 8,
        "REELREADY_API_KEYS": "k" * 40,
        "REELREADY_TOKEN_SECRETS": "t" * 40,
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "doctor", "--url", gateway.url),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()

    assert (1, b"") == (process.returncode, err)
    assert b'"check":"database","verdict":"wrong"' in out
    assert b'"check":"gateway","verdict":"fine"' in out
