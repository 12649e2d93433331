import boto3
import pytest
from botocore.stub import Stubber

from lambdas import hls_file_manifest_saver
from lambdas.errors import SettingError, UnknownEventError
from lambdas.hls_file_manifest_saver import Saver, handler
from tests.unit.lambdas.standins import (
    BUCKET,
    FILE_ID,
    JOB_ID,
    MASTER,
    MASTER_PLAYLIST,
    SETTINGS,
    Invocation,
    RecordingGateway,
    vector,
)

PLAYLIST_KEY = MASTER.removeprefix(f"s3://{BUCKET}/")


@pytest.fixture
def gateway():
    return RecordingGateway()


@pytest.fixture(autouse=True)
def saver(monkeypatch, s3, gateway):
    saver = Saver(gateway, "video/hls/", s3)
    monkeypatch.setattr(hls_file_manifest_saver, "_saver", lambda: saver)
    return saver


@pytest.fixture
def playlist(s3):
    s3.put_object(Bucket=BUCKET, Key=PLAYLIST_KEY, Body=MASTER_PLAYLIST.encode())


def run(event):
    return handler(event, Invocation())


def only_post(gateway):
    ((file_id, _, post),) = gateway.posts
    assert FILE_ID == file_id
    return post


def said(gateway):
    """A post without what every post has."""
    common = {"job_id", "attempt", "occurred_at", "sender"}
    return {k: v for k, v in only_post(gateway).items() if k not in common}


def status_update(**progress):
    event = vector("mediaconvert-03-status-update-transcoding")
    event["detail"]["jobProgress"] = progress
    return event


def complete(**group):
    event = vector("mediaconvert-06-complete-hls")
    event["detail"]["userMetadata"]["bucket"] = BUCKET
    event["detail"]["outputGroupDetails"][0].update(group)
    return event


@pytest.mark.parametrize(
    ("name", "news"),
    [
        ("01-progressing", {"type": "converting"}),
        ("02-input-information", {"type": "progress", "phase": "probing"}),
        (
            "03-status-update-transcoding",
            {"type": "progress", "phase": "transcoding", "percent": 37},
        ),
        (
            "04-status-update-uploading",
            {"type": "progress", "phase": "uploading", "percent": 93},
        ),
        ("12-canceled", {"type": "canceled"}),
    ],
)
def test_every_status_is_one_report(gateway, name, news):
    run(vector(f"mediaconvert-{name}"))

    assert news == said(gateway)


def test_every_report_says_whose_and_when(gateway):
    run(vector("mediaconvert-03-status-update-transcoding"))

    (_, cause, post) = gateway.posts[0]
    assert "eb-6f1d2c30-0000-4000-8000-000000000003" == cause
    assert JOB_ID == post["job_id"]
    assert 1 == post["attempt"]
    assert "2025-11-22T00:00:20.310Z" == post["occurred_at"]
    assert "hls_file_manifest_saver" == post["sender"]


@pytest.mark.parametrize(
    ("progress", "news"),
    [
        ({}, {}),
        ({"currentPhase": "PROBING"}, {"phase": "probing"}),
        ({"jobPercentComplete": 0}, {"percent": 0}),
        ({"jobPercentComplete": 99.9}, {"percent": 99}),
        ({"jobPercentComplete": 101}, {}),
        ({"jobPercentComplete": -1}, {}),
        ({"jobPercentComplete": "37"}, {}),
        ({"jobPercentComplete": True, "currentPhase": "NOVELTY"}, {}),
        ({"currentPhase": ["PROBING"]}, {}),
    ],
)
def test_progress_may_lack_its_phase_and_its_percent(gateway, progress, news):
    run(status_update(**progress))

    assert {"type": "progress", **news} == said(gateway)


def test_progress_may_be_missing_altogether(gateway):
    event = status_update()
    del event["detail"]["jobProgress"]

    run(event)

    assert {"type": "progress"} == said(gateway)


@pytest.mark.parametrize("status", ["QUEUE_HOP", "NEW_WARNING", "SUBMITTED", "NOVEL"])
def test_a_status_that_changes_nothing_is_ignored_with_a_line(gateway, capsys, status):
    event = vector("mediaconvert-14-queue-hop")
    event["detail"]["status"] = status

    assert {"status": status} == run(event)

    assert [] == gateway.posts
    assert status in capsys.readouterr().out


def test_jobs_of_other_applications_are_ignored(gateway):
    event = vector("mediaconvert-06-complete-hls")
    event["detail"]["userMetadata"] = {}

    assert {"status": "ignored"} == run(event)

    assert [] == gateway.posts


def test_an_event_of_another_kind_is_a_clear_error():
    with pytest.raises(UnknownEventError, match="not from aws"):
        run({"source": "aws.s3"})


