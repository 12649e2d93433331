"""
Hostile frames: what the gateway's writer made, read back field by field.

Two readers get the same stream over HTTP, cut anywhere: our own parser, and the
EventSource of a real Chromium.  Our client for browsers has no parser of its own:
it reads by EventSource, too.

Source: WHATWG HTML, "Server-sent events".
"""

import asyncio
import json
import random
import re
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import msgspec

from bench.server import get
from bench.soak.browser import chromium
from bench.soak.part import Figure, Outcome, Part, Size, at_least, none, told
from gateway.model import FileId, FileState, Seq, Status
from gateway.protocol import sse
from gateway.protocol.sse_parser import ServerEvent, SseParser
from local.environment import LOOPBACK

_EVENTS = {Size.SHORT: 5_000, Size.FULL: 1_000_000}

_AHEAD = 20_000
"""So many events are on their way at most."""

_BATCH = 1_000
"""The page tells what it heard so many at a time."""

_PATIENCE_S = 20.0
_WRITE_BYTES = 64 * 1024
_CUTS = (1, 1, 2, 3, 7, 100, 1_000, 1_460, 4_096, 16_384, 65_536)

_KINDS = ("message", "hb", "reset", "bye", "evil")
_PIECES = (
    "\r",
    "\n",
    "\r\n",
    "\n\n",
    "\r\r",
    "\r\n\r\n",
    "\0",
    "\ufeff",
    "\u2028",
    "\u2029",
    "\x85",
    "\x0b\x0c\x1c",
    ":",
    ": ",
    " ",
    "\t",
    "data:",
    "\ndata: ",
    "\nid: 7\n\n",
    "\r\rid: 7\0\r\r",
    "\nevent: evil\ndata: evil\n\n",
    "\revent:evil\rdata:evil\r\r",
    "\nretry: 1\n",
    "\n: comment",
    '"}\n\ndata: {"',
    "\\n",
    "\\u000a",
    "\\",
    '"',
    "휴가.mp4",
    "\u202egpj.exe",
    "\U0001f3ac\U0001f468\u200d\U0001f469",
    "e\u0301",
    "\ufdd0\ufffe\uffff\U0010ffff",
    "\x7f\x80\x9f\xa0\xad",
    "",
)
_LONG = 20_000
_SURROGATES = "\ud800", "\udfff", "\ude00\ud83c", "\udc80"

_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

_STREAM, _END = "/stream", b"\r\n\r\n"
_HEAD = (
    f"HTTP/1.1 200 OK\r\nContent-Type: {sse.CONTENT_TYPE}\r\nConnection: close\r\n\r\n"
).encode()
_EMPTY = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_PAGE = """([count, batch, kinds]) => {
  const source = new EventSource("/stream");
  let heard = [], left = count, errors = 0, sending = Promise.resolve();
  const send = () => {
    const body = JSON.stringify(heard);
    heard = [];
    sending = sending.then(() => fetch("/heard", { method: "POST", body }));
  };
  const take = ({ type, data, lastEventId }) => {
    heard.push([type, data, lastEventId]);
    left -= 1;
    if (left === 0) source.close();
    if (left === 0 || heard.length === batch) send();
  };
  for (const kind of kinds) source.addEventListener(kind, take);
  source.onerror = () => (errors += 1);
  globalThis.ended = async () => {
    source.close();
    send();
    await sending;
    return errors;
  };
}"""


def frames(seed: int) -> Iterator[tuple[bytes, ServerEvent | None]]:
    """Make frames without end, each with what must be read; None: nothing."""
    chance = random.Random(seed)
    texts = [_text(chance) for _ in range(5_000)]
    last = ""
    while True:
        seq, kind = chance.randrange(1, 10**9), chance.randrange(40)
        name, key, value = chance.choices(texts, k=3)
        data = _data(seq, name, {key: value})
        match kind:
            case 0:
                yield sse.HEARTBEAT, ServerEvent("hb", "", last)
            case 1:
                reason = ServerEvent("reset", '{"reason": "pruned_cursor"}', last)
                yield sse.reset("pruned_cursor"), reason
            case 2:
                reason = ServerEvent("bye", '{"reason": "drain"}', last)
                yield sse.bye("drain", retry_ms=seq), reason
            case 3:
                yield sse.hello(seq), None
            case 4 | 5:
                event = ServerEvent("message", data.decode(), last)
                yield sse.unnumbered(data), event
            case _:
                last = str(seq)
                event = ServerEvent("message", data.decode(), last)
                yield sse.event(seq, data), event


def _text(chance: random.Random) -> str:
    pieces = chance.choices(_PIECES, k=chance.randrange(6))
    anything = (chance.randrange(0x110000) for _ in range(chance.randrange(8)))
    pieces += [chr(one) for one in anything if not 0xD800 <= one < 0xE000]
    chance.shuffle(pieces)
    text = "".join(pieces)
    if text and chance.randrange(1_000) == 0:
        text *= _LONG // len(text)
    elif chance.randrange(20) == 0:
        text += chance.choice(_SURROGATES)
    return text


