"""
What the S3 stand-in has to refuse besides signatures, tried on it by plain HTTP:
strangers, policies, keys, headers, documents and bodies.
"""

import hashlib
import http.client
import json
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.integration.s3_by_hand import announcing, nothing_was_stored, send, sign
from tests.s3_server import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with announcing(tmp_path / "s3") as running:
        yield running


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
