"""The two handlers as AWS calls them, posting to a real HTTP server."""

import asyncio
import base64
import json
import random
import socket
import threading

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from moto import mock_aws

from lambdas import (
    clients,
    hls_file_manifest_saver,
    video_media_converter,
)
from lambdas import gateway as posts
from lambdas.errors import GatewayRefusedError, GatewayUnavailableError
from tests.integration.conftest import INGEST_KEY
from tests.unit.lambdas.standins import (
    AWS,
    BUCKET,
    FILE_ID,
    JOB_ID,
    KEY,
    MASTER,
    MASTER_PLAYLIST,
    SETTINGS,
    Invocation,
    gateway_server,
    in_sqs,
    put_event,
    vector,
)

REPORTS = f"/v1/files/{FILE_ID}/reports"
MANIFEST = f"/v1/files/{FILE_ID}/manifest"
JOB = {"Id": JOB_ID, "Role": "role", "Settings": {}}
STORY = [
    "mediaconvert-01-progressing",
    "mediaconvert-02-input-information",
    "mediaconvert-03-status-update-transcoding",
    "mediaconvert-04-status-update-uploading",
    "mediaconvert-06-complete-hls",
]


@pytest.fixture
def door():
    with gateway_server() as server:
        yield server


def forget_process():
    """The next invocation is a cold start."""
    for cached in (
        clients.s3,
        clients.mediaconvert,
        video_media_converter._converter,
        hls_file_manifest_saver._saver,
    ):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def process(monkeypatch, door):
    """A cold process with its settings, S3 and one uploaded video."""
    for name, value in {**AWS, **SETTINGS, "GATEWAY_URL": door.url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(posts, "PAUSES_S", (0, 0))
    forget_process()
    with mock_aws():
        s3 = clients.s3()
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"v", Tagging=f"file_id={FILE_ID}")
        yield
    forget_process()


@pytest.fixture
def mediaconvert():
    with Stubber(clients.mediaconvert()) as script:
        yield script
        script.assert_no_pending_responses()


@pytest.fixture
def one_job(mediaconvert):
    mediaconvert.add_response("create_job", {"Job": JOB})


def convert(event=None):
    return video_media_converter.handler(event or put_event(), Invocation())


def save(name_or_event):
    event = vector(name_or_event) if isinstance(name_or_event, str) else name_or_event
    return hls_file_manifest_saver.handler(event, Invocation())


def claims():
    answer = clients.s3().list_objects_v2(Bucket=BUCKET, Prefix="video/claims/")
    return answer["KeyCount"]


@pytest.mark.usefixtures("one_job")
def test_an_upload_is_reported_in_signed_posts(door):
    convert()

    assert ["uploaded", "converting"] == door.types
    assert [REPORTS, REPORTS] == [post.path for post in door.posts]
    assert JOB_ID == door.posts[1].content["job_id"]
    assert 2 == len(door.seen)


@pytest.mark.usefixtures("one_job")
def test_a_repeated_upload_event_repeats_what_it_says_byte_for_byte(door):
    convert()
    convert(in_sqs(put_event()))

    assert [post.body for post in door.posts[:2]] == [p.body for p in door.posts[2:]]
    assert door.posts[1] == door.posts[3]
    assert 3 == len(door.seen)


@pytest.fixture
async def waiting(gateway, monkeypatch):
    """A file of a real gateway, uploaded, whose first try may make no job."""
    file_id = await gateway.new_file()
    key = KEY.replace(FILE_ID, file_id)
    clients.s3().put_object(Bucket=BUCKET, Key=key, Body=b"v")
    secret = "whsec_" + base64.b64encode(INGEST_KEY).decode()
    monkeypatch.setenv("GATEWAY_URL", gateway.url)
    monkeypatch.setenv("INGEST_SECRET", secret)
    return file_id, put_event(key)


async def status(gateway, file_id):
    async with gateway.http.get(f"{gateway.url}/v1/files/{file_id}") as answer:
        return (await answer.json())["status"]


