"""
The relay: it LISTENs once for many gateways, and rings each file's own channel.

Postgres hands every notification to every session that LISTENs; with many gateways
that is what it does all day.  A relay hears them once, and Redis or Valkey hands a
file's doorbell to the gateways that hold the file.  Doorbells only: the table stays
the truth, and what is lost on the way costs a delay.

Of several relays one works: the one with the lease.  Two at a time, for as long as
it takes to notice, ring twice, which changes nothing.
"""

import asyncio
import logging
import secrets
import signal
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import islice

import redis.asyncio as redis
import uvloop
from redis.exceptions import MovedError, RedisError

from gateway.config import PREFIX, Config
from gateway.errors import ConfigError, UnavailableError
from gateway.model import FileId, Seq
from gateway.protocol import relayed
from gateway.store.history import History
from gateway.store.pool import Pool, expect_primaries, why
from gateway.telemetry import Metrics, start_logging
from workers.listener import Listener
from workers.migrate import note_schema
from workers.redis_listener import beside, connect, goes_on

BEAT_INTERVAL_S = 1.0
LEASE_MS = 5000
MAX_PUBLISHED = 10_000
"""Files of which it is known what was published last."""

MAX_PUBLISH_FILES = 100
"""Of one reading, which has a page of each; then come the others, then more of these."""

RETRY_S = 1.0
"""From what could not be published to trying it again."""

AWAY = (RedisError, OSError, TimeoutError)
"""What passes: the server is away, is a replica, is full, is starting."""

_NO_SAFETY_LOOK_S = 86_400.0
_AWAY = (
    "%sREDIS_URL: cannot be used, so gateways look instead of being rung: %s; it has to"
    " lead to a Redis or Valkey that is up and takes writes"
)

_log = logging.getLogger("reelready.relay")


