"""
What the S3 stand-in has to refuse, tried on it by plain HTTP.

On the stand-in alone: moto verifies no signature, no expiry, no signed header and
no form policy, so it would let all of these through.
"""

import hashlib
import http.client
import json
import socket
import urllib.parse
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from tests import s3_server
from tests.s3_server import Server

HOUR = timedelta(hours=1)
UPLOAD = {
    "Bucket": "media",
    "Key": "video/origin/1.mp4",
    "ContentType": "video/mp4",
    "ContentLength": 5,
    "Tagging": "file_id=1",
    "IfNoneMatch": "*",
}
UPLOAD_HEADERS = {
    "Content-Type": "video/mp4",
    "Content-Length": "5",
    "x-amz-tagging": "file_id=1",
    "If-None-Match": "*",
}


@pytest.fixture
def server(tmp_path: Any) -> Iterator[Server]:
    """A stand-in with the bucket ``media``; it announces everything."""
    with s3_server.serve(tmp_path / "s3") as running:
        client = running.client()
        client.create_bucket(
            Bucket="media",
            CreateBucketConfiguration={"LocationConstraint": s3_server.REGION},
        )
        client.put_bucket_notification_configuration(
            Bucket="media",
            NotificationConfiguration={
                "LambdaFunctionConfigurations": [
                    {
                        "Id": "all",
                        "LambdaFunctionArn": "arn:aws:lambda:x:1:function:f",
                        "Events": ["s3:ObjectCreated:*"],
                    }
                ]
            },
        )
        yield running


def send(
    server: Server,
    method: str,
    url: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Send exactly this; return the status and the code of the refusal."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        parts = urllib.parse.urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.putrequest(
            method,
            target,
            skip_host="Host" in (headers or {}),
            skip_accept_encoding=True,
        )
        given = {"Content-Length": str(len(body))} if body else {}
        for name, value in (given | (headers or {})).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        content = response.read()
        code = ET.fromstring(content).findtext("Code", "") if content else ""
        return response.status, code
    finally:
        connection.close()


def presign(server: Server, operation: str = "put_object", **changes: Any) -> str:
    url: str = server.client().generate_presigned_url(
        operation, Params=UPLOAD | changes, ExpiresIn=60
    )
    return url


def nothing_was_stored(server: Server) -> bool:
    """Whether there is no object, no temporary file and no event."""
    client = server.client()
    listed = client.list_objects_v2(Bucket="media")["KeyCount"]
    files = [name for name in server.files() if not name.endswith("bucket.json")]
    client.put_object(Bucket="media", Key="later", Body=b"x")
    events = server.events.names_and_keys(1)
    return (0, [], [("ObjectCreated:Put", "later")]) == (listed, files, events)


def sign(
    server: Server, method: str, path: str, body: bytes = b"", **headers: str
) -> dict[str, str]:
    """Return the headers of a request signed the way botocore does."""
    request = AWSRequest(
        method=method,
        url=f"{server.url}{path}",
        data=body,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    keys = Credentials(s3_server.ACCESS_KEY, s3_server.SECRET_KEY)
    S3SigV4Auth(keys, "s3", s3_server.REGION).add_auth(request)
    return dict(request.headers)


def test_the_upload_as_it_was_signed_is_taken(server):
    assert (200, "") == send(server, "PUT", presign(server), b"video", UPLOAD_HEADERS)
    tags = server.client().get_object_tagging(Bucket="media", Key=UPLOAD["Key"])
    assert [{"Key": "file_id", "Value": "1"}] == tags["TagSet"]


@pytest.mark.parametrize("name", UPLOAD_HEADERS)
def test_a_signed_header_cannot_be_left_out(server, name):
    url = presign(server)
    headers = {key: value for key, value in UPLOAD_HEADERS.items() if key != name}
    body = b"" if name == "Content-Length" else b"video"

    assert (403, "SignatureDoesNotMatch") == send(server, "PUT", url, body, headers)
    assert nothing_was_stored(server)


@pytest.mark.parametrize(
    ("name", "value", "body"),
    [
        ("Content-Type", "text/html", b"video"),
        ("Content-Length", "6", b"longer"),
        ("Content-Length", "4", b"less"),
        ("x-amz-tagging", "file_id=2", b"video"),
        ("x-amz-tagging", "", b"video"),
        ("If-None-Match", '"other"', b"video"),
        ("Host", "other.example.com", b"video"),
    ],
)
def test_a_signed_header_cannot_be_changed(server, name, value, body):
    headers = UPLOAD_HEADERS | {name: value}

    outcome = send(server, "PUT", presign(server), body, headers)

    assert (403, "SignatureDoesNotMatch") == outcome
    assert nothing_was_stored(server)


@pytest.mark.parametrize("name", ["x-amz-acl", "x-amz-meta-a", "x-amz-copy-source"])
def test_a_header_that_was_not_signed_cannot_be_added(server, name):
    headers = UPLOAD_HEADERS | {name: "media/other"}

    outcome = send(server, "PUT", presign(server), b"video", headers)

    assert (403, "AccessDenied") == outcome
    assert nothing_was_stored(server)


def test_tags_cannot_be_added_to_an_upload_without(server):
    params = {"Bucket": "media", "Key": "k"}
    url = server.client().generate_presigned_url("put_object", Params=params)

    outcome = send(server, "PUT", url, b"x", {"x-amz-tagging": "file_id=1"})

    assert (403, "AccessDenied") == outcome


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/1.mp4?", "/2.mp4?"),
        ("/media/", "/other/"),
        ("X-Amz-Expires=60", "X-Amz-Expires=61"),
        ("X-Amz-SignedHeaders=content-length%3B", "X-Amz-SignedHeaders="),
        ("&X-Amz-Signature=", "&uploads=&X-Amz-Signature="),
        ("&X-Amz-Signature=", "&X-Amz-Signature=0"),
        (s3_server.ACCESS_KEY, s3_server.OTHER_ACCESS_KEY),
    ],
)
def test_a_changed_url_is_not_the_signed_one(server, old, new):
    url = presign(server)
    assert old in url

    outcome = send(server, "PUT", url.replace(old, new), b"video", UPLOAD_HEADERS)

    assert (403, "SignatureDoesNotMatch") == outcome
    assert nothing_was_stored(server)


