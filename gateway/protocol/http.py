"""
HTTP/1.1 heads in and out: bytes and values, no I/O.

llhttp (through httptools) reads the head strictly, as it does inside aiohttp;
where a request ends is decided here, so that what follows it in the same bytes
stays untouched.

Source: RFC 9112.
"""

import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qs, unquote

import httptools

from gateway.errors import InvalidError

MAX_HEAD_BYTES = 16 * 1024

END_OF_HEAD = b"\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

MAX_QUERY_FIELDS = 200

_CHUNKED_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
_AUTHORITY = re.compile(r"https?://[^/?#]*", re.ASCII | re.IGNORECASE)
_ENCODED_SLASH = re.compile("%2f", re.ASCII | re.IGNORECASE)
_KNOWN_NAMES = {
    form.encode(): name
    for name in (
        "accept",
        "accept-encoding",
        "accept-language",
        "authorization",
        "cache-control",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "host",
        "last-event-id",
        "origin",
        "referer",
        "user-agent",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    )
    for form in (name, name.title())
}
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class BadRequestError(ValueError):
    """The bytes are not a request we accept; the connection must end."""


class Request:
    """
    One request, whichever way it came in.

    Attributes:
        path: Decoded but for slashes, without the query.
        headers: Names in lower case; repeated ones joined by commas.
        remote: The client's address, as far as anybody wants to know it.
        in_reserve: Whether its connection is one of the last that can be opened:
            it is answered, and must not wait.
        keep_alive: Whether the connection may go on after the answer.
    """

    __slots__ = (
        "_query",
        "_raw_query",
        "body",
        "headers",
        "in_reserve",
        "keep_alive",
        "method",
        "path",
        "remote",
    )

    def __init__(self, method: str, target: str, headers: dict[str, str]) -> None:
        raw_path, _, self._raw_query = target.partition("?")
        self._query: dict[str, list[str]] | None = None
        self.method = method
        self.path = raw_path
        if "%" in raw_path:
            # An encoded slash is data, not the end of a segment.
            self.path = unquote(_ENCODED_SLASH.sub("%252F", raw_path))
        self.headers = headers
        self.body = b""
        self.remote = ""
        self.in_reserve = False
        self.keep_alive = True

    def arguments(self, name: str) -> list[str]:
        """
        Every value of one query parameter.

        Raises:
            InvalidError: There are more than `MAX_QUERY_FIELDS`.
        """
        if not self._raw_query:
            return []
        if self._query is None:
            if self._raw_query.count("&") >= MAX_QUERY_FIELDS:
                raise InvalidError("query", f"has over {MAX_QUERY_FIELDS} fields")
            self._query = parse_qs(self._raw_query, keep_blank_values=True)
        return self._query.get(name, [])

    def argument(self, name: str) -> str | None:
        """The first value of one query parameter."""
        values = self.arguments(name)
        return values[0] if values else None

    def cookie(self, name: str) -> str | None:
        """
        One cookie; the first of that name.

        Not by `http.cookies`, which before Python 3.11.10 takes seconds for a
        quoted value of many backslashes (CVE-2024-7592).

        Source: RFC 6265, 4.2.1.
        """
        for pair in self.headers.get("cookie", "").split(";"):
            label, equals, value = pair.partition("=")
            if equals and label.strip() == name:
                value = value.strip()
                quoted = len(value) > 1 and value[0] == value[-1] == '"'
                return value[1:-1] if quoted else value
        return None


class _Head:
    """What llhttp calls while it reads a head."""

    __slots__ = ("ends", "headers", "target")

    def __init__(self) -> None:
        self.ends = 0
        self.target = b""
        self.headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self.target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = _KNOWN_NAMES.get(name) or name.decode("latin-1").lower()
        text = value.decode("latin-1").rstrip()
        if key in self.headers:
            between = "; " if key == "cookie" else ","
            text = f"{self.headers[key]}{between}{text}"
        self.headers[key] = text

    def on_headers_complete(self) -> None:
        self.ends += 1

    def on_body(self, _: bytes) -> None:
        self.ends += 1


def parse_head(raw: bytes) -> Request:
    """
    Read one request head, blank line included.

    An offer to upgrade is not taken (RFC 9110 section 7.8).

    Raises:
        BadRequestError: It is not strict HTTP/1.1 or HTTP/1.0, or is not one
            we can place: no or several lengths, no or several hosts.
    """
    head = _Head()
    parser = httptools.HttpRequestParser(head)
    try:
        with suppress(httptools.HttpParserUpgrade):
            parser.feed_data(raw)
        target = head.target.decode("ascii")
    except (httptools.HttpParserError, UnicodeDecodeError) as error:
        raise BadRequestError(str(error)) from None
    version = parser.get_http_version()
    if head.ends != 1 or version not in {"1.0", "1.1"}:
        raise BadRequestError("this is not the head of one HTTP/1 request")
    if version == "1.1" and "," in head.headers.get("host", ","):
        raise BadRequestError("exactly one Host is required")
    if version == "1.0":
        # RFC 9110 section 10.1.1: an expectation of such a client is ignored.
        head.headers.pop("expect", None)
    if not target.startswith("/"):
        target = _AUTHORITY.sub("", target, count=1)
    request = Request(parser.get_method().decode("ascii"), target, head.headers)
    # llhttp forgets what was said once a message without a body is complete.
    request.keep_alive = version == "1.1" and not _closes(head.headers)
    return request


def _closes(headers: Mapping[str, str]) -> bool:
    options = headers.get("connection")
    return options is not None and "close" in {
        option.strip().lower() for option in options.split(",")
    }


def is_chunked(headers: Mapping[str, str]) -> bool:
    """
    Tell whether the body comes in chunks.

    Raises:
        BadRequestError: It comes in a coding we do not know.
    """
    coding = headers.get("transfer-encoding")
    if coding is not None and coding.lower() != "chunked":
        raise BadRequestError("the only Transfer-Encoding taken is chunked")
    return coding is not None


def content_length(headers: Mapping[str, str]) -> int:
    """
    Read how long the body is.

    Raises:
        BadRequestError: The length is not one plain number.
    """
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 19):  # noqa: PLR2004 - a 64-bit number
        raise BadRequestError("Content-Length is not a number")
    return int(text)


class ChunkedBody:
    """
    Collects a chunked body (RFC 9112 section 7.1).

    Attributes:
        complete: Whether the last chunk came; whatever follows is ignored.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.complete = False
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_CHUNKED_HEAD)

    def feed(self, data: bytes | bytearray) -> None:
        """
        Take bytes.

        Raises:
            BadRequestError: They are not chunks.
        """
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise BadRequestError(str(error)) from None

    def on_body(self, part: bytes) -> None:
        """Keep one part; called by the parser."""
        if not self.complete:
            self.received += part

    def on_message_complete(self) -> None:
        """Know the end; called by the parser."""
        self.complete = True


def field_lines(headers: Iterable[tuple[str, str]]) -> str:
    """Write header fields, each with its line end."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers])


def encode_head(status: int, lines: str) -> bytes:
    """Write a response head, blank line included, around `field_lines`."""
    return (
        f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\nDate: {_date()}\r\n{lines}\r\n"
    ).encode("latin-1")


_now = (0, "")


def _date() -> str:
    """Format the current second once (RFC 9110 section 5.6.7)."""
    global _now  # noqa: PLW0603 - a cache of one line
    second = int(time.time())
    if second != _now[0]:
        _now = (second, formatdate(second, usegmt=True))
    return _now[1]
