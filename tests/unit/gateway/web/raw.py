"""Requests as bytes, and answers taken apart."""

import base64
import re
import time
from datetime import UTC, datetime

from standardwebhooks import Webhook

from tests.unit.gateway.web.in_memory import API_KEY, INGEST_KEY

BODY = b'{"type": "uploaded", "occurred_at": "2026-01-02T03:04:05Z"}'
PATH = "/v1/files/f-1"
KEY = f"Host: h\r\nAuthorization: Bearer {API_KEY}\r\n"
SSE = "Accept: text/event-stream\r\n"


def get(target=PATH, headers="", method="GET"):
    return f"{method} {target} HTTP/1.1\r\n{KEY}{headers}\r\n".encode()


def post(*, chunked=False):
    moment = datetime.fromtimestamp(int(time.time()), UTC)
    hook = Webhook("whsec_" + base64.b64encode(INGEST_KEY).decode())
    signed = (
        f"webhook-id: w\r\nwebhook-timestamp: {int(moment.timestamp())}\r\n"
        f"webhook-signature: {hook.sign('w', moment, BODY.decode())}\r\n"
    )
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(BODY)}"
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) if chunked else BODY
    return get(f"{PATH}/reports", f"{signed}{length}\r\n", "POST") + framed


def statuses(written):
    """Take a row of answers apart, to the last byte."""
    seen = []
    while written:
        head, blank, written = written.partition(b"\r\n\r\n")
        assert blank, head
        match = re.match(rb"HTTP/1\.1 (\d{3}) [A-Z]", head)
        assert match, head
        seen.append(int(match[1]))
        if b"text/event-stream" in head:
            break
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        size = int(length[1]) if length else 0
        assert len(written) >= size
        written = written[size:]
    return seen
