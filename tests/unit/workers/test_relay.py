import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace
from redis.exceptions import RedisError

from gateway.model import FileId, Seq
from gateway.protocol import relayed
from gateway.store.history import MAX_PAGE_BYTES
from tests.unit.gateway.fakes import FILE, FakeHistory, settle
from workers import relay
from workers.relay import MAX_PUBLISH_FILES, MAX_PUBLISHED, Relay

STATE_BYTES = 600
PAGE = MAX_PAGE_BYTES // STATE_BYTES + 1
"""Events of that size in a page of `History.read`."""


class Numbered(FakeHistory):
    """A history whose states are their seqs."""

    async def read(self, cursors):
        readings = await super().read(cursors)
        return {
            pair: replace(
                one,
                events=tuple(replace(event, data=event.seq) for event in one.events),
            )
            for pair, one in readings.items()
        }


class FakeRedis:
    """
    A Redis with subscribers of the old design.

    Attributes:
        subscribed: How many there are to each channel.
        heard: What was published to them, in order.
        away: Whether every command fails.
        lease: Who has it, if anybody.
    """

    def __init__(self):
        self.subscribed = Counter()
        self.heard = []
        self.away = False
        self.lease = None
        self.connection_pool = self

    async def disconnect(self, *, inuse_connections):
        pass

    def pipeline(self, *, transaction):
        return FakePipeline(self)

    def answer(self, value):
        if self.away:
            raise RedisError("is away")
        return value

    async def set(self, _, name, **__):
        if self.answer(self.lease) is not None:
            return False
        self.lease = name
        return True

    async def get(self, _):
        return self.answer(self.lease)

    async def pexpire(self, *_):
        return self.answer(True)

    async def publish(self, channel, data):
        if self.answer(self.subscribed[channel]):
            self.heard.append((channel, data))


class FakePipeline:
    def __init__(self, server):
        self._server = server
        self._commands = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    def publish(self, channel, data):
        self._commands.append(lambda: self._server.publish(channel, data))

    def pubsub_numsub(self, *channels):
        async def count():
            return [(one, self._server.subscribed[one]) for one in channels]

        self._commands.append(count)

    def pubsub_numpat(self):
        self._commands.append(lambda: asyncio.sleep(0, 0))

    def info(self, _):
        self._commands.append(lambda: asyncio.sleep(0, {}))

    async def execute(self):
        self._server.answer(None)
        return [await one() for one in self._commands]


class Place:
    """
    A relay at work, its table and its Redis.

    Attributes:
        history: Its table.
        server: Its Redis.
        relay: It.
    """

    def __init__(self, heads):
        self.history = Numbered(heads, page=PAGE)
        self.server = FakeRedis()
        self.relay = Relay(self.server, self.history, self._identity)

    async def _identity(self):
        return "database"

    async def happens(self, head, file_id=FILE):
        """Commit up to there, and hear it."""
        self.history.heads[file_id] = head
        self.relay.ring([(FileId(file_id), Seq(head))])
        await settle()

    async def beats(self):
        listening = asyncio.Event()
        listening.set()
        beating = asyncio.ensure_future(self.relay.beat(listening))
        await settle()
        beating.cancel()
        await settle()

    def seqs(self, file_id=FILE):
        return [data for channel, data in self.server.heard if channel == file_id]


@pytest.fixture
async def at_work(monkeypatch):
    """Start a relay that leads, over files with the heads named."""
    monkeypatch.setattr(relay, "RETRY_S", 0.0)

    @asynccontextmanager
    async def start(heads=None):
        place = Place(heads or {FILE: 1})
        works = [place.relay.pass_on(), place.relay.publish()]
        working = [asyncio.ensure_future(one) for one in works]
        await place.beats()
        yield place
        for one in working:
            assert not one.done()
            one.cancel()

    return start


async def test_who_comes_late_hears_the_end_and_no_backlog(at_work):
    async with at_work() as place:
        place.server.subscribed[FILE] = 1
        await place.happens(2)
        place.server.subscribed[FILE] = 0
        for seq in range(3, 40):
            await place.happens(seq)
        place.server.subscribed[FILE] = 1
        await place.happens(40)

    assert [2, 40] == place.seqs()


async def test_more_than_a_page_is_published_to_its_end(at_work):
    async with at_work() as place:
        place.server.subscribed[FILE] = 1
        await place.happens(2)
        await place.happens(4 * PAGE)

    assert list(range(2, 4 * PAGE + 1)) == place.seqs()


async def test_what_rings_first_is_published_with_what_rings_beside_it(at_work):
    async with at_work() as place:
        place.server.subscribed[FILE] = 1
        place.history.heads[FILE] = 9
        place.relay.ring((FILE, Seq(seq)) for seq in range(5, 10))
        await settle()

    assert [5, 6, 7, 8, 9] == place.seqs()


