"""A job as the API and EventBridge tell it."""

import time
from pathlib import Path
from typing import Any

from local.ladder import Ladder
from local.mediaconvert_job import Job, Place
from local.mediaconvert_model import answer_problems
from local.transcode import Output, Progress
from tests.clips import MEDIA
from tests.jobs import request

PLACE = Place("111122223333", "ap-northeast-2")
NOW_S = 1763769604.21


def job(**more: Any) -> Job:
    """A submitted one."""
    body = request() | more
    return Job.create(0, body, Ladder.of(body["settings"]), PLACE, NOW_S)


def made(job: Job) -> list[Output]:
    """Two renditions, as if converted."""
    return [
        Output(
            number=number,
            name=job.ladder.name(rendition),
            width=426,
            height=240,
            duration_ms=5280,
            average_bps=990_211,
            peak_bps=1_000_000,
            codecs="avc1.4d401f",
            segments=(Path("0_00001.ts"),),
        )
        for number, rendition in enumerate(job.ladder.renditions)
    ]


def test_an_event_has_the_services_envelope() -> None:
    """Member by member."""
    it = job()

    event = it.event("PROGRESSING", NOW_S)

    arn = f"arn:aws:mediaconvert:ap-northeast-2:111122223333:jobs/{it.id}"
    assert {
        "version": "0",
        "id": event["id"],
        "detail-type": "MediaConvert Job State Change",
        "source": "aws.mediaconvert",
        "account": "111122223333",
        "time": "2025-11-22T00:00:04Z",
        "region": "ap-northeast-2",
        "resources": [arn],
        "detail": {
            "timestamp": 1763769604210,
            "accountId": "111122223333",
            "queue": "arn:aws:mediaconvert:ap-northeast-2:111122223333:queues/Default",
            "jobId": it.id,
            "status": "PROGRESSING",
            "userMetadata": {"file_id": "f-1"},
        },
    } == event


def test_every_event_has_an_id_of_its_own() -> None:
    """Receivers drop what they have seen by it."""
    it = job()

    assert it.event("X", NOW_S)["id"] != it.event("X", NOW_S)["id"]


def test_no_metadata_is_an_empty_object() -> None:
    """Not a missing member."""
    body = request()
    del body["userMetadata"]
    it = Job.create(0, body, Ladder.of(body["settings"]), PLACE, NOW_S)

    assert {} == it.event("PROGRESSING", NOW_S)["detail"]["userMetadata"]


def test_a_status_update_tells_every_phase() -> None:
    """As AWS's own sample does."""
    it = job()
    it.progress = Progress("TRANSCODING", 100, 41, 0, 1212)

    assert {
        "framesDecoded": 1212,
        "jobProgress": {
            "phaseProgress": {
                "PROBING": {"status": "COMPLETE", "percentComplete": 100},
                "TRANSCODING": {"status": "PROGRESSING", "percentComplete": 41},
                "UPLOADING": {"status": "PENDING", "percentComplete": 0},
            },
            "jobPercentComplete": 36,
            "currentPhase": "TRANSCODING",
            "retryCount": 0,
        },
    } == it.status_update()


def test_an_unknown_length_leaves_the_percentage_out() -> None:
    """Absent, as the service does it; not 0."""
    it = job()
    it.progress.transcoding = None
    it.started_s = NOW_S

    assert "jobPercentComplete" not in it.status_update()["jobProgress"]
    assert "jobPercentComplete" not in it.document()


def test_input_information_describes_picture_and_sound() -> None:
    """Names as the service spells them."""
    details = job().input_information(MEDIA)["inputDetails"]

    assert [
        {
            "id": 1,
            "uri": "s3://films/in/a.mp4",
            "audio": [
                {
                    "channels": 2,
                    "codec": "AAC",
                    "language": "UND",
                    "sampleRate": 48000,
                    "streamId": 3,
                }
            ],
            "video": [
                {
                    "bitDepth": 8,
                    "codec": "H_264",
                    "colorFormat": "YUV_420",
                    "fourCC": "avc1",
                    "frameRate": 29.97,
                    "height": 1080,
                    "interlaceMode": "PROGRESSIVE",
                    "sar": "1:1",
                    "standard": "UNSPECIFIED",
                    "streamId": 1,
                    "width": 1920,
                }
            ],
        }
    ] == details


def test_completion_names_every_playlist() -> None:
    """In the order of the job's outputs, the master apart."""
    it = job()
    it.outputs = made(it)

    group = it.completion()["outputGroupDetails"][0]

    assert "HLS_GROUP" == group["type"]
    assert ["s3://films/out/a/master.m3u8"] == group["playlistFilePaths"]
    assert [
        ["s3://films/out/a/master_720.m3u8"],
        ["s3://films/out/a/master_240.m3u8"],
    ] == [details["outputFilePaths"] for details in group["outputDetails"]]
    assert {
        "outputFilePaths": ["s3://films/out/a/master_240.m3u8"],
        "durationInMs": 5280,
        "videoDetails": {
            "widthInPx": 426,
            "heightInPx": 240,
            "averageBitrate": 990_211,
        },
    } == group["outputDetails"][1]


def test_the_api_answers_are_what_the_model_says() -> None:
    """Waiting, running, failed and complete."""
    waiting = job(clientRequestToken="t", queue="Default", priority=5)
    running, failed, complete = job(), job(), job()
    running.started_s = failed.started_s = complete.started_s = time.time()
    failed.error = (1010, "no")
    complete.outputs, complete.finished_s = made(complete), time.time()

    for it in (waiting, running, failed, complete):
        assert [] == answer_problems("GetJob", {"job": it.document()})


def test_the_api_names_no_output_file() -> None:
    """A reconciler has to work them out, as with the real one."""
    it = job()
    it.outputs = made(it)

    details = it.document()["outputGroupDetails"]

    assert "m3u8" not in str(details)
    assert 2 == len(details[0]["outputDetails"])


def test_a_queue_is_told_as_an_arn() -> None:
    """Named by name or by ARN."""
    arn = "arn:aws:mediaconvert:ap-northeast-2:111122223333:queues/Fast"

    assert arn == job(queue="Fast").queue
    assert arn == job(queue=arn).queue