def test_a_url_is_for_one_method(server):
    url = presign(server)

    outcome = send(server, "DELETE", url, b"video", UPLOAD_HEADERS)

    assert (403, "SignatureDoesNotMatch") == outcome


def test_an_unknown_key_signs_nothing(server):
    url = presign(server).replace(s3_server.ACCESS_KEY, "AKIDNOBODY")

    outcome = send(server, "PUT", url, b"video", UPLOAD_HEADERS)

    assert (403, "InvalidAccessKeyId") == outcome


def test_a_url_expires(server):
    url = presign(server)
    server.clock.offset = timedelta(seconds=62)

    outcome = send(server, "PUT", url, b"video", UPLOAD_HEADERS)

    assert (403, "AccessDenied") == outcome
    server.clock.offset = timedelta()
    assert nothing_was_stored(server)


def test_a_url_is_not_valid_before_its_time(server):
    url = presign(server)
    server.clock.offset = -HOUR

    outcome = send(server, "PUT", url, b"video", UPLOAD_HEADERS)

    assert (403, "AccessDenied") == outcome


def test_a_url_for_another_region_or_of_version_2_is_refused(server):
    params = {"Bucket": "media", "Key": "k"}
    elsewhere = server.client(region_name="eu-west-1").generate_presigned_url(
        "get_object", Params=params
    )
    version_2 = server.client(config=Config(signature_version="s3"))
    old = version_2.generate_presigned_url("get_object", Params=params)

    assert (400, "AuthorizationQueryParametersError") == send(server, "GET", elsewhere)
    assert (400, "InvalidRequest") == send(server, "GET", old)


@pytest.mark.parametrize("expires", ["0", "604801", "-1", "x", ""])
def test_the_life_of_a_url_is_bounded(server, expires):
    url = presign(server).replace("X-Amz-Expires=60", f"X-Amz-Expires={expires}")

    outcome = send(server, "PUT", url, b"video", UPLOAD_HEADERS)

    assert (400, "AuthorizationQueryParametersError") == outcome


def test_a_second_upload_with_the_same_url_is_refused(server):
    url = presign(server)
    first = send(server, "PUT", url, b"video", UPLOAD_HEADERS)
    second = send(server, "PUT", url, b"other", UPLOAD_HEADERS)

    assert [(200, ""), (412, "PreconditionFailed")] == [first, second]


def test_signed_headers_are_checked_in_header_auth_too(server):
    signed = sign(server, "PUT", "/media/k", b"video", x_amz_tagging="a=1")
    changed = signed | {"x-amz-tagging": "a=2"}
    added = signed | {"x-amz-meta-a": "1"}

    assert (200, "") == send(server, "PUT", "/media/k", b"video", signed)
    assert (403, "SignatureDoesNotMatch") == send(
        server, "PUT", "/media/k", b"video", changed
    )
    assert (403, "AccessDenied") == send(server, "PUT", "/media/k", b"video", added)
    assert (403, "SignatureDoesNotMatch") == send(
        server, "PUT", "/media/other", b"video", signed
    )


