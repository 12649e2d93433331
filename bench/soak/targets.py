"""
What is fuzzed: functions that take any bytes and raise when a promise is broken.

Each knows the errors its code raises on purpose; anything else that comes out
is a find, and so is an answer that contradicts an oracle.
"""

import base64
import hmac
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import jwt
import msgspec

from bench.soak.front import front
from gateway.auth import SIGNATURE_TOLERANCE_S, Signatures, WatchTokens
from gateway.errors import InvalidError, UnauthorizedError
from gateway.model import FileId
from gateway.protocol import cursor, manifest, problem, registration, report, sse
from gateway.protocol.http import BadRequestError, Request, parse_head
from gateway.protocol.sse_parser import SseParser
from lambdas.errors import LambdaError, PlaylistError
from lambdas.gateway import body_of
from lambdas.hls_file_manifest_saver import Saver
from lambdas.job_events import job_event
from lambdas.manifest import with_variants
from lambdas.playlist import parse_master
from lambdas.reports import is_file_id
from lambdas.uploads import uploads_in

FILE = FileId("0199a3c4-5b6d-7e8f-9a0b-1c2d3e4f5a6b")
OUTPUTS = manifest.Outputs("media", "video/hls/", "https://play.example/")
FOLDER = f"s3://media/video/hls/{FILE}"
KEY = b"k" * 24
SECRET = "s" * 32
NOW_S = 1_800_000_000