async def test_a_file_with_many_pages_holds_up_no_other(at_work):
    others = [f"f-{number}" for number in range(2, MAX_PUBLISH_FILES + 20)]
    async with at_work() as place:
        for file_id in (FILE, *others, "deleted"):
            place.server.subscribed[file_id] = 1
            await place.happens(2, file_id)
        del place.history.heads["deleted"]
        place.server.heard.clear()
        place.history.heads |= dict.fromkeys(others, 3) | {FILE: 4 * PAGE}
        rung = place.history.heads | {"deleted": 3}
        place.relay.ring((FileId(one), Seq(head)) for one, head in rung.items())
        await settle()
        await settle()

    assert list(range(3, 4 * PAGE + 1)) == place.seqs()
    assert [[3]] * len(others) == [place.seqs(one) for one in others]
    assert {*others, FILE} == {channel for channel, _ in place.server.heard}
    ends = place.server.heard.index((FILE, 4 * PAGE))
    assert all(place.server.heard.index((one, 3)) < ends for one in others)


async def test_what_is_pruned_is_passed_over_and_the_end_is_published(at_work):
    """Before it is read at all, and from between two pages."""
    async with at_work() as place:
        place.server.subscribed[FILE] = 1
        await place.happens(2)
        place.history.pruned[FILE] = 10
        await place.happens(20)

        def prune():
            place.history.pruned[FILE] = 20 + 2 * PAGE

        place.history.during_read = prune
        await place.happens(20 + 4 * PAGE)

    assert [2, 20, *range(21, 21 + PAGE), 20 + 4 * PAGE] == place.seqs()


async def test_what_a_restore_has_taken_back_is_published_anew(at_work):
    async with at_work() as place:
        place.server.subscribed[FILE] = 1
        await place.happens(9)
        await place.happens(4)
        await place.happens(5)

    assert [9, 4, 5] == place.seqs()


@pytest.mark.parametrize("known", [True, False])
async def test_what_rings_while_redis_is_away_is_published_when_it_is_back(
    at_work, known
):
    async with at_work() as place:
        place.server.subscribed[FILE] = 1
        if known:
            await place.happens(2)
        place.server.away = True
        await place.happens(3)
        await place.beats()
        await place.happens(4)
        place.server.away = False
        await place.beats()

    assert [2, 3, 4][not known :] == place.seqs()


async def test_what_was_not_heard_is_looked_for(at_work):
    async with at_work() as place:
        place.server.subscribed[FILE] = 1
        await place.happens(2)
        place.history.heads[FILE] = 4
        await place.relay.look()
        await place.beats()
        looks = len(place.history.looks)
        await place.beats()

    assert [2, 3, 4] == place.seqs()
    assert looks == len(place.history.looks), "nothing was lost since"


async def test_what_cannot_be_looked_for_is_looked_for_later_and_costs_no_beat(
    at_work, caplog
):
    async with at_work() as place:
        place.server.subscribed.update({FILE: 1, relayed.BEATS: 1})
        await place.happens(2)
        place.history.heads[FILE] = 4
        place.history.away = True
        await place.relay.look()
        await place.beats()
        await place.beats()
        beats = place.seqs(relayed.BEATS)
        place.history.away = False
        await settle()

    assert 2 == len(beats)
    assert 1 == len(set(beats)), "a new term has all gateways look"
    assert [2, 3, 4] == place.seqs()
    assert 1 == caplog.text.count("published late: the database is away")


async def test_no_beat_waits_for_a_look(at_work, monkeypatch):
    async with at_work() as place:
        place.server.subscribed[relayed.BEATS] = 1
        await place.happens(2)
        monkeypatch.setattr(place.history, "moved", lambda _: asyncio.sleep(60))
        await place.relay.look()
        await place.beats()

    assert 1 == len(place.seqs(relayed.BEATS))


async def test_what_cannot_be_read_is_published_later(at_work, caplog):
    async with at_work() as place:
        place.server.subscribed[FILE] = 1
        place.history.away = True
        await place.happens(2)
        await place.happens(3)
        assert [] == place.seqs()
        place.history.away = False
        await settle()

    assert [2, 3] == place.seqs()
    assert 1 == caplog.text.count("1 files are published late: the database is away")


async def test_what_another_relay_publishes_is_not_published_again(at_work):
    async with at_work() as place:
        place.server.subscribed[FILE] = 1
        await place.happens(2)
        place.server.lease = "another"
        await place.beats()
        await place.happens(30)
        await place.beats()
        place.server.lease = None
        await place.beats()
        await place.happens(31)

    assert [2, 31] == place.seqs()


async def test_what_is_remembered_is_bounded(at_work):
    async with at_work() as place:
        heads = {f"f-{number}": 1 for number in range(MAX_PUBLISHED + 5)}
        place.relay.ring((FileId(one), Seq(head)) for one, head in heads.items())
        await settle()
        assert MAX_PUBLISHED == len(place.relay._published)
        assert list(heads)[-1] in place.relay._published
