"""A conversion on the local cloud, and what dies in the middle of it."""

import os
import signal
import time
import urllib.request

import pytest

# Several processes are started, some tests do so several times.
pytestmark = pytest.mark.timeout(180)

WAIT_S = 30.0


def test_a_conversion_outlives_the_death_of_everything_around_it(start_cloud, video):
    """A video of 5 s converts for about as long, more than all the restarts take."""
    cloud = start_cloud(env={"DATABASE_URL": ""})
    file_id = cloud.upload(video)
    cloud.wait_for(file_id, is_moving)

    for name in ("gateway", "postgres", "worker"):
        old = cloud.kill(name)
        cloud.wait_for_new(name, old)
    events = cloud.wait_for(file_id, is_final)

    assert "playable" == events[-1]["status"]
    assert list(range(1, len(events) + 1)) == [event["seq"] for event in events]
    assert 1 == len([event for event in events if is_final(event)])


def test_a_finished_video_plays_at_the_same_url_after_a_restart(
    start_cloud, video, tmp_path
):
    folder = tmp_path / "데이터 dir"
    cloud = start_cloud(data_dir=folder)
    file_id = cloud.upload(video)
    assert "playable" == cloud.wait_for(file_id, is_final)[-1]["status"]
    assert 0 == cloud.stop()

    again = start_cloud(data_dir=folder)

    hls_url = again.ask(f"v1/files/{file_id}")["playback"]["hls_url"]
    with urllib.request.urlopen(hls_url, timeout=WAIT_S) as answer:
        assert answer.read().startswith(b"#EXTM3U")
    assert not again.errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_end_in_the_middle_leaves_no_conversion_behind(start_cloud, video, number):
    cloud = start_cloud()
    cloud.wait_for(cloud.upload(video), is_moving)
    family = cloud.family()
    assert any("ffmpeg" in command for command in family.values())
    began = time.monotonic()

    cloud.process.send_signal(number)
    cloud.process.wait(WAIT_S)

    assert 10 > time.monotonic() - began
    until(lambda: not running(family))
    until(lambda: not [p for p in cloud.temporary.iterdir() if p.is_dir()])


def is_moving(event) -> bool:
    return (event["percent"] or 0) > 0


def is_final(event) -> bool:
    return event["status"] not in {"awaiting_upload", "uploaded", "converting"}


def running(family: dict[int, str]) -> list[str]:
    found = []
    for pid, command in family.items():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        found.append(command)
    return found


def until(holds) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
