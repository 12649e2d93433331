"""
A connection: what is hot is read and answered, anything else handed over.

It is idle, reading one request, or busy with one: parked, or waiting for a
commit.  What a client sends meanwhile waits, bounded.
"""

import asyncio
import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from gateway.errors import (
    GatewayError,
    InvalidError,
    TooLargeError,
    UnavailableError,
)
from gateway.model import FileId
from gateway.parking import STREAM_HEADERS, Parked
from gateway.protocol import http
from gateway.protocol.http import BadRequestError, Request
from gateway.web.answers import Answer, error_answer, status_answer
from gateway.web.body import BODY_DEADLINE_S, MAX_BODY_BYTES
from gateway.wheel import Timed

if TYPE_CHECKING:
    from gateway.web.door import Door

MAX_WAITING_BYTES = 64 * 1024
HEAD_DEADLINE_S = 15.0
GUEST_DEADLINE_S = 2.0
"""For a head on a connection that stands in the reserve."""

KEEP_ALIVE_S = 75.0
FLUSH_LIMIT_S = 30.0
LINGER_S = 2.0
LAST_REQUEST_S = 0.3
"""A request that is on its way when a drain begins arrives in that time."""

_PATH = re.compile(
    r"/v1/(?:events|files/([0-9a-z-]{1,64})(/events|/reports|/manifest)?)", re.ASCII
)
_FILE, _MANY, _NONE = "", "many", "none"
HOT_ROUTES = {
    _FILE: ("GET", "/v1/files/{file_id}"),
    "/events": ("GET", "/v1/files/{file_id}/events"),
    "/reports": ("POST", "/v1/files/{file_id}/reports"),
    "/manifest": ("POST", "/v1/files/{file_id}/manifest"),
    _MANY: ("GET", "/v1/events"),
}
"""What is served here: method and route by what follows the file id."""

_CLOSE = "Connection: close\r\n"
_STREAM_LINES = http.field_lines(STREAM_HEADERS) + _CLOSE

_log = logging.getLogger("reelready.door")
_access_log = logging.getLogger("reelready.access")


