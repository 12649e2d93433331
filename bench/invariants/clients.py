"""
Clients of every kind: bytes out, bytes in, and a judge in each of them.

They read strictly: a frame that the gateway does not promise is a fault.  Those
whose connection ends come back where they stood, as browsers do.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import msgspec

from bench.invariants.reports import Signed
from bench.invariants.rooms import Rooms
from bench.invariants.rules import must
from bench.invariants.story import Story
from bench.invariants.tables import PAGE_EVENTS, File, Tables
from bench.invariants.transport import Transport
from gateway.model import FileId
from gateway.parking import FIRST_READING_TIMEOUT_S
from gateway.protocol.cursor import CURRENT, UNKNOWN

SLACK_S = 1.0
"""The wheel's ticks and groups, and the feed's second try."""

Token = Callable[[], tuple[str, float]]
"""Makes a credential, and says when it ends; 0 is never."""

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)")
_ETAG = re.compile(rb'\r\nETag: "(\d+)"')
_STREAM = b"\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
_EVENT = re.compile(rb"id: (\d+)\ndata: (\{[^\r\n]*\})")
_UNNUMBERED = re.compile(rb"data: (\{[^\r\n]*\})")
_BYE = re.compile(rb'(?:retry: \d+\n)?event: bye\ndata: \{"reason": "(\w+)"\}')
_RESET = re.compile(rb'event: reset\ndata: \{"reason": "\w+"\}')
_PLAIN = re.compile(rb"event: hb\ndata:|retry: \d+\n: reelready")


class _PollBody(msgspec.Struct):
    events: list[msgspec.Raw]
    after: int
    final: bool
    reset: str | None = None


_POLL_BODY = msgspec.json.Decoder(_PollBody)


@dataclass
class Answer:
    """One answer of known length."""

    status: int
    head: bytes
    body: bytes


@dataclass
class Place:
    """What all clients share."""

    tables: Tables
    now_s: Callable[[], float]
    _known: dict[bytes, tuple[FileId, int]] = field(default_factory=dict)

    def found(self, data: bytes) -> tuple[FileId, int]:
        """Tell of which file and seq some data are."""
        if data not in self._known:
            for file in self.tables.files.values():
                for seq, event in file.events.items():
                    self._known[event.data] = file.id, seq
        must(21, data in self._known, data)
        return self._known[data]


class Client:
    """
    One client and its connection, which it may lose and find again.

    Attributes:
        room: Where it is connected; None: nowhere.
        legs: How many subscribers it is.
        asks: Whether a request of its is not answered.
        done: Whether it has heard all it wanted.
    """

    legs = 1

    def __init__(self, place: Place) -> None:
        self.room: Rooms | None = None
        self.transport = Transport()
        self.asks = self.done = False
        self._place = place
        self._asked_at_s = 0.0
        self._received = b""
        self._is_cut = False

    @property
    def stalled(self) -> bool:
        """Whether it does not read what is sent."""
        return self.room is not None and self.transport.full

    def come(self, room: Rooms) -> None:
        """Connect and ask, from where it stands."""
        self.room = room
        self.transport = room.connect()
        self._received = b""
        self.asks = False
        self.go_on()

    def go_on(self) -> None:
        """Ask, if no answer is due."""
        if self.room is not None and not (self.asks or self.done):
            self.asks = True
            self._asked_at_s = self._place.now_s()
            self.transport.protocol.data_received(self.request())

    def leave(self) -> None:
        """Go without a word."""
        if self.room is not None:
            self.transport.lose()
            self.room = None

    def cut(self, unread: int) -> None:
        """Be cut off: of what is on its way, only so many bytes arrive."""
        if self.room is not None:
            self._is_cut = True
            self._received += self.transport.take()[:unread]
            self.judge()
            self.leave()

    def look(self) -> None:
        """Read what has come, and judge it."""
        if self.room is None:
            return
        for more in self.transport.pressed:
            must(16, b"event: bye" in more, ("written to a full socket", more))
        arrived = self.transport.take()
        if arrived:
            self._received += arrived
            self.judge()
        if self.transport.gone:
            self.room = None
            self.lost()

    def request(self) -> bytes:
        """Write the request that says where it stands."""
        raise NotImplementedError

    def judge(self) -> None:
        """Judge what has come."""
        for answer in self.answers():
            self.asks = False
            self.answered(answer)

    def answered(self, answer: Answer) -> None:
        """Judge a whole answer."""
        raise NotImplementedError

    def lost(self) -> None:
        """Judge how the connection ended."""

    @property
    def said_goodbye(self) -> bool:
        """Whether its request was answered before the connection ended."""
        return not self.asks

    def must_be_current(self, number: int, heads: Mapping[FileId, int]) -> None:
        """Judge whether it was told all up to these seqs, for it is connected."""

    def answers(self) -> Iterator[Answer]:
        """Cut answers off what was received."""
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[: end + 2]
            status = _STATUS.match(head)
            must(22, status is not None, head)
            assert status is not None
            length = _LENGTH.search(head)
            body_end = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < body_end:
                return
            body = self._received[end + 4 : body_end]
            self._received = self._received[body_end:]
            yield Answer(int(status[1]), head, body)

    def must_be_excused(self, number: int, what: object) -> None:
        """Judge a refusal: something must have ailed since it asked."""
        tables, since_s = self._place.tables, self._asked_at_s - 2 * SLACK_S
        must(number, tables.ails or tables.ailed_at_s >= since_s, what)


class Stream(Client):
    """An EventSource: one file with a cursor, or a board of many."""

    def __init__(
        self, place: Place, files: Sequence[File], token: Token, cursor: str | None
    ) -> None:
        super().__init__(place)
        self.legs = len(files)
        self._numbered = cursor is not None
        self._text = cursor or ""
        self._token = token
        self._until_s = 0.0
        asked = CURRENT if cursor is None else said(cursor)
        self._stories = {
            one.id: Story(one, asked, numbered=self._numbered) for one in files
        }
        self._open = self._was_here = self._news = self._is_cut = False
        self._bye = ""

    def request(self) -> bytes:
        token, self._until_s = self._token()
        self._open = self._news = self._is_cut = False
        self._bye = ""
        for story in self._stories.values():
            if not self._numbered:
                story.cursor = CURRENT
            story.ask(again=self._was_here)
        self._was_here = True
        path = "/v1/events?" + "&".join(f"file={one}" for one in self._stories)
        if self._numbered:
            path = f"/v1/files/{next(iter(self._stories))}/events"
        lines = "Accept: text/event-stream\r\n"
        if self._text:
            lines += f"Last-Event-ID: {self._text}\r\n"
        return get(path, token, lines)

    def judge(self) -> None:
        if not self._open:
            if _STREAM not in self._received:
                super().judge()
                return
            _, _, self._received = self._received.partition(b"\r\n\r\n")
            self._open = True
        *frames, self._received = self._received.split(b"\n\n")
        for frame in frames:
            must(22, not self._bye, ("a frame after the bye", frame))
            self._take(frame)
        if not (self._numbered or self._bye or self._is_cut):
            begun = all(one.cursor != CURRENT for one in self._stories.values())
            must(12, begun, "a board begins with the state of each file")

    @property
    def said_goodbye(self) -> bool:
        return bool(self._bye) or not self.asks

    def told(self, file_id: FileId) -> list[tuple[int, bool]]:
        """Give what it was told of one file."""
        return self._stories[file_id].told

    def answered(self, answer: Answer) -> None:
        must(5, answer.status == 204 and self._numbered, answer)
        for story in self._stories.values():
            story.end()
        self.done = True

    def lost(self) -> None:
        if self._bye:
            must(22, not self._received, ("half a frame", self._received))

    def must_be_current(self, number: int, heads: Mapping[FileId, int]) -> None:
        if self._bye:
            return
        if self._until_s:
            late_s = self._place.now_s() - self._until_s
            must(15, late_s < SLACK_S, ("it outlived its token", late_s))
        for file_id, story in self._stories.items():
            story.must_be_current(number, heads[file_id])
        over = all(
            one.file.terminal and one.cursor == one.file.head == heads[file_id]
            for file_id, one in self._stories.items()
        )
        must(5, not over, ("it is open, but all has ended", heads))

    def _take(self, frame: bytes) -> None:
        if event := (_EVENT if self._numbered else _UNNUMBERED).fullmatch(frame):
            self._event(event)
        elif self._numbered and _RESET.fullmatch(frame):
            for story in self._stories.values():
                story.reset()
        elif bye := _BYE.fullmatch(frame):
            self._ended(bye[1].decode())
        else:
            must(20, _PLAIN.fullmatch(frame), frame)

    def _event(self, event: re.Match[bytes]) -> None:
        data = event[2] if self._numbered else event[1]
        file_id, seq = self._place.found(data)
        must(15, file_id in self._stories, (file_id, list(self._stories)))
        if self._numbered:
            must(21, seq == int(event[1]), (seq, event[1]))
            self._text = str(seq)
        self._stories[file_id].take(seq, data)
        self._news = True

    def _ended(self, reason: str) -> None:
        self._bye = reason
        if reason == "final":
            self.done = True
            must(5, self._news, "a stream that has nothing to tell is a 204")
            for story in self._stories.values():
                story.end()
        elif reason == "token":
            must(15, 0 < self._until_s <= self._place.now_s(), self._until_s)
        elif reason in {"refused", "drain"}:
            self.must_be_excused(22, reason)
        else:
            must(22, reason == "age", reason)


class _Asking(Client):
    """Whoever asks again with each answer: one file, one wait."""

    def __init__(
        self, place: Place, file: File, token: Token, cursor: str, wait_s: int
    ) -> None:
        super().__init__(place)
        self._text = cursor
        self._token = token
        self._wait_s = wait_s
        self.story = Story(file, said(cursor))
        self._asked_before = False

    def request(self) -> bytes:
        self.story.ask(again=self._asked_before)
        self._asked_before = True
        return self.request_with(self._token()[0])

    def request_with(self, token: str) -> bytes:
        """Write the request."""
        raise NotImplementedError

    def must_be_current(self, number: int, heads: Mapping[FileId, int]) -> None:
        if self.asks and self._asked_at_s < self._place.now_s():
            self.story.must_be_current(number, heads[self.story.file.id])
            # The wait begins with the first reading.
            waited_s = self._place.now_s() - self._asked_at_s
            longest_s = FIRST_READING_TIMEOUT_S + self._wait_s + SLACK_S
            must(14, waited_s < longest_s, ("it waits", waited_s))

    def must_not_be_early(self, what: object) -> None:
        """Judge an answer that tells nothing: its time must have come."""
        if self._place.now_s() < self._asked_at_s + self._wait_s:
            self.must_be_excused(14, what)


class Poll(_Asking):
    """A long-poll with a cursor."""

    def request_with(self, token: str) -> bytes:
        path = f"/v1/files/{self.story.file.id}/events?wait={self._wait_s}"
        return get(path + (f"&after={quote(self._text)}" if self._text else ""), token)

    def answered(self, answer: Answer) -> None:
        if answer.status == 503:
            self.must_be_excused(2, answer)
            return
        must(2, answer.status == 200, answer)
        body = _POLL_BODY.decode(answer.body)
        story = self.story
        if body.reset is not None:
            story.reset()
        for raw in body.events:
            data = bytes(raw)
            _, seq = self._place.found(data)
            story.take(seq, data)
        if not body.events:
            story.nothing_new()
        if not body.events and not body.final:
            self.must_not_be_early(answer)
        must(2, len(body.events) == PAGE_EVENTS or story.cursor >= story.floor, answer)
        must(14, body.after == story.cursor, (answer, story.cursor))
        self._text = str(body.after)
        if body.final:
            story.end()
            self.done = True


class Get(_Asking):
    """A blocking GET with an ETag."""

    def request_with(self, token: str) -> bytes:
        lines = f"If-None-Match: {self._text}\r\n" if self._text else ""
        path = f"/v1/files/{self.story.file.id}?wait={self._wait_s}"
        return get(path, token, lines)

    def answered(self, answer: Answer) -> None:
        if answer.status == 503:
            self.must_be_excused(2, answer)
            return
        etag = _ETAG.search(answer.head)
        must(14, etag is not None and answer.status in {200, 304}, answer)
        assert etag is not None
        seq, story = int(etag[1]), self.story
        must(2, seq >= story.floor, (answer, story.floor))
        if answer.status == 304:
            must(14, self._text == f'"{seq}"', (answer, self._text))
            self._ended_or_waited(seq, answer)
        else:
            must(14, self._text != f'"{seq}"', (answer, self._text))
            story.cursor = CURRENT
            story.take(seq, answer.body)
        story.cursor = seq
        self._text = f'"{seq}"'

    def _ended_or_waited(self, seq: int, answer: Answer) -> None:
        self.done = self.story.file.states[seq].status.terminal
        if not self.done:
            self.must_not_be_early(answer)


class Stranger(Client):
    """Whoever asks for what is not theirs, by any request."""

    legs = 2

    def __init__(self, place: Place, request: bytes, status: int) -> None:
        super().__init__(place)
        self._request = request
        self._status = status

    def request(self) -> bytes:
        return self._request

    def judge(self) -> None:
        if _STREAM in self._received:
            self.must_be_excused(15, self._received)
            must(15, b'data: {"id"' not in self._received, self._received)
            self.asks, self.done = False, True
            return
        super().judge()

    def answered(self, answer: Answer) -> None:
        if answer.status == 503:
            self.must_be_excused(15, answer)
        else:
            must(15, answer.status == self._status, answer)
            known = [file.encode() for file in self._place.tables.files]
            told = any(one in answer.head + answer.body for one in known)
            must(15, not told, answer)
        self.done = True


class Sender(Client):
    """One report and its webhook id, sent until it is answered for good."""

    legs = 0

    def __init__(self, place: Place, report: Signed) -> None:
        super().__init__(place)
        self._report = report

    def request(self) -> bytes:
        return self._report.request()

    def answered(self, answer: Answer) -> None:
        if answer.status == 503:
            self.must_be_excused(2, answer)
            return
        self.done = True
        stored = self._place.tables.ids.get(self._report.webhook_id)
        must(7, stored is not None, answer)
        assert stored is not None
        digest, answered = stored
        if digest != self._report.digest:
            must(7, answer.status == 422, answer)
            return
        must(7, answer.status == 200, answer)
        must(7, msgspec.json.encode(answered) == answer.body, (answered, answer))


def said(cursor: str) -> int:
    """Understand a cursor as the contract has it; written apart on purpose."""
    if not cursor:
        return CURRENT
    if cursor.startswith('"'):
        cursor = cursor.strip('"')
    if cursor.isascii() and cursor.isdigit() and len(cursor) <= 9:
        return int(cursor)
    return UNKNOWN


def get(path: str, token: str, lines: str = "") -> bytes:
    """Write a GET."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n"
        f"{lines}\r\n"
    ).encode()