class Relay:
    """
    Passes doorbells on.

    Args:
        database: Names the database whose doorbells they are.
        history: For clients of the design before this one, which are sent events.
    """

    def __init__(
        self,
        client: redis.Redis,
        history: History,
        database: Callable[[], Awaitable[str]],
    ) -> None:
        self._named_redis = self._redis = client
        self._history = history
        self._database = database
        self._name = secrets.token_hex(8)
        self._named = ""
        self._named_at = -1
        self._losses = 0
        self._look_due = self._looked_at = 0
        self._leads = False
        self._others_may_hear = False
        self._was = ""
        self._rung: dict[FileId, Seq] = {}
        self._something_rang = asyncio.Event()
        self._wanted: dict[FileId, Seq] = {}
        self._something_is_wanted = asyncio.Event()
        self._published: OrderedDict[FileId, Seq] = OrderedDict()

    def ring(self, heads: Iterable[tuple[FileId, Seq]]) -> None:
        """Hear doorbells of Postgres."""
        for file_id, seq in heads:
            if file_id not in self._published:
                self._remember(file_id, Seq(seq - 1))
            self._rung[file_id] = max(seq, self._rung.get(file_id, Seq(0)))
        self._something_rang.set()

    async def look(self) -> None:
        """Hear that doorbells may have been lost: whoever waits has to look."""
        self._losses += 1

    async def pass_on(self) -> None:
        """Ring at Redis whatever rang, until cancelled."""
        while goes_on():
            await self._something_rang.wait()
            self._something_rang.clear()
            rung, self._rung = self._rung, {}
            if not self._leads:
                continue
            try:
                wanted = await self._ring_all(rung)
            except AWAY as error:
                self._losses += 1
                await self._lose(error)
                continue
            for file_id in rung.keys() - wanted.keys():
                self._remember(file_id, rung[file_id])
            if wanted:
                self._wanted.update(wanted)
                self._something_is_wanted.set()

    async def publish(self) -> None:
        """Publish events to who subscribes to a file by its id, until cancelled."""
        fails = False
        while goes_on():
            await self._something_is_wanted.wait()
            turn = dict(islice(self._wanted.items(), MAX_PUBLISH_FILES))
            for file_id in turn:
                del self._wanted[file_id]
            more = turn
            try:
                more = await self._publish(turn)
                await self._look_for_old_clients()
                fails = False
            except (UnavailableError, *AWAY) as error:
                if not fails:
                    late = len(more or self._published)
                    _log.warning("%d files are published late: %s", late, error)
                fails = True
                await asyncio.sleep(RETRY_S)
            for file_id, head in more.items():
                self._wanted.setdefault(file_id, head)
            if not self._wanted and self._looked_at == self._look_due:
                self._something_is_wanted.clear()

    async def beat(self, listening: asyncio.Event) -> None:
        """Say that doorbells are heard and passed on, until cancelled."""
        while goes_on():
            await listening.wait()
            try:
                await self._beat_once()
            except UnavailableError as error:
                self._leads = False
                reason = why(error)
                if self._is_news(reason):
                    _log.warning("no beat: %s", reason)
            except MovedError as moved:
                self._leads = False
                # The lease is with another node of a cluster; each rings for all.
                owner = beside(self._named_redis, moved.host, moved.port)
                await self._use(owner)
            except AWAY as error:
                self._leads = False
                await self._lose(error)
            await asyncio.sleep(BEAT_INTERVAL_S)

    async def give_up(self) -> None:
        """Leave the lease to another relay."""
        if self._leads:
            self._leads = False
            with suppress(*AWAY):
                await self._redis.delete(relayed.lease(self._named))
        await self._use(self._named_redis)

    async def _lose(self, error: BaseException) -> None:
        """Begin again with the named one."""
        if self._is_news("away"):
            _log.warning(_AWAY, PREFIX, str(error) or type(error).__name__)
        await self._use(self._named_redis)

    async def _use(self, client: redis.Redis) -> None:
        """Let go of all connections: what ended one has ended the others."""
        with suppress(*AWAY):
            await self._redis.connection_pool.disconnect(inuse_connections=False)
        self._redis = client

    def _is_news(self, what: str) -> bool:
        """Tell whether it was otherwise before; only then is it logged."""
        was, self._was = self._was, what
        return was != what

    async def _beat_once(self) -> None:
        if self._named_at != self._losses:
            named_at = self._losses
            self._named = await self._database()
            self._named_at = named_at
        leads = await self._has_lease()
        if leads and not self._leads:
            # Another one may have worked since.
            self._losses += 1
        if leads:
            self._others_may_hear = await self._has_others()
        self._leads = leads
        if not leads:
            # Another one publishes, and how far is not known here.
            self._published.clear()
        else:
            # No beat waits for old clients: all gateways would look meanwhile.
            self._look_due = self._losses
            self._something_is_wanted.set()
            term = f"{self._name}-{self._losses}"
            await self._redis.publish(relayed.BEATS, relayed.beat(self._named, term))
        if self._is_news("leads" if leads else "waits"):
            if leads:
                _log.info("relaying")
            else:
                _log.info("another relay works, this one waits")

    async def _look_for_old_clients(self) -> None:
        """Ring for what was not heard, or not passed on: they cannot look themselves."""
        looked_at = self._look_due
        if looked_at == self._looked_at:
            return
        seen = {file_id: (seq, seq) for file_id, seq in self._published.items()}
        if seen:
            self.ring((await self._history.moved(seen)).items())
        self._looked_at = looked_at

    async def _has_lease(self) -> bool:
        lease = relayed.lease(self._named)
        if await self._redis.set(lease, self._name, nx=True, px=LEASE_MS):
            return True
        if await self._redis.get(lease) != self._name:
            return False
        return bool(await self._redis.pexpire(lease, LEASE_MS))

    async def _has_others(self) -> bool:
        """Whether what is published reaches servers whose subscribers ours does not count."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            _ = pipeline.info("replication")
            _ = pipeline.info("cluster")
            replication, cluster = await pipeline.execute()
        return bool(
            replication.get("connected_slaves") or cluster.get("cluster_enabled")
        )

    async def _ring_all(self, rung: dict[FileId, Seq]) -> dict[FileId, Seq]:
        """Ring; returns the files whose events somebody may want as they are."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for file_id, seq in rung.items():
                _ = pipeline.publish(relayed.channel(file_id), str(seq))
            _ = pipeline.pubsub_numsub(*rung)
            _ = pipeline.pubsub_numpat()
            *_, numbers, patterns = await pipeline.execute()
        if patterns or self._others_may_hear:
            return rung
        return {FileId(one): rung[FileId(one)] for one, number in numbers if number}

    async def _publish(self, wanted: dict[FileId, Seq]) -> dict[FileId, Seq]:
        """Publish a page of each file; returns the files that have more."""
        if not wanted:
            return {}
        readings = await self._history.read(
            [
                (file_id, self._published.get(file_id, Seq(head - 1)))
                for file_id, head in wanted.items()
            ]
        )
        async with self._redis.pipeline(transaction=False) as pipeline:
            for (file_id, _), reading in readings.items():
                for event in reading.events:
                    _ = pipeline.publish(file_id, event.data)
            await pipeline.execute()
        more = {}
        for (file_id, _), reading in readings.items():
            last = reading.events[-1].seq if reading.events else reading.head
            self._remember(file_id, last)
            if last < reading.head:
                more[file_id] = reading.head
        return more

    def _remember(self, file_id: FileId, published: Seq) -> None:
        """Note up to where a file is published, or nobody was there to hear it."""
        self._published[file_id] = published
        self._published.move_to_end(file_id)
        if len(self._published) > MAX_PUBLISHED:
            self._published.popitem(last=False)


def run(config: Config) -> None:
    """
    Relay in this process until SIGINT or SIGTERM; blocks.

    Raises:
        ConfigError: No Redis is named, or Postgres is a standby.
    """
    if not config.redis_url:
        raise ConfigError(f"{PREFIX}REDIS_URL", "is not set, so there is no relaying")
    start_logging()
    uvloop.run(_relay(config))


async def _relay(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with relaying(config, on_end=stop.set):
        await stop.wait()


@asynccontextmanager
async def relaying(
    config: Config, *, on_end: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """
    Relay for the length of the block.

    Args:
        on_end: Called when it cannot go on; the end of the block says why.
    """
    await expect_primaries(config)
    await note_schema(config.database_url)
    async with (
        Pool(config.database_url, max_connections=2) as pool,
        connect(config.redis_url) as client,
    ):
        relay = Relay(client, History(pool), pool.identity)
        listener = Listener(
            config.listen_database_url,
            setting=config.listen_setting,
            ring=relay.ring,
            look=relay.look,
            notify=pool.notify,
            metrics=Metrics(),
            safety_look_s=_NO_SAFETY_LOOK_S,
        )
        works = (
            listener.run(),
            relay.pass_on(),
            relay.publish(),
            relay.beat(listener.listening),
        )
        working = [asyncio.ensure_future(one) for one in works]
        for one in working:
            one.add_done_callback(lambda _: on_end())
        try:
            yield
        finally:
            for one in working:
                one.cancel()
            ends = await asyncio.gather(*working, return_exceptions=True)
            await relay.give_up()
    for end in ends:
        if isinstance(end, Exception):
            raise end
