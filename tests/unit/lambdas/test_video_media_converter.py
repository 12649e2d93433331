import json
import time
import unicodedata

import pytest
from botocore.exceptions import ClientError

from lambdas import video_media_converter
from lambdas.errors import (
    GatewayUnavailableError,
    RetryLaterError,
    SettingError,
    UnknownEventError,
)
from lambdas.settings import ConverterSettings
from lambdas.uploads import uploads_in
from lambdas.video_media_converter import Converter, handler
from tests.unit.lambdas.standins import (
    BUCKET,
    FILE_ID,
    JOB_ID,
    KEY,
    OTHER_ID,
    SETTINGS,
    Invocation,
    RecordingGateway,
    eventbridge_event,
    in_sqs,
    put_event,
    vector,
)

CLAIM = f"video/claims/{FILE_ID}.json"
JOB = {"Id": JOB_ID, "Role": "role", "Settings": {}}


@pytest.fixture
def gateway():
    return RecordingGateway()


@pytest.fixture
def converter(monkeypatch, s3, mediaconvert, gateway):
    settings = ConverterSettings.from_env(SETTINGS)
    converter = Converter(settings, gateway, s3, mediaconvert)
    monkeypatch.setattr(video_media_converter, "_converter", lambda: converter)
    return converter


@pytest.fixture
def one_job(mediaconvert):
    """MediaConvert takes one job; another would have no answer."""
    mediaconvert.script.add_response("create_job", {"Job": JOB})


def run(event, invocation="invocation-1"):
    return handler(event, Invocation(invocation))


def claim(s3):
    return json.loads(s3.get_object(Bucket=BUCKET, Key=CLAIM)["Body"].read())


def claims(s3):
    answer = s3.list_objects_v2(Bucket=BUCKET, Prefix="video/claims/")
    return [content["Key"] for content in answer.get("Contents", [])]


@pytest.mark.usefixtures("converter", "uploaded", "one_job")
def test_an_upload_becomes_one_job_and_two_reports(gateway, s3):
    assert {"uploads": 1} == run(put_event())

    upload = uploads_in(put_event())[0][0]
    common = {
        "attempt": 1,
        "occurred_at": "2025-11-22T00:00:00.512Z",
        "sender": "video_media_converter",
    }
    (file_id, cause, said), converting = gateway.posts
    assert (FILE_ID, {"type": "uploaded", **common}) == (file_id, said)
    assert cause.startswith(f"{upload.cause}-")
    assert (
        FILE_ID,
        upload.cause,
        {"type": "converting", "job_id": JOB_ID, **common},
    ) == converting
    assert JOB_ID == claim(s3)["job_id"]


@pytest.mark.usefixtures("converter", "uploaded", "one_job")
def test_an_event_delivered_again_makes_no_job_and_the_same_reports(gateway):
    run(put_event())
    run(put_event(), "invocation-2")

    uploaded, converting, *again = gateway.posts
    assert [uploaded[2], converting[2]] == [said for _, _, said in again]
    assert converting == again[1]


@pytest.mark.usefixtures("converter", "uploaded", "one_job")
def test_every_try_asks_anew_whether_the_file_waits_for_its_job(gateway):
    """Of a post that comes again the gateway repeats what was so the first time."""
    run(put_event())
    run(put_event())
    run(in_sqs(put_event(), put_event()), "invocation-2")

    asked = [cause for _, cause, said in gateway.posts if said["type"] == "uploaded"]
    assert 4 == len(asked) == len(set(asked))


@pytest.mark.usefixtures("converter", "uploaded", "one_job")
def test_one_event_twice_in_a_batch_makes_one_job(gateway):
    run(in_sqs(put_event(), put_event(), eventbridge_event()))

    assert ["uploaded", "converting"] * 3 == gateway.types


@pytest.mark.usefixtures("converter", "uploaded", "one_job")
def test_a_second_write_of_the_key_makes_no_second_job(gateway, capsys):
    run(put_event())

    run(put_event(sequencer="0055AED6DCD90281FF", eTag="other"), "invocation-2")
    run(put_event(sequencer="0055AED6DCD90281FF", size=0), "invocation-3")

    assert "failed" not in gateway.types
    assert 2 == capsys.readouterr().out.count("upload.written_again")


@pytest.mark.usefixtures("converter", "uploaded", "one_job")
def test_several_uploads_in_one_event_each_get_a_job(gateway, mediaconvert, s3):
    mediaconvert.script.add_response("create_job", {"Job": {**JOB, "Id": "job-2"}})
    other = f"video/origin/{OTHER_ID}.mov"
    s3.put_object(Bucket=BUCKET, Key=other, Body=b"v", Tagging=f"file_id={OTHER_ID}")
    event = put_event()
    event["Records"] += put_event(other)["Records"]

    assert {"uploads": 2} == run(event)

    assert [FILE_ID, FILE_ID, OTHER_ID, OTHER_ID] == [p[0] for p in gateway.posts]
    assert 2 == len(claims(s3))


