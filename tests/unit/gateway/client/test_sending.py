import asyncio
import os

import pytest
from aiohttp import web

from gateway.client import Client, UploadError, sending
from tests.unit.gateway.small_gateway import API_KEY, DROP, small_gateway


@pytest.fixture
async def gateway():
    async with small_gateway() as small:
        yield small


@pytest.fixture
async def client(gateway):
    async with Client(gateway.url, api_key=API_KEY) as client:
        yield client


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(sending, "_FIRST_BACKOFF_S", 0.001)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"x" * 1_000_000)
    return path


@pytest.mark.parametrize("trouble", [DROP, 503, 409, 500, 400])
async def test_a_broken_upload_is_sent_again(gateway, client, path, trouble):
    gateway.put_answers.extend([trouble, trouble])

    await client.upload(path)

    assert 1_000_000 == gateway.puts[-1][2]
    assert {"/bucket/f-1.mp4"} == gateway.stored


async def test_an_upload_that_arrived_but_was_not_answered_is_done(
    gateway, client, path
):
    gateway.put_answers.append("stored, then drop")

    await client.upload(path)

    assert 1 == len(gateway.puts)


async def test_a_file_that_is_there_already_is_not_ours(gateway, client, path):
    gateway.stored.add("/bucket/f-1.mp4")

    with pytest.raises(UploadError, match="PreconditionFailed"):
        await client.upload(path)


async def test_a_refused_upload_is_not_repeated_nor_sent(gateway, client, path):
    gateway.put_answers.append(403)

    with pytest.raises(
        UploadError, match=r"refused it: AccessDenied: Request has expired"
    ):
        await client.upload(path)

    assert [] == gateway.puts


async def test_a_storage_that_never_works_is_given_up(gateway, client, path):
    gateway.put_answers.extend([503] * 9)

    with pytest.raises(UploadError, match=r"could not be reached: SlowDown"):
        await client.upload(path)

    assert sending.MAX_ATTEMPTS == len(gateway.puts)


async def test_an_upload_that_stalls_is_given_up(gateway, client, path, monkeypatch):
    monkeypatch.setattr(sending, "STALL_TIMEOUT_S", 0.05)
    given_up = asyncio.Event()

    async def stall(request, answer):
        await given_up.wait()
        return web.Response(status=500)

    gateway._put = stall

    with pytest.raises(UploadError, match="no byte got through"):
        await client.upload(path)
    given_up.set()


@pytest.mark.parametrize("size_bytes", [999_999, 1_000_001])
async def test_a_file_that_changes_is_not_stored(gateway, client, path, size_bytes):
    registered = await client.register(
        "clip.mp4", content_type="video/mp4", size_bytes=1_000_000
    )
    os.truncate(path, size_bytes)

    with pytest.raises(UploadError, match="changed while it was being sent"):
        await client.send(registered, path)

    assert set() == gateway.stored


async def test_a_folder_is_not_a_file(client, tmp_path):
    with pytest.raises(UploadError, match="not a regular file"):
        await client.upload(tmp_path)


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("clip.mp4", "video/mp4"),
        ("휴가.MOV", "video/quicktime"),
        ("a.mkv", "video/x-matroska"),
        ("a.ts", "video/mp2t"),
        ("a.webm", "video/webm"),
        ("notes.txt", "text/plain"),
        ("clip", "application/octet-stream"),
    ],
)
def test_the_media_type_is_guessed_from_the_name(name, content_type):
    assert content_type == sending.content_type(name)