def test_a_body_that_was_not_signed_is_not_kept(server):
    signed = sign(server, "PUT", "/media/k", b"video")

    outcome = send(server, "PUT", "/media/k", b"other", signed)

    assert (400, "XAmzContentSHA256Mismatch") == outcome
    assert nothing_was_stored(server)


@pytest.mark.parametrize("offset", [timedelta(minutes=16), -timedelta(minutes=16)])
def test_clocks_may_differ_by_a_quarter_of_an_hour(server, offset):
    signed = sign(server, "GET", "/media")
    server.clock.offset = offset

    assert (403, "RequestTimeTooSkewed") == send(server, "GET", "/media", b"", signed)


@pytest.mark.parametrize(
    "authorization",
    [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, Credential=a, Signature=0",
    ],
)
def test_a_malformed_authorization_is_said_to_be_one(server, authorization):
    signed = sign(server, "GET", "/media") | {"Authorization": authorization}

    outcome = send(server, "GET", "/media", b"", signed)

    assert (400, "AuthorizationHeaderMalformed") == outcome


def test_two_kinds_of_signature_are_one_too_many(server):
    url = presign(server)
    signed = sign(server, "PUT", "/media/k", b"video")

    assert (400, "InvalidArgument") == send(server, "PUT", url, b"video", signed)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("PUT", "/bucket"),
        ("GET", "/media?list-type=2"),
        ("GET", "/media/k"),
        ("HEAD", "/media/k"),
        ("PUT", "/media/k"),
        ("PUT", "/media?policy"),
        ("DELETE", "/media/k"),
        ("POST", "/media/k?uploads"),
        ("GET", "/media/hls/none"),
        ("PUT", "/media/hls/k"),
        ("DELETE", "/media/hls/k"),
        ("GET", "/media/hls/k?tagging"),
        ("GET", "/media/hls/../k"),
        ("GET", "/media/hls/%2e%2e/k"),
    ],
)
def test_everybody_may_only_get_what_is_public(server, method, path):
    client = server.client()
    for key in ("k", "hls/k"):
        client.put_object(Bucket="media", Key=key, Body=b"x")
    client.put_bucket_policy(
        Bucket="media",
        Policy=json.dumps(
            {
                "Statement": {
                    "Effect": "Allow",
                    "Principal": {"AWS": "*"},
                    "Action": ["s3:GetObject"],
                    "Resource": "arn:aws:s3:::media/hls/*",
                }
            }
        ),
    )

    assert 403 == send(server, method, path)[0]
    assert 200 == http_get(server, "/media/hls/k")