@pytest.mark.usefixtures("converter", "uploaded", "one_job")
def test_one_bad_record_does_not_stop_the_others_and_is_raised(gateway):
    with pytest.raises(UnknownEventError, match="hello"):
        run(in_sqs({"hello": 1}, put_event()))

    assert ["uploaded", "converting"] == gateway.types


@pytest.mark.usefixtures("converter")
def test_the_test_event_does_nothing(gateway):
    assert {"uploads": 0} == run(vector("s3-07-test-event"))
    assert [] == gateway.posts


@pytest.mark.usefixtures("converter")
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "key",
    [
        "video/origin/여름 휴가 (1)+final 100%.mp4",
        f"video/hls/{FILE_ID}/master.m3u8",
        f"video/origin/{FILE_ID}/part.mp4",
        f"video/origin/{FILE_ID.upper()}.mp4",
        "video/origin/.mp4",
        "video/origin/",
        f"video/origin/{FILE_ID}\n.mp4",
        f"x/video/origin/{FILE_ID}.mp4",
    ],
)
def test_an_object_that_is_no_upload_of_ours_is_left_alone(gateway, s3, form, key):
    run(put_event(unicodedata.normalize(form, key)))

    assert [] == gateway.posts
    assert [] == claims(s3)


@pytest.mark.usefixtures("converter", "one_job")
@pytest.mark.parametrize("extension", ["", ".mp4", ".tar.gz", ".a+b c%"])
def test_the_file_id_is_the_stem_of_the_key(gateway, s3, extension):
    key = f"video/origin/{FILE_ID}{extension}"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"v", Tagging=f"file_id={FILE_ID}")

    run(put_event(key))

    assert ["uploaded", "converting"] == gateway.types


@pytest.mark.usefixtures("converter", "one_job")
def test_a_missing_tag_is_tolerated_and_logged(gateway, s3, capsys):
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"v", Tagging="app=web")

    run(put_event())

    assert ["uploaded", "converting"] == gateway.types
    assert "upload.untagged" in capsys.readouterr().out


@pytest.mark.usefixtures("converter")
@pytest.mark.parametrize("size", [0, 10])
def test_a_tag_of_another_file_ends_neither_file(gateway, s3, capsys, size):
    """Or whoever can write an object could have us fail somebody's upload."""
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"v", Tagging=f"file_id={OTHER_ID}")

    run(put_event(size=size))

    assert [] == gateway.posts
    assert [] == claims(s3)
    assert "upload.tag_mismatch" in capsys.readouterr().out


@pytest.mark.usefixtures("converter", "one_job")
def test_the_right_object_may_still_come_after_a_wrong_one(gateway, s3):
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"v", Tagging=f"file_id={OTHER_ID}")
    run(put_event())
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"v", Tagging=f"file_id={FILE_ID}")

    run(put_event(sequencer="0055AED6DCD90281FF"))

    assert ["uploaded", "converting"] == gateway.types


@pytest.mark.usefixtures("converter")
def test_an_object_deleted_meanwhile_is_let_go(gateway, s3):
    run(put_event())

    assert [] == gateway.posts
    assert [] == claims(s3)


@pytest.mark.usefixtures("converter")
def test_a_check_that_cannot_be_made_is_not_skipped(gateway):
    event = put_event()
    event["Records"][0]["s3"]["bucket"]["name"] = "no-such-bucket"

    with pytest.raises(ClientError, match="NoSuchBucket"):
        run(event)

    assert [] == gateway.posts


@pytest.mark.usefixtures("converter", "uploaded")
def test_an_empty_upload_fails_without_a_job(gateway):
    run(put_event(size=0))
    run(put_event(size=0), "invocation-2")

    (_, _, first), (_, _, second) = gateway.posts
    assert "failed" == first["type"]
    assert "job_id" not in first
    assert {
        "code": "empty_upload",
        "message": "The uploaded file is empty.",
        "retryable": False,
    } == first["error"]
    assert first == second


@pytest.mark.usefixtures("converter", "uploaded", "one_job")
def test_an_upload_of_unknown_size_is_converted(gateway):
    run(put_event(size=None))

    assert ["uploaded", "converting"] == gateway.types


@pytest.mark.usefixtures("converter", "uploaded")
def test_a_job_refused_for_good_fails_the_file_once_and_the_same(gateway, mediaconvert):
    mediaconvert.script.add_client_error(
        "create_job", "BadRequestException", "Role\nis wrong", http_status_code=400
    )

    run(put_event())
    run(put_event(), "invocation-2")

    assert ["uploaded", "failed"] * 2 == gateway.types
    assert gateway.posts[1] == gateway.posts[3]
    assert {
        "code": "job_refused",
        "message": "MediaConvert refused the job: Role is wrong",
        "retryable": False,
    } == gateway.posts[1][2]["error"]


