"""
Signed URLs and signed headers that the S3 stand-in has to refuse.

On the stand-in alone: moto verifies no signature, no expiry and no signed header,
so it would let all of these through.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from botocore.config import Config

from tests import s3_server
from tests.integration.s3_by_hand import (
    UPLOAD,
    UPLOAD_HEADERS,
    announcing,
    nothing_was_stored,
    presign,
    send,
    sign,
)
from tests.s3_server import Server

HOUR = timedelta(hours=1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with announcing(tmp_path / "s3") as running:
        yield running


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