class Connection(Timed, asyncio.Protocol):
    """One connection of one client."""

    __slots__ = (
        "_body",
        "_busy",
        "_door",
        "_full",
        "_head_only",
        "_held",
        "_in_reserve",
        "_keep_alive",
        "_length",
        "_line",
        "_match",
        "_origin",
        "_parked",
        "_peer",
        "_place",
        "_received",
        "_remote",
        "_request",
        "_transport",
        "_unread",
    )

    def __init__(self, door: "Door") -> None:
        super().__init__()
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._received: bytes | bytearray = b""
        self._held = 0
        self._in_reserve = False
        self._request: Request | None = None
        self._body: http.ChunkedBody | None = None
        self._parked: Parked | None = None
        self._busy = False
        self._full = False
        self._unread = False
        self._keep_alive = True
        self._head_only = False
        self._origin: str | None = None
        self._line = ""
        self._length = 0
        self._match: re.Match[str] | None = None
        self._place = _NONE
        self._peer = ""
        self._remote = ""

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        # Who asks again before an answer has left waits.  Not 0: a TLS transport
        # would call itself full while it is empty.
        self._transport.set_write_buffer_limits(high=1, low=0)
        if self._door.wants_addresses:
            peer = transport.get_extra_info("peername")
            self._peer = self._remote = peer[0] if isinstance(peer, tuple) else ""
        self._door.connections.add(self)
        late_s = LAST_REQUEST_S if self._door.draining else HEAD_DEADLINE_S
        sock = transport.get_extra_info("socket")
        if sock is not None and self._door.takes_reserve(self, sock.fileno()):
            self._in_reserve = True
            late_s = min(late_s, GUEST_DEADLINE_S)
        self._door.wheel.put(self, late_s)

    def data_received(self, data: bytes) -> None:
        """Take bytes: of a request, or of what comes after it."""
        if self._busy and not self._keep_alive:
            return
        if not self._received:
            self._received = data
        else:
            if isinstance(self._received, bytes):
                # Whoever sends byte by byte shall not have all copied each time.
                self._received = bytearray(self._received)
            self._received += data
        self._door.idle.pop(self, None)
        if not (self._busy or self._full):
            self._read()
        elif len(self._received) > MAX_WAITING_BYTES:
            self.abort()
        self._hold()

    def eof_received(self) -> bool:
        """End when the client does: it will hear no answer of ours."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """Forget everything."""
        self._door.forget(self)
        self._door.wheel.drop(self)
        self._transport = None
        self._received = b""
        self._request = self._body = None
        self._hold()
        self._forget()

    def pause_writing(self) -> None:
        """Learn that the socket is full: until it is not, nothing is read."""
        self._full = True
        if self._parked is not None:
            self._parked.paused()

    def resume_writing(self) -> None:
        """Learn that it has room again."""
        self._full = False
        if self._parked is not None:
            self._parked.resumed()
        else:
            self._read()
            self._hold()

    def on_time(self) -> None:
        """The rest of a request did not come, no other one did, or none left."""
        if self._transport is not None and self._transport.is_closing():
            self._transport.abort()
        elif self._request is not None:
            late = InvalidError("body", f"did not arrive in {BODY_DEADLINE_S:.0f} s")
            self._refuse(error_answer(late))
        else:
            self.hang_up()

    @property
    def is_being_answered(self) -> bool:
        """Whether a request is all there, and its answer is not written."""
        return self._busy and not self._unread and not self.is_leaving

    @property
    def is_leaving(self) -> bool:
        """Whether nothing else is written, and what was may not have left."""
        return self._transport is None or self._transport.is_closing()

    # What routes and parked clients do.

    def park(self, parked: Parked) -> None:
        """Wait as `parked`, which answers when its time comes."""
        self._parked = parked
        self._door.access.come(self._remote)
        parked.park()

    def write(self, data: bytes) -> None:
        """Send bytes now; a full socket is told to what is parked."""
        if self._transport is not None:
            self._transport.write(data)

    def answer(
        self, status: int, headers: Iterable[tuple[str, str]], body: bytes
    ) -> None:
        """Send a whole answer, then go on to the next request."""
        if self._transport is None or self._transport.is_closing():
            return
        lines = self._door.headers.lines_for_origin(self._origin)
        lines += http.field_lines(headers)
        if status not in {204, 304}:
            lines += f"Content-Length: {len(body)}\r\n"
        if not self._keep_alive:
            lines += _CLOSE
        head = http.encode_head(status, lines)
        self._transport.write(head if self._head_only else head + body)
        self._count(status)
        self._go_on()

    def fail(self, error: GatewayError) -> None:
        """Send a problem, then go on to the next request."""
        self.answer(*error_answer(error))

    def open_stream(self, body: bytes) -> None:
        """Send the head of a stream, which only ends with the connection."""
        if self._transport is None:
            return
        self._keep_alive = False
        common = self._door.headers.lines_for_origin(self._origin)
        head = http.encode_head(200, common + _STREAM_LINES)
        self._transport.write(head + body)
        self._count(200)

    def hang_up(self) -> None:
        """Close once everything written has left, or does not leave."""
        self._busy = True
        self._keep_alive = False
        self._received = b""
        self._forget()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            if self._transport.get_write_buffer_size():
                self._door.wheel.put(self, FLUSH_LIMIT_S)
                if self._in_reserve:
                    self._door.leave_reserve(self)

    def retire(self) -> None:
        """Close after the answer to what was asked, or is being asked."""
        if self._unread:
            self.hang_up()
        elif self._busy or self._request is not None:
            self._keep_alive = False
        else:
            self._door.wheel.put(self, LAST_REQUEST_S)

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    # From bytes to a route.

    def _read(self) -> None:
        while self._received and not (self._busy or self._full):
            try:
                if self._request is None and not self._read_head():
                    return
                if self._request is None or not self._read_body(self._request):
                    return
            except BadRequestError as error:
                self._refuse(status_answer(400, str(error)))
                return
            except GatewayError as error:
                self._refuse(error_answer(error))
                return
            self._serve(self._request)

    def _read_head(self) -> bool:
        """Read a head if it is all there; returns whether it is ours to serve."""
        # RFC 9112 section 2.2: empty lines before a request are nothing.
        self._received = self._received.lstrip(b"\r\n")
        end = self._received.find(http.END_OF_HEAD)
        if max(end, len(self._received) if end < 0 else 0) > http.MAX_HEAD_BYTES:
            raise BadRequestError("the head is too large")
        if end < 0:
            self._door.wheel.put_sooner(self, HEAD_DEADLINE_S)
            return False
        head = self._received[: end + len(http.END_OF_HEAD)]
        request = http.parse_head(bytes(head))
        if not self._in_reserve and self._door.takes_reserve(self):
            self._in_reserve = True
            if self._transport is None or self._transport.is_closing():
                return False
        match = _PATH.fullmatch(request.path)
        if match is None or _is_preflight(request):
            # aiohttp would refuse it and keep the connection, which then serves
            # nothing that is hot, whoever uses it next.
            if request.headers.get("expect", "100-continue").lower() != "100-continue":
                raise BadRequestError("the only Expect that is met is 100-continue")
            self._hand_over()
            return False
        self._received = self._received[len(head) :]
        self._begin(request, match)
        self._expect_body(request)
        return True

    def _begin(self, request: Request, match: re.Match[str]) -> None:
        self._request = request
        self._match = match
        self._place = _place(match)
        self._origin = request.headers.get("origin")
        self._keep_alive = request.keep_alive and not (
            self._door.draining or self._in_reserve
        )
        self._head_only = request.method == "HEAD"
        request.in_reserve = self._in_reserve
        if self._door.wants_addresses:
            forwarded_for = request.headers.get("x-forwarded-for")
            self._remote = self._door.access.client(self._peer, forwarded_for)
            request.remote = self._remote
        if self._door.logs_access:
            self._line = f"{request.method} {request.path}"

    def _expect_body(self, request: Request) -> None:
        """
        Find out how the body comes.

        Raises:
            TooLargeError: Its length is over `MAX_BODY_BYTES`.
            BadRequestError: Its length is not a length.
        """
        chunked = http.is_chunked(request.headers)
        length = 0 if chunked else http.content_length(request.headers)
        if length > MAX_BODY_BYTES:
            raise TooLargeError(MAX_BODY_BYTES)
        self._length = length
        if chunked:
            self._body = http.ChunkedBody()
        if chunked or length > len(self._received):
            self._door.wheel.put(self, BODY_DEADLINE_S)
            if request.headers.get("expect", "").lower() == "100-continue":
                self.write(http.CONTINUE)

    def _read_body(self, request: Request) -> bool:
        """Read the body if it is all there."""
        if self._body is not None:
            return self._read_chunks(request, self._body)
        length = self._length
        if len(self._received) < length:
            return False
        if length:
            request.body = bytes(self._received[:length])
            self._received = self._received[length:]
        return True

    def _read_chunks(self, request: Request, body: http.ChunkedBody) -> bool:
        received, self._received = self._received, b""
        body.feed(received)
        if len(body.received) > MAX_BODY_BYTES:
            raise TooLargeError(MAX_BODY_BYTES)
        if not body.complete:
            return False
        # Where the last chunk ended in these bytes is not known, so nothing
        # can follow it.
        self._keep_alive = False
        request.body = bytes(body.received)
        return True

    def _serve(self, request: Request) -> None:
        self._busy = True
        self._request = self._body = None
        self._door.wheel.drop(self)
        try:
            self._route(request)
        except GatewayError as error:
            self.fail(error)
        except Exception:  # noqa: BLE001 - the last line of defence of one request
            _log.exception("%s %s failed", request.method, request.path)
            self._keep_alive = False
            self._forget()
            self.answer(*status_answer(500, "see the log"))

    def _route(self, request: Request) -> None:
        match, self._match = self._match, None
        file_id = FileId(match[1]) if match and match[1] else None
        place = self._place
        method, _ = HOT_ROUTES[place]
        if request.method != method and not (self._head_only and place == _FILE):
            status, headers, body = status_answer(405, "Method Not Allowed")
            allow = "GET, HEAD" if place == _FILE else method
            self.answer(status, [*headers, ("Allow", allow)], body)
        elif file_id is None:
            self._door.waiting.many(self, request)
        elif place == _FILE:
            self._door.waiting.file(self, request, file_id)
        elif place == "/events":
            self._door.waiting.events(self, request, file_id)
        elif place == "/reports":
            self._door.ingest.report(self, request, file_id)
        else:
            self._door.ingest.manifest(self, request, file_id)

    def _hold(self) -> None:
        """Account for what is held of requests that are not all there."""
        held = len(self._received)
        if self._body is not None:
            held += len(self._body.received)
        if held != self._held:
            self._held, before = held, self._held
            self._door.hold(self, held, before)

    def give_way(self) -> None:
        """Hold nothing any more of a request that is not all there."""
        if self._busy:
            self.abort()
        elif self._request is None:
            # It may be an EventSource's, which comes back from anything but
            # the wrong answer.
            self.hang_up()
        else:
            problem = "too much has arrived of requests that are not all there"
            self._refuse(error_answer(UnavailableError(problem)))
        self._received = b""
        self._request = self._body = None
        self._hold()

    def _refuse(self, answer: Answer) -> None:
        """Answer a request that was not read to its end, and read no other."""
        self._keep_alive = False
        self._unread = True
        self.answer(*answer)

    def _hand_over(self) -> None:
        """Give this connection to aiohttp for good."""
        transport, received = self._transport, self._received
        if transport is None:
            return
        self._door.forget(self)
        self._door.wheel.drop(self)
        self._busy = True
        self._transport = None
        self._received = b""
        self._hold()
        transport.set_write_buffer_limits()
        protocol = self._door.hand_over(transport, in_reserve=self._in_reserve)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(bytes(received))

    def _go_on(self) -> None:
        """Be ready for the next request, or close."""
        self._unpark()
        self._request = self._body = None
        if self._unread:
            self._linger()
            return
        if not self._keep_alive:
            self.hang_up()
            return
        self._busy = False
        self._begin_nothing()
        self._door.wheel.put(self, KEEP_ALIVE_S)
        if self._received:
            # Not from within the callback that answers: a client that
            # pipelines would nest us as deep as it likes.
            asyncio.get_running_loop().call_soon(self._read_on)
        else:
            self._door.idle[self] = None

    def _read_on(self) -> None:
        self._read()
        self._hold()

    def _begin_nothing(self) -> None:
        self._remote = self._peer
        self._place = _NONE
        self._origin = None
        self._head_only = False
        self._line = ""

    def _linger(self) -> None:
        """
        Let a refusal arrive before the connection goes.

        Closing on bytes that nobody read would reset the connection, and the
        reset would overtake the answer (RFC 9112 section 9.6).
        """
        self._busy = True
        self._received = b""
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()
        self._door.wheel.put(self, LINGER_S)

    def _forget(self) -> None:
        """Tell whatever is parked here that nobody hears it any more."""
        parked = self._unpark()
        if parked is not None:
            parked.lost()

    def _unpark(self) -> Parked | None:
        parked, self._parked = self._parked, None
        if parked is not None:
            self._door.access.go(self._remote)
        return parked

    def _count(self, status: int) -> None:
        route = HOT_ROUTES[self._place][1] if self._place != _NONE else "unmatched"
        self._door.count(route, status)
        if self._line and self._transport is not None:
            _access_log.info(
                "%s %d", self._line, status, extra={"remote": self._remote}
            )


def _place(match: re.Match[str]) -> str:
    return _MANY if match[1] is None else match[2] or _FILE


def _is_preflight(request: Request) -> bool:
    return (
        request.method == "OPTIONS"
        and "access-control-request-method" in request.headers
    )
