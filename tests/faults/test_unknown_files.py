"""
Notices of files that the gateway does not know: refused, tried again, kept.

They are not held in the gateway.  It answers 404, the Lambda fails, and AWS
keeps the event: it works as soon as the file is there, as after a failover that
lost its registration and a restore that brought it back.
"""

import asyncio
import base64

import pytest
from botocore.stub import Stubber
from moto import mock_aws

from gateway.model import FileId
from gateway.protocol.registration import Registration
from gateway.store.files import Files
from gateway.store.pool import Pool
from lambdas import (
    clients,
    gateway,
    hls_file_manifest_saver,
    video_media_converter,
)
from local.events import EventRouter
from tests.integration.conftest import INGEST_KEY, config_for, running_gateway
from tests.unit.lambdas.standins import (
    AWS,
    BUCKET,
    FILE_ID,
    JOB_ID,
    KEY,
    SETTINGS,
    Invocation,
    put_event,
    vector,
)

SECRET = f"whsec_{base64.b64encode(INGEST_KEY).decode()}"
TRIES = 3
ANY = {"source": ["aws.mediaconvert"]}


def forget_process():
    """The next invocation is a cold start."""
    for cached in (
        clients.s3,
        clients.mediaconvert,
        video_media_converter._converter,
        hls_file_manifest_saver._saver,
    ):
        cached.cache_clear()


@pytest.fixture
async def one_gateway(database_url, monkeypatch):
    """A gateway, the Lambdas that report to it, and an S3 with one upload."""
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    config = config_for(database_url, bucket=BUCKET)
    async with running_gateway(config) as one:
        settings = {**SETTINGS, "GATEWAY_URL": one.url, "INGEST_SECRET": SECRET}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(gateway, "PAUSES_S", (0, 0))
        forget_process()
        with mock_aws():
            s3 = clients.s3()
            s3.create_bucket(Bucket=BUCKET)
            s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"v")
            yield one
        forget_process()


@pytest.fixture
async def router():
    """AWS: it invokes both functions, and three times when they fail."""
    waits_s = [0.01] * (TRIES - 1)
    one = EventRouter(s3_waits_s=waits_s, bus_waits_s=waits_s)

    def of(handler):
        async def invoke(event):
            await asyncio.to_thread(handler, event, Invocation())

        return invoke

    one.add_notification("converter", of(video_media_converter.handler))
    one.add_rule("saver", ANY, of(hls_file_manifest_saver.handler))
    async with one:
        yield one


async def register(one_gateway):
    """Bring back what the database had lost."""
    config = one_gateway.config
    said = Registration(name="clip.mov", content_type="video/quicktime", size=1_048_576)
    async with Pool(config.database_url, max_connections=2) as pool:
        await Files(pool, config.silences).create(FileId(FILE_ID), said)


async def kept(router):
    """The one event that nobody took, with what the function said."""
    await router.idle()
    (letter,) = router.dead_letters
    assert TRIES == letter.tries
    assert "refused the post with 404" in letter.error
    return letter.event


async def test_a_manifest_of_an_unknown_file_is_kept_and_works_later(
    one_gateway, router
):
    router.put_event(vector("mediaconvert-06-complete-hls"))
    event = await kept(router)
    assert [] == await one_gateway.fetch("select webhook_id from ingest_ids")

    await register(one_gateway)
    router.put_event(event)
    await router.idle()

    assert "playable" == (await one_gateway.state(FILE_ID))["status"]
    assert 1 == len(router.dead_letters)


async def test_an_upload_of_an_unknown_file_costs_no_job_and_works_later(
    one_gateway, router
):
    with Stubber(clients.mediaconvert()) as script:
        router.put_s3_event(put_event())
        event = await kept(router)

        script.add_response(
            "create_job", {"Job": {"Id": JOB_ID, "Role": "role", "Settings": {}}}
        )
        await register(one_gateway)
        router.put_s3_event(event)
        await router.idle()

        script.assert_no_pending_responses()
    assert "converting" == (await one_gateway.state(FILE_ID))["status"]
    assert 1 == len(router.dead_letters)