def http_get(server: Server, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Principal": {"AWS": "arn:aws:iam::1:root"}}, "NotImplemented"),
        ({"Effect": "Deny"}, "NotImplemented"),
        ({"Effect": "Maybe"}, "MalformedPolicy"),
        ({"Action": "s3:*"}, "NotImplemented"),
        ({"Action": "s3:PutObject"}, "NotImplemented"),
        ({"Condition": {"Bool": {"aws:SecureTransport": "true"}}}, "NotImplemented"),
        ({"Resource": "arn:aws:s3:::other/*"}, "MalformedPolicy"),
        ({"Resource": "arn:aws:s3:::media-2/*"}, "MalformedPolicy"),
        ({"Resource": []}, "MalformedPolicy"),
    ],
)
def test_a_policy_that_would_not_hold_is_not_kept(server, change, code):
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::media/hls/*",
    }
    client = server.client()

    with pytest.raises(client.exceptions.ClientError) as refusal:
        client.put_bucket_policy(
            Bucket="media", Policy=json.dumps({"Statement": [statement | change]})
        )

    assert code == refusal.value.response["Error"]["Code"]
    with pytest.raises(client.exceptions.ClientError, match="NoSuchBucketPolicy"):
        client.get_bucket_policy(Bucket="media")


@pytest.mark.parametrize(
    "key",
    [
        "..",
        "../../../etc/passwd",
        "a/../../b",
        "/lead",
        "//two",
        "./a",
        "a//b/",
        "%2e%2e%2f",
        "a\\..\\b",
        "a\nb",
        "\x01\x7f",
        "x" * 1024,
        "media",
        "bucket.json",
    ],
)
def test_no_key_leaves_its_folder(server, tmp_path, key):
    before = sorted(tmp_path.rglob("*"))
    body = key.encode()
    quoted = urllib.parse.quote(key, safe="")
    path = f"/media/{quoted}"

    signed = sign(server, "PUT", path, body)
    assert (200, "") == send(server, "PUT", path, body, signed)

    client = server.client()
    assert [key] == [
        row["Key"] for row in client.list_objects_v2(Bucket="media")["Contents"]
    ]
    new = set(tmp_path.rglob("*")) - set(before)
    assert {tmp_path / "s3/media/objects"} == {path.parent for path in new}
    assert 2 == len(new)


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        (f"/media/{'x' * 1025}", (400, "KeyTooLongError")),
        ("/media/%ff", (400, "InvalidURI")),
        ("/media/k?%ff=1", (400, "InvalidURI")),
        ("/..", (400, "InvalidBucketName")),
        ("/Upper", (400, "InvalidBucketName")),
        ("/a%2fb", (400, "InvalidBucketName")),
        ("/127.0.0.1", (400, "InvalidBucketName")),
        ("/media/k?acl", (501, "NotImplemented")),
        ("/media/k?versionId=1", (501, "NotImplemented")),
        ("/media?versioning", (501, "NotImplemented")),
    ],
)
def test_names_and_sub_resources_that_are_none_are_refused(server, path, refusal):
    url, _, query = path.partition("?")
    signed = sign(server, "PUT", f"{url}?{query}" if query else url, b"x")

    assert refusal == send(server, "PUT", path, b"x", signed)


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("x_amz_acl", "public-read", "NotImplemented"),
        ("x_amz_server_side_encryption", "aws:kms", "NotImplemented"),
        ("If_None_Match", '"etag"', "NotImplemented"),
        ("x_amz_checksum_crc32c", "AAAAAA==", "NotImplemented"),
        ("x_amz_checksum_crc32", "AAAAAA==", "BadDigest"),
        ("Content_MD5", "AAAA", "InvalidDigest"),
        ("Content_MD5", "1B2M2Y8AsgTpgAmY7PhCfg==", "BadDigest"),
        ("x_amz_tagging", "a=1&a=2", "InvalidTag"),
        ("x_amz_tagging", "&".join(f"k{n}=1" for n in range(11)), "BadRequest"),
        ("x_amz_meta_a", "x" * 2049, "MetadataTooLarge"),
    ],
)
def test_a_header_that_cannot_be_honoured_is_refused(server, header, value, code):
    signed = sign(server, "PUT", "/media/k", b"x", **{header: value})

    assert code == send(server, "PUT", "/media/k", b"x", signed)[1]
    assert nothing_was_stored(server)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<CORSConfiguration",
        b"<Other/>",
        b"<CORSConfiguration/>",
        b"<CORSConfiguration><CORSRule><Strange/></CORSRule></CORSConfiguration>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><CORSConfiguration>&b;</CORSConfiguration>',
        "<CORSConfiguration/>".encode("utf-16"),
    ],
)
def test_a_document_that_is_none_is_refused(server, document):
    signed = sign(server, "PUT", "/media?cors", document) | {
        "Content-Length": str(len(document))
    }

    outcome = send(server, "PUT", "/media?cors", document, signed)

    assert (400, "MalformedXML") == outcome


def test_an_upload_of_no_length_is_refused(server):
    signed = sign(server, "PUT", "/media/k", b"")

    assert (411, "MissingContentLength") == send(server, "PUT", "/media/k", b"", signed)


def test_an_upload_that_says_it_is_too_large_is_refused_unread(server):
    size = (5 << 30) + 1
    signed = sign(server, "PUT", "/media/k", b"")
    head = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as peer:
        peer.sendall(
            f"PUT /media/k HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{head}"
            f"Content-Length: {size}\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        answer = http.client.HTTPResponse(peer, method="PUT")
        answer.begin()
        code = ET.fromstring(answer.read()).findtext("Code")

    assert (400, "EntityTooLarge") == (answer.status, code)
    assert nothing_was_stored(server)


@pytest.mark.parametrize("sent", [0, 1, 70_000, 3 << 20])
def test_an_upload_that_is_cut_off_leaves_nothing(server, sent):
    body = bytes(4 << 20)
    digest = hashlib.sha256(body).hexdigest()
    signed = sign(server, "PUT", "/media/k", body)
    assert digest == signed["X-Amz-Content-SHA256"]
    head = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as peer:
        peer.sendall(
            f"PUT /media/k HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{head}"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body[:sent]
        )
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(65536):
            continue

    assert nothing_was_stored(server)
