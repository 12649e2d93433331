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
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import redis.asyncio as redis
import uvloop
from redis.exceptions import RedisError

from gateway.config import PREFIX, Config
from gateway.errors import ConfigError, UnavailableError
from gateway.model import FileId, Seq
from gateway.protocol import cursor, relayed
from gateway.store.history import History
from gateway.store.pool import Pool, refuse_standby
from gateway.telemetry import Metrics, start_logging
from workers.listener import Listener
from workers.redis_listener import connect

BEAT_INTERVAL_S = 1.0
LEASE_MS = 5000
_NO_SAFETY_LOOK_S = 86_400.0
_AWAY = (RedisError, OSError, TimeoutError)

_log = logging.getLogger("reelready.relay")


class Relay:
    """
    Passes doorbells on.

    Args:
        history: For clients of the design before this one, which are sent the event.
    """

    def __init__(self, client: redis.Redis, history: History) -> None:
        self._redis = client
        self._history = history
        self._name = secrets.token_hex(8)
        self._term = ""
        self._leads = False
        self._rung: dict[FileId, Seq] = {}
        self._something_rang = asyncio.Event()

    def ring(self, heads: Iterable[tuple[FileId, Seq]]) -> None:
        """Hear doorbells of Postgres."""
        for file_id, seq in heads:
            self._rung[file_id] = max(seq, self._rung.get(file_id, Seq(0)))
        self._something_rang.set()

    async def look(self) -> None:
        """Hear that doorbells may have been lost: whoever waits has to look."""
        self._term = ""

    async def pass_on(self) -> None:
        """Ring at Redis whatever rang, until cancelled."""
        while True:
            await self._something_rang.wait()
            self._something_rang.clear()
            rung, self._rung = self._rung, {}
            if not self._leads:
                continue
            try:
                listened_to = await self._publish(rung)
            except _AWAY as error:
                _log.warning("cannot ring: %s", str(error) or type(error).__name__)
                self._term = ""
                continue
            if listened_to:
                with suppress(UnavailableError, *_AWAY):
                    await self._publish_events(listened_to)

    async def beat(self, listening: asyncio.Event) -> None:
        """Say that doorbells are heard and passed on, until cancelled."""
        while True:
            await listening.wait()
            try:
                await self._beat()
            except _AWAY as error:
                if self._leads:
                    _log.warning(
                        "Redis is away: %s", str(error) or type(error).__name__
                    )
                self._leads = False
            await asyncio.sleep(BEAT_INTERVAL_S)

    async def give_up(self) -> None:
        """Leave the lease to another relay."""
        if self._leads:
            self._leads = False
            with suppress(*_AWAY):
                await self._redis.delete(relayed.LEASE)

    async def _beat(self) -> None:
        leads = await self._has_lease()
        if leads and not self._leads:
            _log.info("relaying")
            self._term = ""
        self._leads = leads
        if leads:
            self._term = self._term or secrets.token_hex(8)
            await self._redis.publish(relayed.BEATS, self._term)

    async def _has_lease(self) -> bool:
        if await self._redis.set(relayed.LEASE, self._name, nx=True, px=LEASE_MS):
            return True
        if await self._redis.get(relayed.LEASE) != self._name:
            return False
        return bool(await self._redis.pexpire(relayed.LEASE, LEASE_MS))

    async def _publish(self, rung: dict[FileId, Seq]) -> dict[FileId, Seq]:
        """Ring; returns the files whose events somebody wants as they are."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for file_id, seq in rung.items():
                _ = pipeline.publish(relayed.channel(file_id), str(seq))
            _ = pipeline.pubsub_numsub(*rung)
            *_, numbers = await pipeline.execute()
        return {FileId(file_id): rung[FileId(file_id)] for file_id, n in numbers if n}

    async def _publish_events(self, wanted: dict[FileId, Seq]) -> None:
        readings = await self._history.read(
            [(file_id, cursor.CURRENT) for file_id in wanted]
        )
        async with self._redis.pipeline(transaction=False) as pipeline:
            for (file_id, _), reading in readings.items():
                for event in reading.events:
                    _ = pipeline.publish(file_id, event.data)
            await pipeline.execute()


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
    await refuse_standby(config.listen_database_url, f"{PREFIX}LISTEN_DATABASE_URL")
    async with (
        Pool(config.database_url, max_connections=2) as pool,
        connect(config.redis_url) as client,
    ):
        relay = Relay(client, History(pool))
        listener = Listener(
            config.listen_database_url,
            ring=relay.ring,
            look=relay.look,
            notify=pool.notify,
            metrics=Metrics(),
            safety_look_s=_NO_SAFETY_LOOK_S,
        )
        works = listener.run(), relay.pass_on(), relay.beat(listener.listening)
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