_SIGN_IT = b"!"
_WEBHOOK_ID = re.compile(r"[\x21-\x7e]{1,200}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_LINE = re.compile(r"line ([0-9]+): .+", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKENS = WatchTokens((SECRET,))
_SIGNATURES = Signatures((KEY,), clock=lambda: NOW_S)
_MANIFEST: dict[str, Any] = {
    "job_id": "j-1",
    "occurred_at": "2026-01-02T03:04:05Z",
    "attempt": 1,
    "master_playlist": f"{FOLDER}/master.m3u8",
    "duration_ms": 30500,
}
_MASTER = (
    "#EXTM3U\n#EXT-X-VERSION:3\n"
    "#EXT-X-STREAM-INF:BANDWIDTH=5605600,AVERAGE-BANDWIDTH=4644618,"
    'CODECS="avc1.4d4028,mp4a.40.2",RESOLUTION=1920x1080,FRAME-RATE=29.970\n'
    "master_1080.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1\r\nv.m3u8\r\n"
)


def read_cursor(raw: bytes) -> None:
    """Any bytes are a seq, missing, or unknown, wherever a cursor may stand."""
    text = raw.decode("latin-1")
    for found in (cursor.parse(text), cursor.from_etag(text)):
        promise(found in {cursor.CURRENT, cursor.UNKNOWN} or 0 <= found < 10**9)
    seq = cursor.parse(text)
    if seq >= 0:
        promise(text.isascii() and text.isdigit() and int(text) == seq)
        promise(cursor.from_etag(cursor.etag(seq)) == seq)
    query = text.replace(" ", "+").replace("#", "")
    for request in (
        Request("GET", f"/x?after={query}", {"last-event-id": text}),
        Request("GET", f"/x?lastEventId={query}&last_event_id={query}", {}),
    ):
        with suppress(InvalidError):
            found = cursor.from_request(request)
            promise(found in {cursor.CURRENT, cursor.UNKNOWN} or 0 <= found < 10**9)
    with suppress(BadRequestError):
        head = b"GET /x HTTP/1.1\r\nHost: h\r\nLast-Event-ID: " + raw + b"\r\n\r\n"
        with suppress(InvalidError):
            cursor.from_request(parse_head(head))


def read_signature(raw: bytes) -> None:
    """Nothing is accepted but what the key signed, in its time; nor any token."""
    signs, said = raw.startswith(_SIGN_IT), raw.removeprefix(_SIGN_IT)
    webhook_id, timestamp, signatures, body = [*said.split(b"\n", 3), b"", b"", b""][:4]
    content = webhook_id + b"." + timestamp + b"." + body
    right = b"v1," + base64.b64encode(hmac.digest(KEY, content, "sha256"))
    if signs:
        signatures = right
    headers = {
        "webhook-id": webhook_id.decode("latin-1"),
        "webhook-timestamp": timestamp.decode("latin-1"),
        "webhook-signature": signatures.decode("latin-1"),
    }
    in_time = (
        _TIMESTAMP.fullmatch(headers["webhook-timestamp"]) is not None
        and abs(NOW_S - int(timestamp)) <= SIGNATURE_TOLERANCE_S
    )
    genuine = (
        _WEBHOOK_ID.fullmatch(headers["webhook-id"]) is not None
        and in_time
        and right in signatures.split()[:16]
    )
    try:
        accepted = bool(_SIGNATURES.verify(headers, body))
    except (UnauthorizedError, InvalidError):
        accepted = False
    promise(accepted == genuine, f"accepted {accepted}, genuine {genuine}")
    _read_token(said.decode("latin-1"))
    if signs:
        head = _base64url(b'{"alg":"HS256","typ":"JWT"}')
        unsigned = head + b"." + _base64url(said)
        signature = _base64url(hmac.digest(SECRET.encode(), unsigned, "sha256"))
        _read_token((unsigned + b"." + signature).decode())


def _read_token(token: str) -> None:
    try:
        viewer = _TOKENS.read(token)
    except UnauthorizedError:
        return
    promise(not viewer.everything)
    promise(viewer.expires_at is not None and viewer.expires_at > time.time() - 5)
    jwt.decode(token, SECRET, algorithms=["HS256"], audience="reelready", leeway=60)


def read_manifest(raw: bytes) -> None:
    """Any body is a report, a manifest, a registration, or names its fault."""
    kind, said = raw[:1], raw[1:]
    try:
        if kind == b"m":
            _check_playback(manifest.decode(said, FILE, OUTPUTS).playback)
        elif kind == b"r":
            found = report.decode(said)
            promise(found.occurred_at.utcoffset() is not None)
        else:
            new = registration.decode(said, max_upload_bytes=10**9)
            promise(not _CONTROL.search(new.name + (new.owner or "")))
            promise(
                re.fullmatch(r"(\.[a-z0-9]{1,8})?", registration.extension(new.name))
            )
    except InvalidError as error:
        promise(bool(error.field))
        json.loads(problem.of(error, 422))


def _check_playback(playback: Any) -> None:
    """Whatever plays is in the file's own place."""
    own = f"/video/hls/{FILE}/"
    for url in (playback.hls_url, *(one.url for one in playback.renditions)):
        if url is not None:
            parts = urlsplit(url)
            promise((parts.scheme, parts.netloc) == ("https", "play.example"))
            promise(parts.path.startswith(own) and parts.path.endswith(".m3u8"))
            promise(".." not in unquote(unquote(parts.path)).split("/"))
            promise(not (parts.query or parts.fragment or _CONTROL.search(url)))


def read_playlist(raw: bytes) -> None:
    """Any text is a playlist whose manifest is one, or the line is named."""
    text = raw.decode(errors="replace")
    try:
        variants = parse_master(text)
    except PlaylistError as error:
        named = _LINE.fullmatch(str(error))
        promise(named is not None and int(named[1]) == error.line)
        promise(1 <= error.line <= 1 + text.count("\n"))
        return
    empty: Any = {**_MANIFEST, "renditions": []}
    body = json.dumps(with_variants(empty, variants)).encode()
    with suppress(InvalidError):
        _check_playback(manifest.decode(body, FILE, OUTPUTS).playback)


def read_event(raw: bytes) -> None:
    """Any event is uploads, or posts the gateway can read, or an error of ours."""
    try:
        event = json.loads(raw[1:])
    except (ValueError, RecursionError):
        return
    if raw[:1] == b"s":
        uploads, problems = uploads_in(event)
        promise(all(isinstance(one, LambdaError) for one in problems))
        for upload in uploads:
            promise(re.fullmatch("s3-[0-9a-f]{32}", upload.cause))
            promise(upload.uri.startswith(f"s3://{upload.bucket}/"))
            promise(upload.occurred_at.endswith("Z"))
        return
    with suppress(LambdaError):
        job = job_event(event)
        if job is not None:
            posts = _Posts()
            gateway: Any = posts
            Saver(gateway, "video/hls/", _Playlists()).save(job)
            promise(posts.count <= 1)


class _Posts:
    """The gateway of a Lambda: reads what is posted, as bytes."""

    def __init__(self) -> None:
        self.count = 0

    def report(self, file_id: str, cause: str, said: Mapping[str, object]) -> None:
        self._take(file_id, cause)
        with suppress(InvalidError):
            report.decode(body_of(said))

    def manifest(self, file_id: str, cause: str, said: Mapping[str, object]) -> None:
        self._take(file_id, cause)
        with suppress(InvalidError):
            manifest.decode(body_of(said), FileId(file_id), OUTPUTS)

    def _take(self, file_id: str, cause: str) -> None:
        self.count += 1
        promise(is_file_id(file_id))
        promise(_WEBHOOK_ID.fullmatch(f"{cause}-0123456789abcdef"), f"cause {cause!r}")


class _Playlists:
    """An S3 where every object is the same playlist."""

    def get_object(self, **_: str) -> dict[str, Any]:
        return {"Body": _Body()}


class _Body:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, _: int) -> bytes:
        return _MASTER.encode()


