r"""
Server-Sent Events parsing: chunks of bytes in, events out, no I/O.

Where the chunks are cut never matters, not even between CR and LF or inside a
character, so a reader may feed whatever its socket gives it.

Source: WHATWG HTML, "Server-sent events", "Interpreting an event stream".
Vectors: ``tests/vectors/sse_parsing.json``.
"""

import codecs
import re
from typing import NamedTuple

MAX_EVENT_CHARS = 4 * 1024 * 1024
"""An event longer than this is refused, so a stream without end stays small."""

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_DIGITS = re.compile(r"\d{1,9}", re.ASCII)


class ServerEvent(NamedTuple):
    """
    One event as the standard dispatches it.

    Attributes:
        type: ``message`` when the stream did not name it.
        data: Lines joined by LF.
        last_event_id: The cursor after this event, from it or an earlier one.
    """

    type: str
    data: str
    last_event_id: str


class SseParser:
    """
    Reads one stream; a new connection needs a new parser.

    Attributes:
        retry_ms: The last reconnect delay that the stream asked for, if any.
        last_event_id: The last committed cursor; empty when there was none.
    """

    def __init__(self, last_event_id: str = "") -> None:
        self.retry_ms: int | None = None
        self.last_event_id = last_event_id
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = True
        self._after_cr = False
        self._unfinished = ""
        self._id = last_event_id
        self._type = ""
        self._data: list[str] = []
        self._data_chars = 0

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """
        Take what arrived; give the events it completed.

        Raises:
            ValueError: An event is over `MAX_EVENT_CHARS`.
        """
        *lines, self._unfinished = _LINE_BREAK.split(
            self._unfinished + self._text(chunk)
        )
        events = [event for line in lines if (event := self._take(line))]
        if self._data_chars + len(self._unfinished) > MAX_EVENT_CHARS:
            raise ValueError(f"an event is over {MAX_EVENT_CHARS} characters")
        return events

    def _text(self, chunk: bytes) -> str:
        text = self._decoder.decode(chunk)
        if text and self._at_start:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        if text and self._after_cr:
            # The CR already ended its line; this LF is the other half of it.
            self._after_cr = False
            text = text.removeprefix("\n")
        self._after_cr = self._after_cr or text.endswith("\r")
        return text

    def _take(self, line: str) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
                self._data_chars += len(value) + 1
            case "event":
                self._type = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if _DIGITS.fullmatch(value):
                self.retry_ms = int(value)
        return None

    def _dispatch(self) -> ServerEvent | None:
        self.last_event_id = self._id
        event = ServerEvent(
            self._type or "message", "\n".join(self._data), self.last_event_id
        )
        complete = bool(self._data)
        self._type, self._data, self._data_chars = "", [], 0
        return event if complete else None