async def denied(event, mediaconvert):
    """Run an invocation whose role may not make jobs, as the first or a retry."""
    mediaconvert.add_client_error(
        "create_job", "AccessDeniedException", http_status_code=403
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        await asyncio.to_thread(convert, event)


async def test_an_event_sent_again_makes_no_job_for_a_file_that_has_ended(
    gateway, waiting, mediaconvert
):
    """Within three days, in which the gateway repeats its answers to old posts."""
    file_id, event = waiting
    await denied(event, mediaconvert)
    await gateway.report(file_id, "failed")

    await asyncio.to_thread(convert, event)

    assert "failed" == await status(gateway, file_id)


async def test_an_event_sent_again_makes_the_job_of_a_file_that_still_waits(
    gateway, waiting, mediaconvert
):
    file_id, event = waiting
    await denied(event, mediaconvert)
    mediaconvert.add_response("search_jobs", {"Jobs": []})
    mediaconvert.add_response("create_job", {"Job": JOB})

    await asyncio.to_thread(convert, event)
    await asyncio.to_thread(convert, event)

    assert "converting" == await status(gateway, file_id)


def test_the_story_of_a_job_is_posted_in_order(door):
    for name in STORY:
        save(name)

    assert ["converting", "progress", "progress", "progress", "manifest"] == door.types
    assert MANIFEST == door.posts[-1].path
    assert MASTER == door.posts[-1].content["master_playlist"]


def test_events_twice_and_in_any_order_are_the_same_posts(door):
    names = STORY * 2
    random.Random(7).shuffle(names)

    for name in names:
        save(name)

    assert 10 == len(door.posts)
    assert 5 == len(set(door.posts))


def test_a_playlist_found_the_second_time_only_does_not_lose_the_manifest(door):
    """Its body differs, so under the same webhook-id it would be refused."""
    save("mediaconvert-06-complete-hls")
    key = MASTER.removeprefix(f"s3://{BUCKET}/")
    clients.s3().put_object(Bucket=BUCKET, Key=key, Body=MASTER_PLAYLIST.encode())
    save("mediaconvert-06-complete-hls")

    first, second = (post.content["renditions"][0] for post in door.posts)
    assert first["bandwidth"] is None
    assert 5605600 == second["bandwidth"]
    assert 2 == len(door.seen)


@pytest.mark.usefixtures("mediaconvert")
def test_nothing_is_half_done_while_the_gateway_is_down(door):
    door.script = [503, 503, 503]

    with pytest.raises(GatewayUnavailableError, match="503"):
        convert()

    assert 0 == claims()


@pytest.mark.usefixtures("one_job")
def test_the_retry_after_an_outage_finishes_what_was_begun(door):
    door.script = [200, 503, 503, 503]
    with pytest.raises(GatewayUnavailableError):
        convert()
    assert 1 == claims()

    convert()

    assert {"uploaded", "converting"} == set(door.types[-2:])
    assert JOB_ID == door.posts[-1].content["job_id"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_short_outage_is_bridged_within_the_invocation(door, status):
    door.script = [status, status]

    save("mediaconvert-12-canceled")

    assert 3 == len(door.posts)
    assert 1 == len(set(door.posts))


@pytest.mark.usefixtures("mediaconvert")
@pytest.mark.parametrize("status", [200, 202])
def test_a_page_of_a_load_balancer_is_no_gateways_answer(door, status):
    """Else AWS forgets the event, and nobody has it."""
    door.script = [status] * 6
    door.page = "<html>be right back</html>"

    with pytest.raises(GatewayUnavailableError, match="be right back"):
        save("mediaconvert-06-complete-hls")
    with pytest.raises(GatewayUnavailableError, match="be right back"):
        convert()

    assert ["manifest"] * 3 + ["uploaded"] * 3 == door.types
    assert 0 == claims()


@pytest.mark.parametrize("status", [400, 401, 404, 410, 413, 422])
def test_a_final_answer_fails_the_invocation_at_once(door, status):
    """So that AWS keeps the event in the dead-letter queue for a person."""
    door.script = [status]

    with pytest.raises(GatewayRefusedError, match=str(status)) as caught:
        save("mediaconvert-06-complete-hls")

    assert status == caught.value.status
    assert 1 == len(door.posts)


@pytest.mark.usefixtures("mediaconvert")
def test_no_job_is_paid_for_a_file_the_gateway_does_not_know(door):
    door.script = [404]

    with pytest.raises(GatewayRefusedError):
        convert()

    assert 0 == claims()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_with_our_signature(door, status):
    with gateway_server() as elsewhere:
        door.script = [status]
        door.location = elsewhere.url

        with pytest.raises(GatewayRefusedError, match=str(status)):
            save("mediaconvert-12-canceled")

        assert [] == elsewhere.posts


def test_a_wrong_secret_is_refused_and_named(monkeypatch):
    wrong = "whsec_" + base64.b64encode(b"another secret of 32 characters!").decode()
    monkeypatch.setenv("INGEST_SECRET", wrong)

    with pytest.raises(GatewayRefusedError, match="401"):
        save("mediaconvert-12-canceled")


def test_a_closed_port_is_a_gateway_that_is_away(monkeypatch):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        monkeypatch.setenv("GATEWAY_URL", url)

        with pytest.raises(GatewayUnavailableError, match="cannot be reached"):
            save("mediaconvert-12-canceled")


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 2", b"no http at all\r\n\r\n"],
)
def test_a_broken_answer_is_a_gateway_that_is_away(monkeypatch, answer):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("GATEWAY_URL", url)

        def serve():
            for _ in range(3):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()

        with pytest.raises(GatewayUnavailableError):
            save("mediaconvert-12-canceled")

        thread.join(timeout=5)
        assert not thread.is_alive()


def test_a_gateway_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(posts, "TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        monkeypatch.setenv("GATEWAY_URL", url)

        with pytest.raises(GatewayUnavailableError, match="timed out"):
            save("mediaconvert-12-canceled")


@pytest.mark.usefixtures("one_job")
def test_the_logs_are_json_lines_without_the_secret(capsys):
    convert()
    save("mediaconvert-06-complete-hls")

    lines = capsys.readouterr().out.splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert {"reports.posted", "job.created", "manifest.posted"} <= set(events)
    key = SETTINGS["INGEST_SECRET"].removeprefix("whsec_")
    assert not [
        line for line in lines if key in line or base64.b64decode(key).decode() in line
    ]