@pytest.mark.parametrize(
    ("aws_code", "code"),
    [
        (1020, "no_video"),
        (1030, "unsupported_format"),
        (1076, "input_unreadable"),
        (1404, "input_missing"),
        (1040, "conversion_failed"),
        (99999, "conversion_failed"),
        ("1020", "conversion_failed"),
        (None, "conversion_failed"),
    ],
)
def test_an_error_has_the_best_code_there_is(gateway, aws_code, code):
    event = vector("mediaconvert-10-error-bad-input")
    event["detail"]["errorCode"] = aws_code

    run(event)

    assert {
        "code": code,
        "message": "Example: the input could not be read as media",
        "retryable": False,
    } == said(gateway)["error"]
    assert "failed" == said(gateway)["type"]


@pytest.mark.parametrize("message", [None, "", " \n", 7])
def test_an_error_without_a_text_is_an_error_all_the_same(gateway, message):
    event = vector("mediaconvert-11-error-input-not-accessible")
    event["detail"]["errorMessage"] = message

    run(event)

    assert "no reason given" == said(gateway)["error"]["message"]


@pytest.mark.usefixtures("playlist")
def test_a_complete_job_is_a_manifest_with_all_there_is_to_know(gateway):
    run(complete())

    post = only_post(gateway)
    assert "manifest" == post["type"]
    assert MASTER == post["master_playlist"]
    assert 120041 == post["duration_ms"]
    assert "2025-11-22T00:00:52.118Z" == post["occurred_at"]
    assert [5605600, 3405600, 1605600] == [r["bandwidth"] for r in post["renditions"]]
    assert "hls_file_manifest_saver" == post["sender"]


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff\xfe", b"#EXTM3U\n" + b"#" * 2**17]
)
def test_a_playlist_that_cannot_be_read_costs_detail_only(gateway, s3, body):
    s3.put_object(Bucket=BUCKET, Key=PLAYLIST_KEY, Body=body)

    run(complete())

    post = only_post(gateway)
    assert [1080, 720, 480] == [r["height"] for r in post["renditions"]]
    assert [None] * 3 == [r["bandwidth"] for r in post["renditions"]]


@pytest.mark.parametrize("paths", [["master_480"], []], ids=["named", "derived"])
def test_a_missing_permission_does_not_lose_the_completion(gateway, monkeypatch, paths):
    client = boto3.client("s3")
    script = Stubber(client)
    script.add_client_error("get_object", "AccessDenied", http_status_code=403)
    script.activate()
    denied = Saver(gateway, "video/hls/", client)
    monkeypatch.setattr(hls_file_manifest_saver, "_saver", lambda: denied)

    run(complete(playlistFilePaths=[MASTER] if paths else []))

    assert MASTER == only_post(gateway)["master_playlist"]


def test_a_playlist_aws_named_is_believed_even_if_it_is_not_there(gateway):
    run(complete())

    assert MASTER == only_post(gateway)["master_playlist"]


@pytest.mark.usefixtures("playlist")
def test_a_complete_job_without_paths_is_completed_from_its_playlist(gateway):
    run(complete(playlistFilePaths=None, outputDetails=[{"durationInMs": 0}]))

    post = only_post(gateway)
    assert MASTER == post["master_playlist"]
    assert post["duration_ms"] is None
    assert [1080, 720, 480] == [r["height"] for r in post["renditions"]]


def test_a_playlist_that_was_guessed_and_is_not_there_fails_the_file(gateway):
    run(complete(playlistFilePaths=None, outputDetails=[]))

    assert "output_missing" == said(gateway)["error"]["code"]
    assert "failed" == said(gateway)["type"]


def test_a_complete_job_that_made_no_hls_fails_the_file(gateway):
    run(complete(type="FILE_GROUP", playlistFilePaths=None))

    assert "output_missing" == said(gateway)["error"]["code"]


def test_a_complete_job_from_nowhere_fails_the_file(gateway):
    event = complete()
    event["detail"].update(outputGroupDetails=[], userMetadata={"file_id": FILE_ID})

    run(event)

    assert "output_missing" == said(gateway)["error"]["code"]


def test_the_attempt_of_the_job_is_that_of_its_reports(gateway):
    event = vector("mediaconvert-12-canceled")
    event["detail"]["userMetadata"]["attempt"] = "2"

    run(event)

    assert 2 == only_post(gateway)["attempt"]


def test_a_wrong_setting_stops_the_first_invocation_and_is_named(monkeypatch):
    monkeypatch.undo()
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    hls_file_manifest_saver._saver.cache_clear()

    with pytest.raises(SettingError, match="GATEWAY_URL: is not set"):
        run(vector("mediaconvert-12-canceled"))
