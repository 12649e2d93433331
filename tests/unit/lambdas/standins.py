"""What stands around the Lambdas in their tests: events, settings, a gateway."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from standardwebhooks import Webhook, WebhookVerificationError

VECTORS = Path(__file__).parents[2] / "vectors" / "aws"

FILE_ID = "01934c1e-8a11-7c42-9b7e-5d2f0c6a9e10"
OTHER_ID = "01934c1e-0000-7000-8000-000000000001"
JOB_ID = "1763769600123-k3p9xd"
BUCKET = "example-media"
KEY = f"video/origin/{FILE_ID}.mp4"
MASTER = f"s3://{BUCKET}/video/hls/{FILE_ID}/master.m3u8"
SECRET = "whsec_bWFkZS11cC1zZWNyZXQtZm9yLXRlc3RzLTAwMDE="

AWS = {
    "AWS_ACCESS_KEY_ID": "made-up",
    "AWS_SECRET_ACCESS_KEY": "made-up",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
}

SETTINGS = {
    "GATEWAY_URL": "http://127.0.0.1:1",
    "INGEST_SECRET": SECRET,
    "MEDIACONVERT_ROLE_ARN": "arn:aws:iam::111122223333:role/MediaConvertRole",
}

MASTER_PLAYLIST = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-STREAM-INF:BANDWIDTH=5605600,AVERAGE-BANDWIDTH=4644618,CODECS="avc1.4d4028,mp4a.40.2",RESOLUTION=1920x1080,FRAME-RATE=29.970
master_1080.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=3405600,AVERAGE-BANDWIDTH=2444618,CODECS="avc1.4d401f,mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=29.970
master_720.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1605600,AVERAGE-BANDWIDTH=1144618,CODECS="avc1.4d401e,mp4a.40.2",RESOLUTION=854x480,FRAME-RATE=29.970
master_480.m3u8
"""


def vector(name: str) -> Any:
    """One of the event shapes, fresh."""
    return json.loads((VECTORS / f"{name}.json").read_text())


def put_event(key: str = KEY, **thing: Any) -> dict[str, Any]:
    """A bucket notification about one object, its key encoded as S3 does."""
    event = vector("s3-01-put")
    event["Records"][0]["s3"]["object"].update(
        {"key": quote_plus(key, safe="/"), **thing}
    )
    return event


def eventbridge_event(key: str = KEY) -> dict[str, Any]:
    """The same upload by way of EventBridge, where keys are not encoded."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2025-11-22T00:00:00Z",
        "region": "ap-northeast-2",
        "resources": [f"arn:aws:s3:::{BUCKET}"],
        "detail": {
            "version": "0",
            "bucket": {"name": BUCKET},
            "object": {
                "key": key,
                "size": 10485760,
                "etag": "d41d8cd98f00b204e9800998ecf8427e",
                "sequencer": "0055AED6DCD90281E5",
            },
            "request-id": "EXAMPLE123456789",
            "requester": "111122223333",
            "source-ip-address": "203.0.113.7",
            "reason": "PutObject",
        },
    }


def in_sqs(*events: object) -> dict[str, Any]:
    """Events as an SQS batch."""
    return {
        "Records": [
            {
                "messageId": str(number),
                "eventSource": "aws:sqs",
                "body": json.dumps(event),
            }
            for number, event in enumerate(events)
        ]
    }


def in_sns(event: object) -> dict[str, Any]:
    """An event as SNS hands it to a function."""
    return {
        "Records": [
            {
                "EventSource": "aws:sns",
                "EventVersion": "1.0",
                "Sns": {"Type": "Notification", "Message": json.dumps(event)},
            }
        ]
    }


def as_sns_text(event: object) -> dict[str, Any]:
    """An event as SNS writes it into a queue."""
    return {"Type": "Notification", "MessageId": "1", "Message": json.dumps(event)}


class Invocation:
    """What AWS passes as the context, as far as it is read."""

    def __init__(self, aws_request_id: str = "invocation-1"):
        self.aws_request_id = aws_request_id


@dataclass
class RecordingGateway:
    """Takes every post, keeps it, and answers with one outcome."""

    posts: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    outcome: str = "applied"

    def report(self, file_id, cause, report):
        self.posts.append((file_id, cause, dict(report)))
        return self.outcome

    def manifest(self, file_id, cause, manifest):
        self.posts.append((file_id, cause, {"type": "manifest", **manifest}))

    @property
    def types(self) -> list[str]:
        return [post["type"] for _, _, post in self.posts]


@dataclass(frozen=True)
class Post:
    path: str
    webhook_id: str
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class StandInGateway:
    """
    A real HTTP server that checks what the gateway promises to check.

    Attributes:
        script: Statuses to answer with before the ordinary answers begin.
        location: Where an answer of the script redirects to.
        page: What is answered, whatever the status, in place of a gateway's words.
    """

    url: str = ""
    posts: list[Post] = field(default_factory=list)
    script: list[int] = field(default_factory=list)
    location: str = ""
    page: str = ""
    seen: dict[str, bytes] = field(default_factory=dict)

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> int:
        try:
            Webhook(SECRET).verify(body, headers)
        except WebhookVerificationError:
            return 401
        post = Post(path, headers["webhook-id"], body)
        self.posts.append(post)
        if self.script:
            return self.script.pop(0)
        if self.seen.setdefault(post.webhook_id, body) != body:
            return 422
        return 200

    @property
    def types(self) -> list[str]:
        return [
            "manifest" if post.path.endswith("/manifest") else post.content["type"]
            for post in self.posts
        ]


@contextmanager
def gateway_server() -> Iterator[StandInGateway]:
    """A gateway on a free port of the loopback."""
    gateway = StandInGateway()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = gateway.answer(self.path, headers, body)
            said = gateway.page or json.dumps({"outcome": "applied", "seq": 2})
            text = said.encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", gateway.location)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    gateway.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        thread.join(timeout=5)
        server.server_close()
