"""
Every step that can be taken in a world, in any order.

Clients and senders of every kind come and go; listeners grow deaf, reads and
commits hang, gateways are killed and drained, retention prunes, time passes.

Whoever drives it takes one of `STEPS` with one of its choices for each of its
arguments: Hypothesis, or a seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from bench.invariants.clients import Get, Poll, Sender, Stranger, Stream, get
from bench.invariants.reports import Signed, reports_of
from bench.invariants.rooms import API_KEY, Rooms
from bench.invariants.rules import must
from bench.invariants.tables import Fate, File, Hold
from bench.invariants.world import MAX_CLIENTS, STEP_S, World
from gateway.model import FileId
from gateway.web.door import DRAIN_LIMIT_S

MAX_FILES = 4
_CALM_S = 2.5
"""Longer than the feed waits before it asks a database again that was away."""

_OWNERS = ("ann", "ben")
_NAMES = ("a.mp4", "휴가 (1).mov", "a\r\ndata: b\n\n.mp4", "\u2028\u2029\x85.mp4", "")
HOSTILE = ("-1", "+1", "1e3", "0x1", "٣", "1\t2", "9999999999", "a" * 300, "%00", "1,2")
CURSORS: tuple[int | str, ...] = (*range(-1, 12), *HOSTILE)
"""Numbers count back from the head, so that -1 is one that is not yet there."""


@dataclass(frozen=True)
class Step:
    """
    One thing that can happen.

    Attributes:
        weight: How often a seed takes it, beside the others.
        choices: For each argument.
    """

    name: str
    weight: int
    choices: dict[str, Sequence[Any]]


STEPS: dict[str, Step] = {}


def step(weight: int, **choices: Sequence[Any]) -> Callable[[Any], Any]:
    """Count a method among the steps."""

    def count(method: Callable[..., None]) -> Callable[..., None]:
        STEPS[method.__name__] = Step(method.__name__, weight, choices)
        return method

    return count


_ROOM = range(2)
_LATE = (-5, -2, -1, 0, 0, 0, 0, 0, 1, 3)
_FILE = (0, 0, 0, 1, 1, 2, 3)
_WHO = range(MAX_CLIENTS)
_TOKEN = ("key", "file", "owner", "owner", "brief")
_YES_NO = (False, True)


class Machine(World):
    """A world, and each step that can be taken in it."""

    def __init__(self) -> None:
        super().__init__()
        self._reports: dict[FileId, list[Signed]] = {}
        self._next: dict[FileId, int] = {}
        self._pace_s: float | None = STEP_S
        self.register("a.mp4")

    def take(self, name: str, /, **chosen: Any) -> None:
        """Take one step, and judge."""
        getattr(self, name)(**chosen)
        if self._pace_s is not None:
            self._live(self._pace_s)
            self._judge()

    # What may happen.

    @step(1, name=_NAMES)
    def register(self, name: str) -> None:
        """A file is registered; each has another story."""
        number = len(self.files)
        if number < MAX_FILES:
            file_id = FileId(f"f-{number}")
            self.tables.register(file_id, name, _OWNERS[number % 2])
            self.files.append(self.tables.files[file_id])
            end = "failed" if number % 3 == 2 else "playable"
            self._reports[file_id] = reports_of(file_id, 6 - number, end)
            self._next[file_id] = 0

    @step(24, file=_FILE, late=_LATE, room=_ROOM, altered=(*[False] * 9, True))
    def post(self, file: int, late: int, room: int, *, altered: bool) -> None:
        """A report comes: the next one, or one that is late, early or doubled."""
        file_id = self._file(file).id
        reports = self._reports[file_id]
        number = max(0, min(self._next[file_id] + late, len(reports) - 1))
        self._next[file_id] += late >= 0
        said = reports[number]
        sender = Sender(self.place, said.altered() if altered else said)
        self.senders.append(sender)
        sender.come(self.rooms[room])

    @step(10, file=_FILE, cursor=("", *CURSORS), room=_ROOM, token=_TOKEN)
    def stream(self, file: int, cursor: int | str, room: int, token: str) -> None:
        """An EventSource opens."""
        one = self._file(file)
        text = _cursor(one, cursor)
        self._come(Stream(self.place, [one], self._token(token, [one]), text), room)

    @step(2, count=range(1, MAX_FILES + 1), room=_ROOM, token=_TOKEN)
    def board(self, count: int, room: int, token: str) -> None:
        """An EventSource of many files opens."""
        files = self.files[:count]
        if token == "owner":
            files = [one for one in files if one.owner == files[0].owner]
        self._come(Stream(self.place, files, self._token(token, files), None), room)

    @step(5, file=_FILE, cursor=("", *CURSORS), room=_ROOM, wait_s=(1, 30))
    def poll(self, file: int, cursor: int | str, room: int, wait_s: int) -> None:
        """Somebody long-polls."""
        one = self._file(file)
        text = _cursor(one, cursor)
        token = self._token("file", [one])
        self._come(Poll(self.place, one, token, text, wait_s), room)

    @step(4, file=_FILE, cursor=("", *CURSORS), room=_ROOM, wait_s=(1, 30))
    def get(self, file: int, cursor: int | str, room: int, wait_s: int) -> None:
        """Somebody asks for the state, or waits for a newer one."""
        one = self._file(file)
        text = _cursor(one, cursor)
        etag = f'"{text}"' if text and text.isascii() else ""
        token = self._token("owner", [one])
        self._come(Get(self.place, one, token, etag, wait_s), room)

    @step(
        2,
        file=_FILE,
        room=_ROOM,
        how=("other's", "expired", "garbage", "nothing there"),
        path=("", "/events", "/events stream", "board", "mixed board"),
    )
    def stranger(self, file: int, room: int, how: str, path: str) -> None:
        """Somebody asks for what is not theirs, or not there."""
        one = self._file(file)
        other = _OWNERS[one.owner == _OWNERS[0]]
        others = [each.id for each in self.files if each is not one]
        claims = {
            "other's": {"owner": other, "files": others, "exp": 1e9},
            "expired": {"files": [one.id], "exp": self.loop.time()},
        }.get(how)
        token = API_KEY if claims is None else self._sign(claims)
        file_id = "f-none" if how == "nothing there" else one.id
        target = f"/v1/files/{file_id}{path.removesuffix(' stream')}"
        if path.endswith("board"):
            # Some of it may be theirs.
            ids = [file_id, *(others[:1] if path == "mixed board" else [])]
            target = "/v1/events?" + "&".join(f"file={each}" for each in ids)
        asks = "Accept: text/event-stream\r\n" if path.endswith("stream") else ""
        request = get(target, token[1:] if how == "garbage" else token, asks)
        status = 401 if how in {"expired", "garbage"} else 404
        self._come(Stranger(self.place, request, status), room)

    @step(2, who=_WHO)
    def leave(self, who: int) -> None:
        """A client goes for good."""
        if self.clients:
            self.clients.pop(who % len(self.clients)).leave()

    @step(3, who=_WHO, unread=(0, 1, 7, 40, 200, 1000))
    def cut(self, who: int, unread: int) -> None:
        """A connection breaks, in the middle of whatever is on its way."""
        if self.clients:
            self.clients[who % len(self.clients)].cut(unread)

    @step(10, room=_ROOM)
    def come_back(self, room: int) -> None:
        """Whoever lost its connection tries again."""
        for one in self.clients + self.senders:
            if one.room is None and not one.done:
                one.come(self.rooms[room])

    @step(4, who=_WHO)
    def stall(self, who: int) -> None:
        """A reader stops reading."""
        reading = [one for one in self.clients if isinstance(one, Stream)]
        if reading:
            reading[who % len(reading)].transport.full = True

    @step(4, who=_WHO)
    def read_on(self, who: int) -> None:
        """A reader reads on."""
        stalled = [one for one in self.clients if one.stalled]
        if stalled:
            stalled[who % len(stalled)].transport.make_room()

    @step(4, room=_ROOM, how=("hearing", "hearing", "late", "late", "deaf"))
    def listen(self, room: int, how: str) -> None:
        """Doorbells are heard, come late, or are lost."""
        one = self.rooms[room]
        self._late.discard(one)
        if how == "late":
            self._late.add(one)
        elif how == "deaf":
            one.deaf = True
        elif one.deaf:
            one.doorbells.clear()
            one.look()

    @step(1, room=_ROOM)
    def look(self, room: int) -> None:
        """The safety net looks at the table."""
        if not self.rooms[room].deaf:
            self.rooms[room].look()

    @step(6, what=tuple(Hold), room=_ROOM)
    def hang(self, what: Hold, room: int) -> None:
        """The database does not answer one gateway."""
        self.rooms[room].session.hold(what)
        self.tables.ail()

    @step(4, what=tuple(Hold), room=_ROOM)
    def answer(self, what: Hold, room: int) -> None:
        """What hangs there goes on."""
        self.tables.ail()
        self.rooms[room].session.answer(what)

    @step(
        4,
        file=_FILE,
        room=_ROOM,
        elsewhere=_YES_NO,
        newcomer=_YES_NO,
        wait_s=(0.0, 0.05, 0.15),
        first=(Hold.ANSWERS, Hold.READS),
    )
    def overtake(
        self,
        file: int,
        room: int,
        wait_s: float,
        first: Hold,
        *,
        elsewhere: bool,
        newcomer: bool,
    ) -> None:
        """A commit's answer and a read hang together, and end in either order."""
        session = self.rooms[room].session
        for what in (Hold.ANSWERS, Hold.READS):
            self.hang(what, room)
        self.post(file, 0, room, altered=False)
        self._live(0.0, asking=False)
        if elsewhere:
            self.post(file, 0, 1 - room, altered=False)
        self._live(wait_s, asking=False)
        if newcomer:
            self.stream(file, 1 + elsewhere, room, "key")
        session.answer(first)
        self._live(0.0, asking=False)
        session.go_on()
        # Before another event can make up for what was missed.
        self.pass_time(5.0)

    @step(1)
    def lose_database(self) -> None:
        """The database is away."""
        self.tables.away = True
        self.tables.ail()

    @step(4, first=tuple(Hold))
    def find_database(self, first: Hold = Hold.READS) -> None:
        """It is there again, and answers."""
        self.tables.ail()
        self.tables.away = False
        for room in self.rooms:
            room.session.go_on(first)

    @step(2, fate=(Fate.FAILED, Fate.ANSWER_LOST))
    def spoil_commit(self, fate: Fate) -> None:
        """The next commit is rolled back, or nobody hears that it was not."""
        self.tables.fate = fate

    @step(1, room=_ROOM, unread=(0, 5, 90, 100_000))
    def kill(self, room: int, unread: int) -> None:
        """A gateway is killed; another one starts with empty hands."""
        one = self.rooms[room]
        self.tables.ail()
        for client in self.clients + self.senders:
            if client.room is one:
                client.cut(unread)
        self._end(one)
        self.rooms[room] = Rooms(self.tables)

    @step(1, room=_ROOM)
    def drain(self, room: int) -> None:
        """A gateway is told to end, and does; another one starts."""
        one = self.rooms[room]
        self._live(STEP_S)
        here = [each for each in self.clients + self.senders if each.room is one]
        self.tables.ail()
        one.drain()
        self.loop.turn(DRAIN_LIMIT_S + STEP_S)
        self._end(one)
        for client in here:
            stalled = client.stalled
            client.look()
            if not (stalled or isinstance(client, Sender)):
                must(22, client.room is None, "a connection that stays")
                must(22, client.said_goodbye, "a connection that ends without a word")
            client.leave()
        self.rooms[room] = Rooms(self.tables)

    @step(1, lost=range(5))
    def fail_over(self, lost: int) -> None:
        """A standby takes over, which lacks the last commits."""
        # Whoever was answered has heard it by then.
        self._live(STEP_S)
        for sender in self.senders:
            sender.look()
        self.tables.fail_over(lost)
        for room in self.rooms:
            room.doorbells.clear()
            room.deaf = True

    @step(2, file=_FILE, back=range(1, 8))
    def prune(self, file: int, back: int) -> None:
        """Retention deletes an event that is not the newest."""
        self._file(file).prune(back)

    @step(8, seconds=(0.001, 0.005, 0.05, 0.15, 0.5, 1.5, 5.0, 12.0, 50.0))
    def pass_time(self, seconds: float) -> None:
        """Time passes; if it is long, whoever can be told has been told."""
        told = []
        if seconds > _CALM_S:
            hear = {one for one in self.rooms if one.session.reads and not one.deaf}
            told = [one for one in self.clients if one.room in hear - self._late]
        heads = self._heads()
        self._live(seconds)
        self._judge_delivery(told, heads)

    @step(3, seconds=(None, 0.0, 0.0007, STEP_S))
    def pace(self, seconds: float | None) -> None:
        """So much time is between steps; None: nobody has a turn."""
        self._pace_s = seconds

    @step(2)
    def settle(self) -> None:
        """All is well for a while: who reads must have been told everything."""
        self.find_database()
        self.tables.fate = Fate.ANSWERED
        for room in _ROOM:
            self.listen(room, "hearing")
        heads = self._heads()
        # First without a request that could wake anybody up.
        self._live(_CALM_S, asking=False)
        self._judge_delivery(self.clients, heads)
        rooms = cycle(_ROOM)
        for client in self.clients + self.senders:
            if client.room is None and not client.done:
                client.come(self.rooms[next(rooms)])
        self._live(_CALM_S)
        self._live(STEP_S)
        self._judge_delivery(self.clients, self._heads())
        for sender in self.senders:
            must(2, sender.done, "a report is not answered")

    @step(2, file=_FILE, cursor=("", *CURSORS))
    def compare(self, file: int, cursor: int | str) -> None:
        """All three ways of reading, at both gateways, from one cursor."""
        self.settle()
        one = self._file(file)
        self._agree(one, _cursor(one, cursor))
        self._any_order_ends_alike(one)

    def close(self) -> None:
        """Let everybody read on to the end and go, and look what is left."""
        try:
            self.settle()
            for client in self.clients:
                client.transport.make_room()
            self.settle()
            for file in self.files:
                for cursor in [0, *file.events, file.head + 1]:
                    self._agree(file, str(cursor))
                self._any_order_ends_alike(file)
            for client in self.clients:
                client.leave()
            self.loop.turn(STEP_S)
            for room in self.rooms:
                self._nobody_is_left(room)
                room.drain()
                self._end(room)
            must(10, not self.loop.complaints, self.loop.complaints)
            must(10, not self._errors.said, self._errors.said)
        finally:
            self.abandon()


def _cursor(file: File, chosen: int | str) -> str:
    if isinstance(chosen, str):
        return chosen
    given_out = [0, *sorted(file.events), file.head + 1]
    return str(given_out[max(0, len(given_out) - 2 - chosen)])
