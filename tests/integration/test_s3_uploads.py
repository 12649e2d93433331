"""
Uploads as the product makes them: signed by aiobotocore, sent by a browser.

On the stand-in alone: moto drops the tags of form uploads, checks no form policy,
sends events of version 2.1 without a sequencer, answers 500 to a part of an
aborted upload and takes parts in any order.
"""

import asyncio
import base64
import hashlib
import hmac
import io
import json
import socket
import threading
import urllib.parse
import zlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import aiohttp
import pytest
from aiobotocore.session import get_session
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from yarl import URL

from tests import s3_server
from tests.s3_server import REGION, Server

ORIGIN = "https://app.example.com"
KEY = "video/origin/1.mp4"
TAGGING = (
    "<Tagging><TagSet><Tag><Key>file_id</Key><Value>1</Value></Tag></TagSet></Tagging>"
)
MAX_BYTES = 100_000
SESSION = get_session()


def set_up(server: Server) -> None:
    client = server.client()
    client.create_bucket(
        Bucket="media", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    client.put_bucket_cors(
        Bucket="media",
        CORSConfiguration={
            "CORSRules": [
                {
                    "AllowedOrigins": [ORIGIN],
                    "AllowedMethods": ["PUT", "POST"],
                    "AllowedHeaders": [
                        "content-type",
                        "x-amz-tagging",
                        "if-none-match",
                    ],
                    "ExposeHeaders": ["ETag"],
                    "MaxAgeSeconds": 3000,
                },
                {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]},
            ]
        },
    )
    client.put_bucket_notification_configuration(
        Bucket="media",
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [
                {
                    "Id": "origin-uploads",
                    "LambdaFunctionArn": "arn:aws:lambda:x:1:function:f",
                    "Events": ["s3:ObjectCreated:*"],
                    "Filter": {
                        "Key": {
                            "FilterRules": [
                                {"Name": "prefix", "Value": "video/origin/"}
                            ]
                        }
                    },
                }
            ]
        },
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A stand-in set up as the local cloud sets it up."""
    with s3_server.serve(tmp_path / "s3") as running:
        set_up(running)
        yield running


@pytest.fixture
async def signer(server: Server) -> AsyncIterator[Any]:
    """The aiobotocore client of the gateway."""
    async with SESSION.create_client(
        "s3",
        endpoint_url=server.url,
        region_name=REGION,
        aws_access_key_id=s3_server.ACCESS_KEY,
        aws_secret_access_key=s3_server.SECRET_KEY,
        config=Config(signature_version="s3v4"),
    ) as client:
        yield client


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """Something that sends what it is told to, with an Origin."""
    async with aiohttp.ClientSession(headers={"Origin": ORIGIN}) as session:
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


async def test_the_signed_put_of_the_gateway(server, signer, browser):
    url = await signer.generate_presigned_url(
        "put_object",
        Params={
            "Bucket": "media",
            "Key": KEY,
            "Tagging": "file_id=1&a=%ED%95%9C",
            "ContentType": "video/mp4",
            "ContentLength": 5,
            "IfNoneMatch": "*",
        },
        ExpiresIn=60,
    )
    headers = {
        "Content-Type": "video/mp4",
        "x-amz-tagging": "file_id=1&a=%ED%95%9C",
        "If-None-Match": "*",
    }
    async with browser.put(
        URL(url, encoded=True), data=b"video", headers=headers
    ) as answer:
        assert 200 == answer.status
        assert ORIGIN == answer.headers["Access-Control-Allow-Origin"]
        assert "ETag" == answer.headers["Access-Control-Expose-Headers"]
        assert "Origin" in answer.headers["Vary"]
        assert f'"{hashlib.md5(b"video").hexdigest()}"' == answer.headers["ETag"]

    tags = await signer.get_object_tagging(Bucket="media", Key=KEY)
    assert {"file_id": "1", "a": "한"} == {
        one["Key"]: one["Value"] for one in tags["TagSet"]
    }
    assert [("ObjectCreated:Put", KEY)] == server.events.names_and_keys(1)


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


async def nothing_was_stored(server: Server, signer: Any) -> bool:
    """Whether there is no object, no temporary file and no event."""
    listed = await signer.list_objects_v2(Bucket="media")
    files = [name for name in server.files() if not name.endswith("bucket.json")]
    await signer.put_object(Bucket="media", Key="video/origin/later", Body=b"x")
    events = await asyncio.to_thread(server.events.names_and_keys, 1)
    expected = [("ObjectCreated:Put", "video/origin/later")]
    return (0, [], expected) == (listed["KeyCount"], files, events)


# CORS


async def preflight(
    browser: aiohttp.ClientSession, server: Server, origin: str, **asked: str
) -> tuple[int, dict[str, str]]:
    headers = {
        f"Access-Control-Request-{name.title()}": value for name, value in asked.items()
    }
    async with browser.options(
        f"{server.url}/media/{KEY}", headers=headers | {"Origin": origin}
    ) as answer:
        return answer.status, dict(answer.headers)


async def test_a_preflight_for_the_signed_put_is_allowed(server, browser):
    status, headers = await preflight(
        browser,
        server,
        ORIGIN,
        method="PUT",
        headers="content-type,if-none-match,x-amz-tagging",
    )

    assert 200 == status
    assert ORIGIN == headers["Access-Control-Allow-Origin"]
    assert "PUT" in headers["Access-Control-Allow-Methods"]
    assert (
        "content-type, if-none-match, x-amz-tagging"
        == headers["Access-Control-Allow-Headers"]
    )
    assert "3000" == headers["Access-Control-Max-Age"]
    assert "Origin" in headers["Vary"]


@pytest.mark.parametrize(
    ("origin", "method", "headers"),
    [
        ("https://evil.example.com", "PUT", "content-type"),
        (f"{ORIGIN}.evil.com", "PUT", "content-type"),
        (ORIGIN, "DELETE", "content-type"),
        (ORIGIN, "PUT", "content-type,x-amz-acl"),
    ],
)
async def test_a_preflight_outside_the_rules_is_refused(
    server, browser, origin, method, headers
):
    status, answer = await preflight(
        browser, server, origin, method=method, headers=headers
    )

    assert 403 == status
    assert not [name for name in answer if name.startswith("Access-Control-")]


async def test_a_refusal_can_be_read_by_the_page_too(server, browser):
    async with browser.put(f"{server.url}/media/{KEY}", data=b"x") as answer:
        assert 403 == answer.status
        assert ORIGIN == answer.headers["Access-Control-Allow-Origin"]


async def test_a_public_rule_does_not_name_the_origin(server, browser):
    async with browser.get(
        f"{server.url}/media/none", headers={"Origin": "https://any.example.com"}
    ) as answer:
        assert "*" == answer.headers["Access-Control-Allow-Origin"]
        assert "Access-Control-Allow-Credentials" not in answer.headers


# Events


def test_a_record_has_the_shape_of_the_samples(server):
    server.client().put_object(
        Bucket="media", Key="video/origin/여름 (1)+a.mp4", Body=b"video"
    )

    (event,) = server.events.first(1)

    (record,) = event["Records"]
    assert "2.6" == record["eventVersion"]
    assert REGION == record["awsRegion"]
    assert "127.0.0.1" == record["requestParameters"]["sourceIPAddress"]
    assert "origin-uploads" == record["s3"]["configurationId"]
    assert "arn:aws:s3:::media" == record["s3"]["bucket"]["arn"]
    stored = record["s3"]["object"]
    assert (
        "video/origin/%EC%97%AC%EB%A6%84+%281%29%2Ba.mp4",
        5,
        hashlib.md5(b"video").hexdigest(),
    ) == (stored["key"], stored["size"], stored["eTag"])
    assert "여름 (1)+a.mp4" in urllib.parse.unquote_plus(stored["key"])
    at = datetime.fromisoformat(record["eventTime"])
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)


def test_each_way_to_make_an_object_has_its_name_and_sequencers_grow(server):
    client = server.client()
    client.put_object(Bucket="media", Key="elsewhere", Body=b"x")
    client.put_object(Bucket="media", Key="video/origin/a", Body=b"x")
    source = {"Bucket": "media", "Key": "elsewhere"}
    client.copy_object(Bucket="media", Key="video/origin/b", CopySource=source)
    names = {"Bucket": "media", "Key": "video/origin/c"}
    upload = client.create_multipart_upload(**names)["UploadId"]
    etag = client.upload_part(**names, UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    client.complete_multipart_upload(
        **names,
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]},
    )

    assert [
        ("ObjectCreated:Put", "video/origin/a"),
        ("ObjectCreated:Copy", "video/origin/b"),
        ("ObjectCreated:CompleteMultipartUpload", "video/origin/c"),
    ] == server.events.names_and_keys(3)
    records = [event["Records"][0] for event in server.events.first(3)]
    sequencers = [record["s3"]["object"]["sequencer"] for record in records]
    assert sorted(set(sequencers)) == sequencers


def test_an_object_is_there_with_its_tags_when_its_event_comes(tmp_path):
    """moto announces an object before it has tags."""
    seen: list[Any] = []
    looked = threading.Event()

    def look(event: dict[str, Any]) -> None:
        threading.Thread(target=read_back, args=(event,)).start()

    def read_back(event: dict[str, Any]) -> None:
        key = event["Records"][0]["s3"]["object"]["key"]
        seen.append(client.get_object_tagging(Bucket="media", Key=key)["TagSet"])
        looked.set()

    with s3_server.serve(tmp_path, on_event=look) as server:
        client = server.client()
        set_up(server)
        client.put_object(Bucket="media", Key=KEY, Body=b"x", Tagging="file_id=1")
        assert looked.wait(s3_server.WAIT_S)

    assert [[{"Key": "file_id", "Value": "1"}]] == seen


def test_a_receiver_that_fails_does_not_fail_the_upload(tmp_path):
    def fail(_: dict[str, Any]) -> None:
        raise RuntimeError("no router")

    with s3_server.serve(tmp_path, on_event=fail) as server:
        set_up(server)
        client = server.client()
        for _ in range(2):
            put = client.put_object(Bucket="media", Key=KEY, Body=b"x")
            assert 200 == put["ResponseMetadata"]["HTTPStatusCode"]


def test_a_receiver_that_hangs_does_not_hold_the_response(tmp_path):
    answered = threading.Event()
    in_time: list[bool] = []

    def hang(_: dict[str, Any]) -> None:
        in_time.append(answered.wait(s3_server.WAIT_S / 2))

    with s3_server.serve(tmp_path, on_event=hang) as server:
        set_up(server)
        server.client().put_object(Bucket="media", Key=KEY, Body=b"x")
        answered.set()

    assert [True] == in_time


def test_event_bridge_gets_its_own_shape_with_the_key_as_it_is(server):
    client = server.client()
    client.put_bucket_notification_configuration(
        Bucket="media", NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    client.put_object(Bucket="media", Key="a+b 한.mp4", Body=b"x")

    (event,) = server.events.first(1)

    assert ("aws.s3", "Object Created") == (event["source"], event["detail-type"])
    assert "a+b 한.mp4" == event["detail"]["object"]["key"]
    assert "PutObject" == event["detail"]["reason"]


# Writers at the same time, and restarts


def test_of_many_writers_of_a_new_key_one_wins(server):
    barrier = threading.Barrier(8)
    refusals: list[str] = []

    client = server.client()

    def write(number: int) -> int | None:
        barrier.wait(s3_server.WAIT_S)
        try:
            client.put_object(
                Bucket="media", Key=KEY, Body=b"%d" % number, IfNoneMatch="*"
            )
        except ClientError as refusal:
            refusals.append(refusal.response["Error"]["Code"])
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [one for one in pool.map(write, range(8)) if one is not None]

    assert 1 == len(winners)
    assert ["PreconditionFailed"] * 7 == refusals
    body = server.client().get_object(Bucket="media", Key=KEY)["Body"].read()
    assert b"%d" % winners[0] == body
    assert [("ObjectCreated:Put", KEY)] == server.events.names_and_keys(1)


def test_if_match_replaces_only_what_was_seen(server):
    client = server.client()
    with pytest.raises(ClientError, match="NoSuchKey"):
        client.put_object(Bucket="media", Key="k", Body=b"x", IfMatch='"a"')
    etag = client.put_object(Bucket="media", Key="k", Body=b"one")["ETag"]
    client.put_object(Bucket="media", Key="k", Body=b"two", IfMatch=etag)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket="media", Key="k", Body=b"three", IfMatch=etag)

    assert b"two" == client.get_object(Bucket="media", Key="k")["Body"].read()


def test_both_conditions_at_once_are_none(server):
    both = {"IfMatch": '"a"', "IfNoneMatch": "*"}
    with pytest.raises(ClientError, match="NotImplemented"):
        server.client().put_object(Bucket="media", Key="k", Body=b"x", **both)


def test_a_multipart_upload_obeys_conditions_and_can_be_completed_after(server):
    client = server.client()
    names = {"Bucket": "media", "Key": "k"}
    upload = client.create_multipart_upload(**names)["UploadId"]
    etag = client.upload_part(**names, UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    client.put_object(**names, Body=b"first")
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    complete = {**names, "UploadId": upload, "MultipartUpload": parts}

    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.complete_multipart_upload(**complete, IfNoneMatch="*")
    client.complete_multipart_upload(**complete)
    with pytest.raises(ClientError, match="NoSuchUpload"):
        client.complete_multipart_upload(**complete)

    assert b"x" == client.get_object(**names)["Body"].read()


def test_parts_are_in_order_and_of_a_living_upload(server):
    client = server.client()
    names = {"Bucket": "media", "Key": "k"}
    upload = client.create_multipart_upload(**names)["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(
                **names, UploadId=upload, PartNumber=number, Body=b"x"
            )["ETag"],
        }
        for number in (1, 2)
    ]

    with pytest.raises(ClientError, match="InvalidPartOrder"):
        client.complete_multipart_upload(
            **names, UploadId=upload, MultipartUpload={"Parts": parts[::-1]}
        )
    with pytest.raises(ClientError, match="InvalidArgument"):
        client.upload_part(**names, UploadId=upload, PartNumber=10_001, Body=b"x")
    client.abort_multipart_upload(**names, UploadId=upload)
    with pytest.raises(ClientError, match="NoSuchUpload"):
        client.upload_part(**names, UploadId=upload, PartNumber=1, Body=b"x")

    assert [] == [name for name in server.files() if not name.endswith("bucket.json")]


def test_everything_is_there_after_a_restart(tmp_path):
    keys = ["한 +%2F.mp4", "\u1112\u1161\u11ab", "../up", "/lead", "a\nb"]
    parts = {"Bucket": "media", "Key": "parts"}
    with s3_server.serve(tmp_path) as server:
        set_up(server)
        client = server.client()
        for key in keys:
            client.put_object(
                Bucket="media",
                Key=key,
                Body=key.encode(),
                Tagging="a=1",
                Metadata={"m": "1"},
            )
        client.put_object(Bucket="media", Key="video/origin/1", Body=b"x")
        first = server.events.first(1)[0]
        upload = client.create_multipart_upload(**parts)["UploadId"]
        etag = client.upload_part(**parts, UploadId=upload, PartNumber=1, Body=b"x")[
            "ETag"
        ]
    (tmp_path / "media/incoming/left.tmp").write_bytes(b"by a killed process")
    (tmp_path / "media/objects/left.data").write_bytes(b"by a killed process")

    with s3_server.serve(tmp_path) as server:
        client = server.client()
        for key in keys:
            got = client.get_object(Bucket="media", Key=key)
            assert (key.encode(), {"m": "1"}) == (got["Body"].read(), got["Metadata"])
            tags = client.get_object_tagging(Bucket="media", Key=key)["TagSet"]
            assert [{"Key": "a", "Value": "1"}] == tags
        client.complete_multipart_upload(
            **parts,
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]},
        )
        client.put_object(Bucket="media", Key="video/origin/1", Body=b"x")
        second = server.events.first(1)[0]

        assert 2 == len(client.get_bucket_cors(Bucket="media")["CORSRules"])
        assert not [name for name in server.files() if "left" in name]
    one, two = (event["Records"][0]["s3"]["object"] for event in (first, second))
    assert one["sequencer"] < two["sequencer"]


# Bodies in signed chunks, which boto3 never sends over HTTP


def chunked(
    server: Server, pieces: list[bytes], *, trailer: bytes | None
) -> tuple[dict[str, str], bytes]:
    """Sign a body in chunks, written from the documentation and not from us."""
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    headers = {
        "x-amz-content-sha256": kind if trailer is None else f"{kind}-TRAILER",
        "x-amz-decoded-content-length": str(sum(map(len, pieces))),
        "content-encoding": "aws-chunked",
    }
    if trailer is not None:
        headers["x-amz-trailer"] = trailer.partition(b":")[0].decode()
    request = AWSRequest("PUT", f"{server.url}/media/k", headers=headers)
    request.context["payload_signing_enabled"] = True
    auth = S3SigV4Auth(
        Credentials(s3_server.ACCESS_KEY, s3_server.SECRET_KEY), "s3", REGION
    )
    auth.payload = lambda _: headers["x-amz-content-sha256"]
    auth.add_auth(request)
    signed = dict(request.headers)
    previous = signed["Authorization"].rpartition("=")[2]
    at = signed["X-Amz-Date"]
    scope = f"{at[:8]}/{REGION}/s3/aws4_request"
    key = f"AWS4{s3_server.SECRET_KEY}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    empty = hashlib.sha256(b"").hexdigest()
    body = b""
    for piece in [*pieces, b""]:
        digest = hashlib.sha256(piece).hexdigest()
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{at}\n{scope}\n{previous}\n{empty}\n{digest}"
        previous = hmac.digest(key, text.encode(), "sha256").hex()
        body += b"%x;chunk-signature=%s\r\n" % (len(piece), previous.encode())
        body += piece + (b"\r\n" if piece else b"")
    if trailer is not None:
        digest = hashlib.sha256(trailer + b"\n").hexdigest()
        text = f"AWS4-HMAC-SHA256-TRAILER\n{at}\n{scope}\n{previous}\n{digest}"
        previous = hmac.digest(key, text.encode(), "sha256").hex()
        body += trailer + b"\r\nx-amz-trailer-signature:%s\r\n" % previous.encode()
    return signed, body + b"\r\n"


def crc32(data: bytes) -> bytes:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big"))


PIECES = [b"a" * 65536, b"b" * 1024]
TRAILER = b"x-amz-checksum-crc32:" + crc32(b"".join(PIECES))


@pytest.mark.parametrize("trailer", [None, TRAILER])
async def test_a_body_in_signed_chunks_is_taken_apart(server, signer, browser, trailer):
    headers, body = chunked(server, PIECES, trailer=trailer)

    async with browser.put(
        f"{server.url}/media/k", data=body, headers=headers
    ) as answer:
        assert 200 == answer.status, await answer.text()

    got = await signer.get_object(Bucket="media", Key="k")
    assert b"".join(PIECES) == await got["Body"].read()
    assert "ContentEncoding" not in got


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"aaaa\r\n", b"aaab\r\n", "SignatureDoesNotMatch"),
        (b"10000;", b"0ffff;", "InvalidRequest"),
        (TRAILER, TRAILER[:-8] + b"AAAAAA==", "SignatureDoesNotMatch"),
        (b"x-amz-trailer-signature:", b"x-amz-trailer-other:", "SignatureDoesNotMatch"),
        (b"\r\n\r\n", b"\r\n", "IncompleteBody"),
    ],
)
async def test_a_chunk_or_trailer_that_was_changed_is_refused(
    server, signer, browser, old, new, code
):
    headers, body = chunked(server, PIECES, trailer=TRAILER)
    assert 1 == body.count(old)

    async with browser.put(
        f"{server.url}/media/k", data=body.replace(old, new), headers=headers
    ) as answer:
        refusal = ET.fromstring(await answer.text()).findtext("Code")

    assert code == refusal
    assert await nothing_was_stored(server, signer)


async def test_a_signed_trailer_with_a_wrong_checksum_is_refused(
    server, signer, browser
):
    wrong = b"x-amz-checksum-crc32:" + crc32(b"something else")
    headers, body = chunked(server, PIECES, trailer=wrong)

    async with browser.put(
        f"{server.url}/media/k", data=body, headers=headers
    ) as answer:
        refusal = ET.fromstring(await answer.text()).findtext("Code")

    assert "BadDigest" == refusal
    assert await nothing_was_stored(server, signer)


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
