"""
What really became of the files of a local cloud, asked of those who must know.

Jobs come from the MediaConvert stand-in through AWS's own client, events from
the gateway's whole story of a file.
"""

import re
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3

WAIT_S = 30.0
FINAL = {"playable", "failed", "canceled", "expired"}


def endpoint(cloud: Any, service: str) -> str:
    """URL of one of AWS's stand-ins, by the environment its clients have."""
    # The worker comes last: nobody waits for it.
    until(lambda: "worker" in cloud.pids())
    shown = ["ps", "eww", "-o", "args=", "-p", str(cloud.pids()["worker"])]
    environment = subprocess.check_output(shown, text=True)
    found = re.search(rf"\bAWS_ENDPOINT_URL_{service}=(\S+)", environment)
    assert found, f"the worker does not know {service}"
    return found[1]


def own_hosts(cloud: Any) -> set[str]:
    """Host and port of all that a page of this cloud may talk to."""
    return {urlsplit(url).netloc for url in (cloud.url, endpoint(cloud, "S3"))}


def jobs_by_file(cloud: Any) -> dict[str, list[dict[str, Any]]]:
    """Every MediaConvert job that was ever made, by file id."""
    mediaconvert = boto3.client(
        "mediaconvert",
        endpoint_url=endpoint(cloud, "MEDIACONVERT"),
        region_name="ap-northeast-2",
        aws_access_key_id="local",
        aws_secret_access_key="any",
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for page in mediaconvert.get_paginator("list_jobs").paginate(MaxResults=20):
        for job in page["Jobs"]:
            found.setdefault(job["UserMetadata"]["file_id"], []).append(job)
    return found


def states(cloud: Any, file_id: str) -> list[dict[str, Any]]:
    """The state in each event of a file, oldest first."""
    path = f"v1/files/{file_id}/history?after="
    page = cloud.ask(f"{path}0")
    told = page["events"]
    while page["after"] < page["file"]["seq"]:
        page = cloud.ask(f"{path}{page['after']}")
        told += page["events"]
    return [event["state"] for event in told]


def assert_one_end(told: list[dict[str, Any]]) -> None:
    """The events of a file have no gap, no step back, and the last one ends it."""
    percents = [state["percent"] for state in told if state["percent"] is not None]

    assert list(range(1, len(told) + 1)) == [state["seq"] for state in told]
    assert [*[False] * (len(told) - 1), True] == [is_final(state) for state in told]
    assert sorted(percents) == percents


def is_final(state: dict[str, Any]) -> bool:
    """Whether nothing comes after it."""
    return state["status"] in FINAL


def wait_until_all_came_twice(cloud: Any) -> None:
    """Under `duplicate`: wait for the second copy of all that was ever posted."""
    until(lambda: min(deliveries(cloud).values(), default=0) > 1, "a second copy")


def deliveries(cloud: Any) -> Counter[str]:
    """
    How often the functions heard of each upload and each change of a job.

    That of an upload begins with an `uploaded` whose webhook id ends anew; the id
    of a job's change is the same each time.
    """
    log = (cloud.data_dir / "logs" / "local.log").read_text()
    uploads = re.findall(r'"uploaded", "webhook_id": "(s3-[^-"]+)', log)
    return Counter(uploads + re.findall(r'"webhook_id": "(eb-[^"]+)"', log))


def until(holds: Callable[[], bool], what: str = "it") -> None:
    """Wait until it is so; `what` is said if that never comes."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come in time"
        time.sleep(0.05)


def register(cloud: Any, video: Path, **more: str) -> dict[str, Any]:
    """Announce a video as an app's back end does; the value is the whole answer."""
    said = {"name": video.name, "content_type": "video/mp4", **more}
    answer: dict[str, Any] = cloud.ask(
        "v1/files", said | {"size": video.stat().st_size}
    )
    return answer


def put(upload: dict[str, Any], body: bytes | Path) -> int:
    """Upload as a browser does; the value is the status."""
    data = body.read_bytes() if isinstance(body, Path) else body
    request = urllib.request.Request(
        upload["url"], data, upload["headers"], method=upload["method"]
    )
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
