"""
Two gateways and everybody around them: how it goes on, and what must hold.

The gateways share the tables.  The model is what was committed, file by file.
`bench.invariants.machine` has the steps after each of which it is judged.
"""

import logging
import random
from collections.abc import Sequence
from typing import Any

import msgspec

from bench.invariants.clients import (
    Client,
    Get,
    Place,
    Poll,
    Sender,
    Stream,
    Token,
    said,
)
from bench.invariants.rooms import API_KEY, TOKEN_SECRET, Rooms, clock_of
from bench.invariants.rules import must
from bench.invariants.tables import File, Tables
from bench.invariants.turned_loop import TurnedLoop
from gateway import lifecycle
from gateway.auth import AUDIENCE
from gateway.model import FileId, FileRecord, FileState, Seq
from gateway.protocol import jws

MAX_CLIENTS = 18
STEP_S = 0.02

_log = logging.getLogger("reelready")


class World:
    """Two gateways, their tables and everybody around them."""

    def __init__(self) -> None:
        self.loop = TurnedLoop()  # type: ignore[abstract]
        self.loop.begin()
        self._clock = clock_of(self.loop)
        self._clock.__enter__()
        self._errors = _Errors()
        self._level = _log.level
        _log.setLevel(logging.ERROR)
        _log.addHandler(self._errors)
        self.tables = Tables(self.loop)
        self.place = Place(self.tables, self.loop.time)
        self.rooms = [Rooms(self.tables), Rooms(self.tables)]
        self.clients: list[Client] = []
        self.senders: list[Sender] = []
        self.files: list[File] = []
        self._late: set[Rooms] = set()

    def abandon(self) -> None:
        """Leave the thread as it was."""
        _log.removeHandler(self._errors)
        _log.setLevel(self._level)
        self._clock.__exit__(None, None, None)
        self.loop.end()

    def _live(self, seconds: float, *, asking: bool = True) -> None:
        for some_s in (0.0, seconds, 0.0):
            for room in self.rooms:
                if room not in self._late:
                    room.hear()
            self.loop.turn(some_s)
        for room in self.rooms:
            room.must_work()
        for client in self.clients + self.senders:
            client.look()
            if asking:
                client.go_on()
            if client.done:
                client.leave()
        self.clients = [one for one in self.clients if not one.done]
        self.senders = [one for one in self.senders if not one.done]
        self.loop.turn()

    def _heads(self) -> dict[FileId, int]:
        return {one.id: one.head for one in self.files}

    def _judge_delivery(
        self, clients: Sequence[Client], heads: dict[FileId, int]
    ) -> None:
        """Judge whether whoever reads was told all that there was."""
        someone_stalls = any(one.stalled for one in self.clients)
        for client in clients:
            if client.room is not None and not client.stalled:
                client.must_be_current(17 if someone_stalls else 1, heads)

    def _judge(self) -> None:
        must(10, not self.loop.complaints, self.loop.complaints)
        must(10, not self._errors.said, self._errors.said)
        for room in self.rooms:
            legs = sum(one.legs for one in self.clients if one.room is room)
            held = room.held()
            must(16, max(held["subscribers"], held["behind"]) <= legs, (held, legs))

    def _agree(self, file: File, cursor: str) -> None:
        """Read by stream, long-poll and GET from one cursor, and compare."""
        etag = f'"{cursor}"' if cursor.isascii() and cursor else ""
        token = self._token("key", [file])
        told = []
        for room in self.rooms:
            stream = Stream(self.place, [file], token, cursor)
            poll = Poll(self.place, file, token, cursor, 0)
            whole = Get(self.place, file, token, etag, 0)
            readers: list[Client] = [stream, poll, whole]
            for each in readers:
                each.come(room)
            for _ in range(2 + len(file.seqs)):
                self.loop.turn(0.01)
                for each in readers:
                    each.look()
                if not poll.asks and poll.story.cursor == file.head:
                    break
                poll.go_on()
            told += [stream.told(file.id), poll.story.told]
            must(13, whole.story.cursor == file.head, (whole.story.told, file.head))
            for each in readers:
                each.leave()
        first = told[0]
        must(13, all(first == one for one in told), (cursor, told))
        if cursor:
            asked = said(cursor)
            broken = file.is_broken_after(asked)
            must(10 if broken else 9, first == file.told_after(asked), (cursor, first))

    def _any_order_ends_alike(self, file: File) -> None:
        """Let the same reports arrive in another order, without the store."""
        said = [report for _, report in file.said]
        record: FileRecord = file.first
        for report in random.sample(said * 2, 2 * len(said)):
            record = lifecycle.apply(record, report, self.tables.now()) or record
        one, other = _essence(record.state), _essence(file.record.state)
        must(8, one == other or not file.terminal, (said, one, other))
        must(8, (one.status, one.attempt) == (other.status, other.attempt), said)

    def _nobody_is_left(self, room: Rooms) -> None:
        left = room.held()
        must(16, not any(left.values()), left)

    def _end(self, room: Rooms) -> None:
        tasks = room.stop()
        self._late.discard(room)
        self.loop.turn()
        must(16, all(one.done() for one in tasks), tasks)

    def _come(self, client: Client, room: int) -> None:
        if len(self.clients) < MAX_CLIENTS:
            self.clients.append(client)
            client.come(self.rooms[room])

    def _file(self, number: int) -> File:
        return self.files[number % len(self.files)]

    def _token(self, kind: str, files: Sequence[File]) -> Token:
        ids = [one.id for one in files]

        def make() -> tuple[str, float]:
            if kind == "key":
                return API_KEY, 0
            if kind == "brief":
                until_s = self.loop.time() + 7
                return self._sign({"files": ids, "exp": until_s}), until_s
            whose = {"owner": files[0].owner} if kind == "owner" else {"files": ids}
            return self._sign({**whose, "exp": 1e9}), 0

        return make

    def _sign(self, claims: dict[str, Any]) -> str:
        return jws.sign({"aud": AUDIENCE, **claims}, TOKEN_SECRET.encode())


class _Errors(logging.Handler):
    """Keeps what the gateway logs as errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


def _essence(state: FileState) -> FileState:
    """Without what depends on how many changes it took, and when."""
    return msgspec.structs.replace(state, seq=Seq(0), updated_at=state.created_at)
