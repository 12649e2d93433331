"""
File id -> subscribers: who waits for what, and who is behind.

A subscriber is a cursor, not a queue: the hub knows the last seq written to it
and the newest seq that was rung for its file.  Whoever is below is behind, and
the feed reads it forward from the table.  Nothing is buffered for anybody.

`ring` never awaits; nothing here does.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

from gateway.model import FileId, Reading, Seq

CROWD = 4
"""So many that fall behind together are not the last ones."""

MAX_PAGES = 100
"""
That are read at a time: a client with a cursor is given a page of what is after it.
Whoever has none needs one event, and does not wait for those who need more.
"""


class Subscriber:
    """
    One waiting client and one file: a cursor.

    Attributes:
        file_id: What it waits for.
        cursor: Last seq written to it, or `CURRENT` or `UNKNOWN` of
            `protocol.cursor` until its first reading.
        fresh: Whether it has had no reading yet.  The first one is the table's:
            doorbells that rang for its file before it came were not heard.
        stalled: Whether it can take nothing now.  It is left alone, and says
            `Hub.resume` when it can again.
    """

    __slots__ = ("cursor", "file_id", "fresh", "stalled")

    def __init__(self, file_id: FileId, cursor: int) -> None:
        self.file_id = file_id
        self.cursor = cursor
        self.fresh = True
        self.stalled = False

    def deliver(self, reading: Reading | None) -> None:
        """
        Take what the table holds beyond the cursor, and move the cursor.

        Args:
            reading: None when there is no such file.
        """
        raise NotImplementedError

    def end(self, reason: str) -> None:
        """Say goodbye; called once, before the hub lets go of it."""
        raise NotImplementedError


class _File:
    """
    The subscribers of one file, and the newest seq known of it.

    Attributes:
        head: As rung, or as read since.
        rung_at: Which round of readings was under way at the last ring.
    """

    __slots__ = ("head", "rung_at", "subscribers")

    def __init__(self) -> None:
        self.head = 0
        self.rung_at = 0
        self.subscribers: set[Subscriber] = set()


class Hub:
    """
    All waiting clients of one process.

    Attributes:
        on_held: Called with a file that is waited for from now on, or no more.
    """

    def __init__(self) -> None:
        self.draining = False
        self.on_held: Callable[[FileId], None] = lambda _: None
        self._files: dict[FileId, _File] = {}
        self._behind: dict[Subscriber, None] = {}
        self._someone_is_behind = asyncio.Event()
        self._subscribers = 0
        self._rounds = 0

    def __len__(self) -> int:
        return self._subscribers

    def waiting_for(self, file_id: FileId) -> int:
        """Count the subscribers of one file."""
        file = self._files.get(file_id)
        return len(file.subscribers) if file is not None else 0

    def add(self, subscriber: Subscriber) -> None:
        """Register a subscriber; its first reading is due at once."""
        file = self._files.get(subscriber.file_id)
        if file is None:
            file = self._files[subscriber.file_id] = _File()
            self.on_held(subscriber.file_id)
        file.subscribers.add(subscriber)
        self._subscribers += 1
        self._fall_behind((subscriber,))

    def remove(self, subscriber: Subscriber) -> None:
        """Forget a subscriber; doing it twice is fine."""
        file = self._files.get(subscriber.file_id)
        if file is None or subscriber not in file.subscribers:
            return
        file.subscribers.remove(subscriber)
        self._behind.pop(subscriber, None)
        self._subscribers -= 1
        if not file.subscribers:
            del self._files[subscriber.file_id]
            self.on_held(subscriber.file_id)

    def ring(self, heads: Iterable[tuple[FileId, Seq]]) -> None:
        """Learn which files have new events, and up to which seq."""
        for file_id, seq in heads:
            file = self._files.get(file_id)
            if file is not None:
                file.head = max(file.head, seq)
                file.rung_at = self._rounds
                self._fall_behind(one for one in file.subscribers if one.cursor < seq)

    def hand_out(self, file_id: FileId, reading: Reading) -> None:
        """Deliver at once to all who stand right before a reading; ring the rest."""
        file = self._files.get(file_id)
        if file is None:
            return
        if reading.head < file.head:
            # The table holds more than this.
            self.ring([(file_id, Seq(file.head))])
            return
        file.head = reading.head
        file.rung_at = self._rounds
        after = reading.events[0].seq - 1
        late = []
        for one in tuple(file.subscribers):
            if one.cursor == after and not (one.stalled or one.fresh):
                self._behind.pop(one, None)
                one.deliver(reading)
            elif one.cursor < reading.head:
                late.append(one)
        self._fall_behind(late)

    def resume(self, subscriber: Subscriber) -> None:
        """Hear that a subscriber can take events again, wherever it stands."""
        subscriber.stalled = False
        file = self._files.get(subscriber.file_id)
        if (
            file is not None
            and subscriber in file.subscribers
            and (subscriber in self._behind or subscriber.cursor < file.head)
        ):
            self._fall_behind((subscriber,))

    def mistrust(self, heads: Mapping[FileId, Seq]) -> None:
        """
        Learn which files have lost events: whoever has seen more is reset.

        Who stands just there is asked about as well: what was lost may have
        re-opened a file that has ended now.
        """
        for file_id, seq in heads.items():
            file = self._files.get(file_id)
            if file is not None:
                self._fall_behind(one for one in file.subscribers if one.cursor >= seq)

    def held(self) -> Collection[FileId]:
        """Name the files that are waited for."""
        return self._files.keys()

    def seen(
        self, file_ids: Iterable[FileId] | None = None
    ) -> Mapping[FileId, tuple[Seq, Seq]]:
        """
        Name the files that are waited for, the lowest and highest seq seen of each.

        Args:
            file_ids: Only these; all when left out.
        """
        seen = {}
        for file_id in self._files if file_ids is None else file_ids:
            file = self._files.get(file_id)
            if file is None:
                continue
            cursors = [max(0, one.cursor) for one in file.subscribers]
            seen[file_id] = Seq(min(cursors)), Seq(max(cursors))
        return seen

    async def behind(
        self, *, gather_s: float = 0, gather_crowd_s: float = 0
    ) -> list[Subscriber]:
        """
        Wait until someone is behind; take those who are and are not stalled.

        Of those who have a cursor, the readers of `MAX_PAGES` pages are taken, and
        the others next time.

        Args:
            gather_s: To wait for others, from the first one.
            gather_crowd_s: To wait longer if `CROWD` are behind by then.
        """
        taken: list[Subscriber] = []
        while not taken:
            await self._someone_is_behind.wait()
            await asyncio.sleep(gather_s)
            if sum(not one.stalled for one in self._behind) >= CROWD:
                await asyncio.sleep(gather_crowd_s)
            self._someone_is_behind.clear()
            taken = self._who_is_read_next()
        # Who is stalled stays behind: it may not even have had its first reading.
        for one in taken:
            del self._behind[one]
        self._rounds += 1
        return taken

    def _who_is_read_next(self) -> list[Subscriber]:
        taken = []
        pages: set[tuple[FileId, int]] = set()
        for one in self._behind:
            if one.stalled:
                continue
            if one.cursor >= 0 and (page := (one.file_id, one.cursor)) not in pages:
                if len(pages) == MAX_PAGES:
                    self._someone_is_behind.set()
                    continue
                pages.add(page)
            taken.append(one)
        return taken

    def put_back(self, subscribers: Iterable[Subscriber]) -> None:
        """Return those whose reading failed, unless they have gone since."""
        self._fall_behind(
            one
            for one in subscribers
            if (file := self._files.get(one.file_id)) and one in file.subscribers
        )

    def deliver(self, subscriber: Subscriber, reading: Reading | None) -> None:
        """Hand a reading to a subscriber, unless it has gone since it was asked."""
        file = self._files.get(subscriber.file_id)
        if file is None or subscriber not in file.subscribers:
            return
        if subscriber.stalled:
            self._behind[subscriber] = None
            return
        subscriber.fresh = False
        if reading is None:
            subscriber.deliver(None)
            return
        if reading.head > file.head:
            # The doorbell for it was lost, and not only for this subscriber.
            self.ring([(subscriber.file_id, reading.head)])
        elif file.rung_at < self._rounds:
            # What was rung before this reading was asked for is in it.  If not,
            # the table has lost events (a failover, a restore) and is still the
            # truth; waiting for them would read in a circle.
            is_back = reading.head < file.head
            file.head = reading.head
            if is_back:
                self.mistrust({subscriber.file_id: reading.head})
        if reading.head == file.head:
            self._behind.pop(subscriber, None)
        subscriber.deliver(reading)
        if subscriber.cursor < file.head and not subscriber.stalled:
            self.put_back((subscriber,))

    def drain(self) -> None:
        """Say goodbye to everybody; whoever comes now is refused."""
        self.draining = True
        for file in list(self._files.values()):
            for subscriber in list(file.subscribers):
                subscriber.end("drain")

    def _fall_behind(self, subscribers: Iterable[Subscriber]) -> None:
        # Whoever is behind already keeps its place: who came first is read first.
        self._behind.update(dict.fromkeys(subscribers))
        if self._behind:
            self._someone_is_behind.set()