def _data(seq: int, name: str, metadata: dict[str, str]) -> bytes:
    state = FileState(
        id=FileId("0199a3c4-5b6d-7e8f-9a0b-1c2d3e4f5a6b"),
        seq=Seq(seq),
        status=Status.CONVERTING,
        name=name,
        content_type="video/mp4",
        size=1,
        owner=None,
        metadata=metadata,
        created_at=_AT,
        updated_at=_AT,
    )
    try:
        return msgspec.json.encode(state)
    except UnicodeEncodeError:
        # Half a character is no text of ours; JSON can say it all the same.
        return json.dumps(msgspec.to_builtins(state)).encode()


class Read:
    """
    One reader: what was sent to it, held against what it read, in order.

    Attributes:
        events: That were read.
        mismatches: Of them, those that are not what was sent.
        samples: The first ones: sent, and read.
        streams: How often it asked for the stream.
        errors: That it was told of.
    """

    def __init__(self) -> None:
        self.events = self.mismatches = self.streams = self.errors = 0
        self.samples: list[tuple[ServerEvent | None, ServerEvent]] = []
        self._sent: deque[ServerEvent] = deque()
        self._moved = asyncio.Event()

    async def send(self, event: ServerEvent) -> None:
        """Expect one more, once there is room for it."""
        self._sent.append(event)
        while len(self._sent) > _AHEAD:
            await self._move()

    def hear(self, events: list[ServerEvent]) -> None:
        """Compare what was read."""
        for event in events:
            sent = self._sent.popleft() if self._sent else None
            if event != sent:
                self.mismatches += 1
                self.samples += [(sent, event)] * (self.mismatches <= 5)
        self.events += len(events)
        self._moved.set()

    async def until(self, events: int) -> None:
        """Wait until so many were read, or none comes any more."""
        with suppress(TimeoutError):
            while self.events < events:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._move()

    def figures(self, name: str, least: int) -> list[Figure]:
        """Judge it."""
        return [
            at_least(f"{name}: events read", self.events, least),
            none(f"{name}: mismatches", self.mismatches),
            none(f"{name}: streams more than one", max(0, self.streams - 1)),
            none(f"{name}: errors of the connection", self.errors),
        ]

    async def _move(self) -> None:
        self._moved.clear()
        await self._moved.wait()


async def _frames(size: Size) -> Outcome:
    count = _EVENTS[size]
    clock = asyncio.get_running_loop().time
    began_s = clock()
    async with _served(count) as (ours, port):
        await _read(ours, port, count)
    between_s = clock()
    async with _served(count) as (theirs, port), chromium() as browser:
        page = await browser.new_page()
        await page.goto(f"http://{LOOPBACK}:{port}/")
        await page.evaluate(_PAGE, [count, _BATCH, _KINDS])
        await theirs.until(count)
        theirs.errors += await page.evaluate("ended()")
    return Outcome(
        figures=[
            *ours.figures("our parser", count),
            *theirs.figures("Chromium", count),
            told("our parser: seconds", between_s - began_s),
            told("Chromium: seconds", clock() - between_s),
        ],
        samples={"our parser": ours.samples, "Chromium": theirs.samples},
    )


async def _read(read: Read, port: int, count: int) -> None:
    """Read the stream by our parser, as many bytes at a time as it happens."""
    chance = random.Random(8)
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(get(_STREAM) + b"\r\n")
    await reader.readuntil(_END)
    parser = SseParser()
    with suppress(TimeoutError):
        while read.events < count:
            async with asyncio.timeout(_PATIENCE_S):
                chunk = await reader.read(chance.choice(_CUTS))
            if not chunk:
                read.errors += 1
                break
            read.hear(parser.feed(chunk))
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def _served(count: int) -> AsyncIterator[tuple[Read, int]]:
    """Serve one reader: a page, the stream, and a door for what the page heard."""
    read = Read()

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(_END)
                if head.startswith(f"GET {_STREAM} ".encode()):
                    read.streams += 1
                    await _write(read, writer, count)
                if length := _LENGTH.search(head):
                    heard = await reader.readexactly(int(length[1]))
                    read.hear([ServerEvent(*one) for one in json.loads(heard)])
                writer.write(_EMPTY)
        writer.close()

    async with await asyncio.start_server(answer, LOOPBACK, 0) as server:
        yield read, int(server.sockets[0].getsockname()[1])


async def _write(read: Read, writer: asyncio.StreamWriter, count: int) -> None:
    """Write so many events and what is between them, cut anywhere."""
    chance = random.Random(9)
    writer.write(_HEAD)
    waiting = bytearray()
    made = frames(seed=7)
    while count or waiting:
        while count and len(waiting) < _WRITE_BYTES:
            frame, event = next(made)
            waiting += frame
            if event is not None:
                count -= 1
                await read.send(event)
        size = chance.choice(_CUTS)
        writer.write(bytes(waiting[:size]))
        del waiting[:size]
        await writer.drain()
        await asyncio.sleep(0)  # or what was cut is joined again before it leaves


FRAMES = Part(
    name="frames",
    rows="H9",
    about="hostile fields in frames: our parser and a browser read what was written",
    run=_frames,
)
