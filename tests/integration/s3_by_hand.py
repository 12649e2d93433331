"""Requests of S3 by plain HTTP, exactly as a test writes them."""

import http.client
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests import s3_server
from tests.s3_server import Server

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


@contextmanager
def announcing(folder: Path) -> Iterator[Server]:
    """A stand-in with the bucket ``media``; it announces everything."""
    with s3_server.serve(folder) as running:
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