@pytest.mark.usefixtures("converter", "uploaded")
def test_a_throttled_job_is_made_by_the_retry_of_the_invocation(gateway, mediaconvert):
    mediaconvert.script.add_client_error(
        "create_job", "TooManyRequestsException", http_status_code=429
    )
    mediaconvert.script.add_response("search_jobs", {"Jobs": []})
    mediaconvert.script.add_response("create_job", {"Job": JOB})

    with pytest.raises(ClientError, match="TooManyRequests"):
        run(put_event())
    assert ["uploaded"] == gateway.types
    run(put_event())

    assert ["uploaded", "uploaded", "converting"] == gateway.types


@pytest.mark.usefixtures("converter", "uploaded")
@pytest.mark.parametrize(
    ("made", "job_id"), [([], JOB_ID), ([{**JOB, "Id": "made-before"}], "made-before")]
)
def test_a_conflict_fails_no_file_whose_job_may_exist(
    gateway, mediaconvert, made, job_id
):
    """The try before it may have made the job, and its answer was lost."""
    mediaconvert.script.add_client_error(
        "create_job", "ConflictException", http_status_code=409
    )
    metadata = {"UserMetadata": {"file_id": FILE_ID, "attempt": "1"}}
    mediaconvert.script.add_response(
        "search_jobs", {"Jobs": [{**job, **metadata} for job in made]}
    )
    if not made:
        mediaconvert.script.add_response("create_job", {"Job": JOB})

    with pytest.raises(ClientError, match="ConflictException"):
        run(put_event())
    run(put_event())

    assert ["uploaded", "uploaded", "converting"] == gateway.types
    assert job_id == gateway.posts[-1][2]["job_id"]


def dead_claim(s3, age_s):
    """What an invocation leaves that died before it stored its job."""
    content = {
        "file_id": FILE_ID,
        "owner": "invocation-0",
        "claimed_at_s": time.time() - age_s,
        "sequencer": "0055AED6DCD90281E5",
        "job_id": None,
        "error": None,
    }
    s3.put_object(Bucket=BUCKET, Key=CLAIM, Body=json.dumps(content).encode())


@pytest.mark.usefixtures("converter", "uploaded")
def test_a_young_claim_without_a_job_is_tried_again_later(gateway, s3):
    dead_claim(s3, age_s=5)

    with pytest.raises(RetryLaterError):
        run(put_event())

    assert ["uploaded"] == gateway.types


@pytest.mark.usefixtures("converter", "uploaded")
def test_the_job_of_an_invocation_that_died_is_adopted(gateway, mediaconvert, s3):
    dead_claim(s3, age_s=500)
    metadata = {"file_id": FILE_ID, "attempt": "1"}
    orphan = {**JOB, "Id": "orphan", "UserMetadata": metadata}
    mediaconvert.script.add_response("search_jobs", {"Jobs": [orphan]})

    run(put_event())

    assert "orphan" == claim(s3)["job_id"]
    assert "orphan" == gateway.posts[-1][2]["job_id"]


@pytest.mark.usefixtures("converter", "uploaded")
def test_an_old_claim_without_any_job_gets_its_job(gateway, mediaconvert, s3):
    dead_claim(s3, age_s=500)
    mediaconvert.script.add_response("search_jobs", {"Jobs": []})
    mediaconvert.script.add_response("create_job", {"Job": JOB})

    run(put_event())

    assert JOB_ID == claim(s3)["job_id"]
    assert ["uploaded", "converting"] == gateway.types


@pytest.mark.usefixtures("converter", "uploaded")
def test_no_job_is_made_that_the_gateway_cannot_hear_of(gateway, s3, monkeypatch):
    def away(*_):
        raise GatewayUnavailableError("away")

    monkeypatch.setattr(gateway, "report", away)

    with pytest.raises(GatewayUnavailableError):
        run(put_event())

    assert [] == claims(s3)


@pytest.mark.usefixtures("converter", "uploaded")
def test_an_upload_after_the_file_has_ended_makes_no_job(gateway, s3, capsys):
    gateway.outcome = "stale"

    run(put_event())

    assert ["uploaded"] == gateway.types
    assert [] == claims(s3)
    assert "upload.stale" in capsys.readouterr().out


@pytest.mark.usefixtures("converter", "uploaded", "one_job")
def test_an_upload_written_again_while_it_converts_is_let_go(gateway, s3):
    run(put_event())
    gateway.outcome = "stale"

    run(put_event(sequencer="0055AED6DCD90281FF"), "invocation-2")

    assert ["uploaded", "converting", "uploaded"] == gateway.types
    assert JOB_ID == claim(s3)["job_id"]


@pytest.mark.usefixtures("converter", "uploaded", "one_job")
@pytest.mark.parametrize("outcome", ["applied", "duplicate", "of a newer gateway"])
def test_a_file_that_waits_for_its_job_gets_it(gateway, outcome):
    gateway.outcome = outcome

    run(put_event())

    assert ["uploaded", "converting"] == gateway.types


def test_a_wrong_setting_stops_the_first_invocation_and_is_named(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    video_media_converter._converter.cache_clear()

    with pytest.raises(SettingError, match="MEDIACONVERT_ROLE_ARN: is not set"):
        run(put_event())
