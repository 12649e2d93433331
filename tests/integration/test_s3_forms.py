"""
Uploads by a form: signed by aiobotocore, sent by a browser.

On the stand-in alone: moto drops the tags of form uploads and checks no form policy.
"""

import asyncio
import base64
import io
import json
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import aiohttp
import pytest

from tests.integration.s3_bucket import (
    KEY,
    browsing,
    nothing_was_stored,
    served_bucket,
    signing,
)
from tests.s3_server import REGION, Server

TAGGING = (
    "<Tagging><TagSet><Tag><Key>file_id</Key><Value>1</Value></Tag></TagSet></Tagging>"
)
MAX_BYTES = 100_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served_bucket(tmp_path / "s3") as running:
        yield running


@pytest.fixture
async def signer(server: Server) -> AsyncIterator[Any]:
    async with signing(server) as client:
        yield client


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    async with browsing() as session:
        yield session


async def signed_form(signer: Any, key: str = KEY, **changes: Any) -> dict[str, Any]:
    fields = {"tagging": TAGGING, "Content-Type": "video/mp4"}
    conditions = [
        {"tagging": TAGGING},
        {"Content-Type": "video/mp4"},
        ["content-length-range", 1, MAX_BYTES],
    ]
    form: dict[str, Any] = await signer.generate_presigned_post(
        "media",
        key,
        Fields=fields | changes.get("fields", {}),
        Conditions=conditions + changes.get("conditions", []),
        ExpiresIn=60,
    )
    return form


def form_data(fields: dict[str, str], body: bytes, name: str) -> aiohttp.FormData:
    data = aiohttp.FormData(quote_fields=False)
    for field, value in fields.items():
        data.add_field(field, value)
    data.add_field("file", io.BytesIO(body), filename=name, content_type="video/mp4")
    return data


async def post(
    browser: aiohttp.ClientSession,
    form: dict[str, Any],
    body: bytes = b"video",
    name: str = "clip.mp4",
) -> tuple[int, str]:
    """Send a form; return the status and the code of the refusal."""
    data = form_data(form["fields"], body, name)
    async with browser.post(form["url"], data=data) as answer:
        text = await answer.text()
        code = ET.fromstring(text).findtext("Code", "") if text else ""
        return answer.status, code


async def test_a_form_upload_keeps_its_tags_and_type(server, signer, browser):
    form = await signed_form(signer)

    assert (204, "") == await post(browser, form)

    head = await signer.head_object(Bucket="media", Key=KEY)
    tags = await signer.get_object_tagging(Bucket="media", Key=KEY)
    assert ("video/mp4", 5) == (head["ContentType"], head["ContentLength"])
    assert [{"Key": "file_id", "Value": "1"}] == tags["TagSet"]
    assert [("ObjectCreated:Post", KEY)] == server.events.names_and_keys(1)


@pytest.mark.parametrize(("wanted", "status"), [("200", 200), ("201", 201)])
async def test_a_form_may_choose_its_success(signer, browser, wanted, status):
    chosen = {"success_action_status": wanted}
    form = await signed_form(signer, fields=chosen, conditions=[chosen])
    data = form_data(form["fields"], b"video", "clip.mp4")

    async with browser.post(form["url"], data=data) as answer:
        text = await answer.text()

    assert status == answer.status
    if status == 201:
        document = ET.fromstring(text)
        assert "PostResponse" == document.tag
        assert KEY == document.findtext("Key")
        assert answer.headers["ETag"] == document.findtext("ETag")


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("여름 휴가 (1)+final.mp4", "여름 휴가 (1)+final.mp4"),
        ("C:\\videos\\clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
    ],
)
async def test_a_file_name_fills_in_the_key(server, signer, browser, name, base):
    form = await signed_form(signer, "video/origin/${filename}")

    assert (204, "") == await post(browser, form, name=name)

    listed = await signer.list_objects_v2(Bucket="media")
    assert [f"video/origin/{base}"] == [row["Key"] for row in listed["Contents"]]


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"key": "video/origin/2.mp4"}, (403, "AccessDenied")),
        ({"Content-Type": "text/html"}, (403, "AccessDenied")),
        ({"tagging": TAGGING.replace("1", "2")}, (403, "AccessDenied")),
        ({"x-amz-meta-a": "1"}, (403, "AccessDenied")),
        ({"acl": "public-read"}, (403, "AccessDenied")),
        ({"success_action_redirect": "https://x"}, (403, "AccessDenied")),
        ({"x-amz-signature": "0" * 64}, (403, "SignatureDoesNotMatch")),
        ({"policy": base64.b64encode(b"{}").decode()}, (403, "SignatureDoesNotMatch")),
    ],
)
async def test_a_form_may_hold_only_what_was_signed(
    server, signer, browser, fields, refusal
):
    form = await signed_form(signer)
    form["fields"] |= fields

    assert refusal == await post(browser, form)
    assert await nothing_was_stored(server, signer)