def read_requests(raw: bytes) -> None:
    """Where bytes are cut never changes which requests are served, and how."""
    whole = front([raw])
    promise(b"HTTP/1.1 500" not in whole.written)
    cuts = sorted({(len(raw) * part // 7 + part) % (len(raw) + 1) for part in range(7)})
    edges = zip([0, *cuts], [*cuts, len(raw)], strict=True)
    pieces = front([raw[low:high] for low, high in edges])
    promise(whole == pieces, f"{whole} is not {pieces}")
    if len(raw) < 200:
        promise(whole == front([raw[at : at + 1] for at in range(len(raw))]))


def read_frames(raw: bytes) -> None:
    """Any text comes back as it was, in one event; cuts change nothing (H9)."""
    text, seq = raw.decode(errors="replace"), len(raw)
    data = msgspec.json.encode({"name": text})
    frame = sse.hello(2000) + sse.event(seq, data) + sse.HEARTBEAT + sse.bye("age")
    event, *others = SseParser().feed(frame)
    promise(json.loads(event.data) == {"name": text})
    promise((event.type, event.last_event_id) == ("message", str(seq)))
    promise([one.type for one in others] == ["hb", "bye"])
    for stream in (frame, raw):
        whole, pieces = SseParser(), SseParser()
        at = len(stream) // 2
        cut = pieces.feed(stream[:at]) + pieces.feed(stream[at:])
        promise(whole.feed(stream) == cut)
        promise(
            (whole.last_event_id, whole.retry_ms)
            == (pieces.last_event_id, pieces.retry_ms)
        )


def promise(holds: object, what: str = "") -> None:
    """Raise unless it holds; `assert` may be switched off."""
    if not holds:
        raise BrokenPromiseError(what)


class BrokenPromiseError(Exception):
    """What was fuzzed did something that it promises not to do."""


def _base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _seed(kind: bytes, said: object) -> bytes:
    return kind + json.dumps(said).encode()


_REPORT = {"type": "progress", "occurred_at": "2026-01-02T03:04:05Z", "percent": 4}
_JOB: dict[str, Any] = {
    "id": "e-1",
    "source": "aws.mediaconvert",
    "time": "2026-01-02T03:04:05Z",
    "detail": {
        "jobId": "j-1",
        "status": "COMPLETE",
        "timestamp": 1_767_323_045_000,
        "userMetadata": {"file_id": FILE, "attempt": "1", "bucket": "media"},
        "errorCode": 1010,
        "errorMessage": "no",
        "jobProgress": {"currentPhase": "PROBING", "jobPercentComplete": 4},
        "outputGroupDetails": [
            {
                "type": "HLS_GROUP",
                "playlistFilePaths": [f"{FOLDER}/master.m3u8"],
                "outputDetails": [
                    {
                        "outputFilePaths": [f"{FOLDER}/master_1080.m3u8"],
                        "durationInMs": 30500,
                        "videoDetails": {"widthInPx": 1920, "heightInPx": 1080},
                    }
                ],
            }
        ],
    },
}
_RECORD = {
    "eventSource": "aws:s3",
    "eventName": "ObjectCreated:Put",
    "eventTime": "2026-01-02T03:04:05.678Z",
    "s3": {
        "bucket": {"name": "media"},
        "object": {"key": f"video/origin/{FILE}.mp4", "size": 1, "sequencer": "0A"},
    },
}
_BRIDGE = {
    "source": "aws.s3",
    "detail-type": "Object Created",
    "time": "2026-01-02T03:04:05Z",
    "detail": {"bucket": {"name": "media"}, "object": {"key": "a+b", "etag": "e"}},
}
_GET = b"GET /v1/files/f-1?after=1&wait=5 HTTP/1.1\r\nHost: h\r\n\r\n"
_POST = b"POST /v1/files/f-1/reports HTTP/1.1\r\nHost: h\r\n"

TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "cursor": (read_cursor, [b"4", b'W/"4", "5"', b"-1", b"%34", b"\xd9\xa3"]),
    "signature": (
        read_signature,
        [
            b"!w-1\n%d\n\n{}" % NOW_S,
            b"!w-1\n%d\nv1,AAAA v1a,BBBB\n{}" % (NOW_S - 301),
            b'!{"aud":"reelready","exp":9999999999,"files":["f-1"],"owner":"u"}',
            b'!{"aud":["x","reelready"],"exp":9e9,"nbf":1,"files":null}',
            b"w-1\n%d\nv1,AAAA\n{}" % NOW_S,
            b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.AAAA",
        ],
    ),
    "manifest": (
        read_manifest,
        [
            _seed(
                b"m",
                {**_MANIFEST, "renditions": [{"playlist": f"{FOLDER}/a_480.m3u8"}]},
            ),
            _seed(b"r", _REPORT),
            _seed(b"r", {**_REPORT, "type": "failed", "error": {"message": "no"}}),
            _seed(
                b"f",
                {"name": "a.mp4", "content_type": "video/mp4", "size": 1, "owner": "u"},
            ),
        ],
    ),
    "frames": (
        read_frames,
        [
            b"a.mp4",
            b"a\r\nid: 9\r\n\r\ndata: b",
            b"\xef\xbb\xbfid: 1\ndata: a\n\n",
            b"event: x\rdata:a\r\rid: 7\0\n\n",
            "휴가\u2028\u2029\x85".encode(),
        ],
    ),
    "playlist": (read_playlist, [_MASTER.encode(), b"#EXTM3U\n"]),
    "event": (
        read_event,
        [
            _seed(b"s", {"Records": [_RECORD]}),
            _seed(b"s", _BRIDGE),
            _seed(b"s", {**_BRIDGE, "time": "0001-01-01T00:00:00+14:00"}),
            _seed(b"s", {"Type": "Notification", "Message": json.dumps(_BRIDGE)}),
            _seed(
                b"s",
                {"Records": [{"eventSource": "aws:sqs", "body": json.dumps(_BRIDGE)}]},
            ),
            _seed(b"j", _JOB),
            _seed(b"j", _JOB).replace(b"COMPLETE", b"ERROR"),
            _seed(b"j", _JOB).replace(b"COMPLETE", b"STATUS_UPDATE"),
            _seed(b"j", _JOB).replace(b"COMPLETE", b"ERROR").replace(b"no", b"\\ud800"),
            _seed(b"j", {**_JOB, "detail": {**_JOB["detail"], "timestamp": 1e300}}),
        ],
    ),
    "requests": (
        read_requests,
        [
            _GET,
            _GET * 2,
            _GET.replace(b"?", b"/events?").replace(
                b"\r\n\r\n", b"\r\nCookie: a\r\n\r\n"
            ),
            b"GET /v1/events?file=f-1&file=f-2 HTTP/1.0\r\n\r\n",
            _POST + b"Content-Length: 2\r\n\r\n{}" + _GET,
            _POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + _GET,
            _POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
            b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" + _POST + b"\r\n",
            _GET.replace(b"GET", b"OPTIONS").replace(
                b"Host", b"Access-Control-Request-Method: GET\r\nHost"
            ),
        ],
    ),
}
"""What is fuzzed by name, and what it is begun with."""