@pytest.mark.parametrize(
    ("missing", "refusal"),
    [
        ("tagging", (403, "AccessDenied")),
        ("Content-Type", (403, "AccessDenied")),
        ("policy", (403, "AccessDenied")),
        ("key", (400, "InvalidArgument")),
        ("x-amz-signature", (400, "InvalidArgument")),
        ("x-amz-credential", (400, "InvalidArgument")),
    ],
)
async def test_a_form_may_leave_nothing_out(server, signer, browser, missing, refusal):
    form = await signed_form(signer)
    del form["fields"][missing]

    assert refusal == await post(browser, form)
    assert await nothing_was_stored(server, signer)


@pytest.mark.parametrize(
    ("size", "refusal"),
    [
        (0, (400, "EntityTooSmall")),
        (1, (204, "")),
        (MAX_BYTES, (204, "")),
        (MAX_BYTES + 1, (400, "EntityTooLarge")),
        (40 * MAX_BYTES, (400, "EntityTooLarge")),
    ],
)
async def test_a_form_bounds_the_size(signer, browser, size, refusal):
    form = await signed_form(signer)

    assert refusal == await post(browser, form, bytes(size))


async def test_a_form_expires(server, signer, browser):
    form = await signed_form(signer)
    server.clock.offset = timedelta(seconds=62)

    assert (403, "AccessDenied") == await post(browser, form)


async def test_a_form_is_for_one_bucket(server, signer, browser):
    form = await signed_form(signer)
    await signer.create_bucket(
        Bucket="other", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    form["url"] = form["url"].replace("/media", "/other")

    assert (403, "AccessDenied") == await post(browser, form)


async def test_a_field_is_there_once(server, signer, browser):
    form = await signed_form(signer)
    data = aiohttp.FormData([*form["fields"].items(), ("KEY", "video/origin/2.mp4")])
    data.add_field("file", b"video", filename="clip.mp4")

    async with browser.post(form["url"], data=data) as answer:
        assert 400 == answer.status

    assert await nothing_was_stored(server, signer)


@pytest.mark.parametrize("kept", [0.5, 0.99])
async def test_a_form_that_is_cut_off_leaves_nothing(server, signer, kept):
    form = await signed_form(signer)
    lines = [
        f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in form["fields"].items()
    ]
    lines.append(
        '--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    body = "".join(lines).encode() + bytes(50_000) + b"\r\n--B--\r\n"

    def send() -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as peer:
            peer.sendall(
                b"POST /media HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
                b"Content-Type: multipart/form-data; boundary=B\r\n\r\n"
                % len(body)
                + body[: int(len(body) * kept)]
            )
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(65536):
                continue

    await asyncio.to_thread(send)

    assert await nothing_was_stored(server, signer)


# aiohttp warns of such a header, too; the answer is what matters here.
@pytest.mark.filterwarnings("ignore::aiohttp.BadContentDispositionHeader")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--B--\r\n",
        b"no boundary at all",
        b'--B\r\nContent-Disposition: form-data; name="key"\r\n\r\nk\r\n--B--\r\n',
        b"--B\r\nContent-Disposition: \xff\r\n\r\n\xff\r\n--B--\r\n",
        b'--B\r\nContent-Disposition: form-data; name="key"\r\n\r\n'
        + b"x" * 30_000
        + b"\r\n--B--\r\n",
    ],
)
async def test_a_body_that_is_no_form_is_refused(server, browser, body):
    headers = {"Content-Type": "multipart/form-data; boundary=B"}

    async with browser.post(
        f"{server.url}/media", data=body, headers=headers
    ) as answer:
        assert 400 == answer.status
        assert ET.fromstring(await answer.text()).findtext("Code")


async def test_a_policy_may_be_signed_with_starts_with(server, signer, browser):
    form = await signed_form(
        signer,
        "video/origin/${filename}",
        fields={"x-amz-meta-a": "abc"},
        conditions=[["starts-with", "$x-amz-meta-a", "ab"]],
    )

    assert (204, "") == await post(browser, form)
    form["fields"]["x-amz-meta-a"] = "ba"
    assert (403, "AccessDenied") == await post(browser, form)
    policy = json.loads(base64.b64decode(form["fields"]["policy"]))
    assert ["starts-with", "$key", "video/origin/"] in policy["conditions"]


async def test_metadata_cannot_forge_a_header(server, signer, browser):
    names = {"x-amz-meta-a b": "1"}
    form = await signed_form(signer, fields=names, conditions=[names])

    assert (400, "InvalidArgument") == await post(browser, form)
    assert await nothing_was_stored(server, signer)
