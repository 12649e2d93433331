"""
The listener of a gateway behind Redis or Valkey: it subscribes to the files that it
holds, and to the beats of the relay, which prove that doorbells get through.

The table stays the truth.  A file is looked at once its subscription is confirmed,
since what rang before was not heard; everything is looked at when the relay's term
changes, and again and again while no beat comes.

Source: Redis, "Pub/sub"; valkey.io/topics/pubsub.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from itertools import takewhile

import redis.asyncio as redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.config import PREFIX
from gateway.errors import UnavailableError
from gateway.hub import Hub
from gateway.model import FileId, Seq
from gateway.protocol import relayed
from gateway.telemetry import Metrics
from workers.looking import Looking

BEAT_LIMIT_S = 3.0
"""Without a beat for so long, doorbells are not relied upon."""

PING_INTERVAL_S = 0.5
SILENCE_LIMIT_S = 3.0
"""Without anything at all, a session is given up."""

CONNECT_TIMEOUT_S = 2.0
GATHER_S = 0.002
"""From the first file that is new to the subscription; others join it."""

LINGER_S = 60.0
"""A file that nobody waits for stays subscribed: most clients come back."""

MAX_FOREIGN = 100
"""Databases whose relays are known to be none of ours."""

MAX_CHANNELS = 1000
"""Of one command."""

_FOREIGN = "%sREDIS_URL: a relay there hears another database than this gateway's"
_LOST = (
    "%sREDIS_URL: cannot be reached, so files are looked at, not rung: %s; is the server"
    " up, and may this machine connect to it?"
)
_UNHEARD = (
    "%sREDIS_URL: no relay is heard: `reelready relay` has to run, on the same one"
)

_MAX_BACKOFF_S = 1.0
_AWAY = (RedisError, OSError, TimeoutError)

_log = logging.getLogger("reelready.listener")


def connect(url: str) -> redis.Redis:
    """Make a client that tries nothing twice: whoever uses it looks, then."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=SILENCE_LIMIT_S,
        retry=Retry(NoBackoff(), 0),
        client_name="reelready",
    )


def beside(client: redis.Redis, host: str, port: int) -> redis.Redis:
    """
    Make a client like another one, of a second node of its cluster.

    Args:
        host: Empty where the node knows no name of itself: the same as the other's.
    """
    pool = client.connection_pool
    place = {"port": port} | ({"host": host} if host else {})
    return redis.Redis.from_pool(
        redis.ConnectionPool(
            connection_class=pool.connection_class, **pool.connection_kwargs | place
        )
    )


class _Subscription(PubSub):
    """
    One that ends when its connection does.

    The library's own connects again behind our back, from whichever task comes
    first (redis-py 8.1, `PubSub._execute`); doorbells would be missed unnoticed.
    """

    async def _reconnect(
        self, _connection: object, error: BaseException | None = None, *_: object
    ) -> None:
        raise error or ConnectionError("the connection is lost")


def subscription(client: redis.Redis) -> PubSub:
    """Open a subscription, an async context manager; it is not made up for."""
    return _Subscription(client.connection_pool)


def goes_on() -> bool:
    """
    Whether nobody has cancelled this task.

    redis-py sends by `asyncio.wait_for`, which loses a cancellation that comes just when
    it is done (python/cpython#86296; Python 3.12 does not).  Whoever then went on would
    keep its group, and so a gateway deaf that does not know it.
    """
    task = asyncio.current_task()
    return task is None or not task.cancelling()


def _end_if_cancelled() -> None:
    """Cancel this task, if its cancellation was lost: it is told once only."""
    if not goes_on():
        raise asyncio.CancelledError


class RedisListener:
    """
    Keeps a gateway's doorbells connected.

    Args:
        look: Asks the table about these files, or about all.
        identity: Names our database, as relays do.

    Attributes:
        listening: Set while beats come.
    """

    def __init__(
        self,
        url: str,
        hub: Hub,
        *,
        ring: Callable[[Iterable[tuple[FileId, Seq]]], None],
        look: Callable[[Iterable[FileId] | None], Awaitable[None]],
        identity: Callable[[], Awaitable[str]],
        metrics: Metrics,
        safety_look_s: float,
    ) -> None:
        self._url = url
        self._hub = hub
        self._ring = ring
        self._look = look
        self._identity = identity
        self._metrics = metrics
        self._looking = Looking(lambda: look(None), safety_look_s=safety_look_s)
        self.listening = self._looking.hearing
        self._confirmed: set[FileId] = set()
        self._something_to_look_at = asyncio.Event()
        self._changed: set[FileId] = set()
        self._something_changed = asyncio.Event()
        self._foreign: set[str] = set()
        self._beat = self._new_beat = ""
        self._said = False
        self._beat_at = self._heard_at = 0.0
        hub.on_held = self._note

    async def run(self) -> None:
        """Listen until cancelled, through every failure of Redis and the relay."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._looking.run())
            backoff_s = 0.05
            while True:
                began_s = time.monotonic()
                # A group that fails leaves its task cancelling (Python 3.11), so each
                # has a task of its own.
                await asyncio.create_task(self._listen_once())
                _end_if_cancelled()
                if time.monotonic() > began_s + SILENCE_LIMIT_S:
                    backoff_s = 0.05
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)
                self._metrics.listener_reconnects.inc()

    async def _listen_once(self) -> None:
        """Hold one subscription until it fails."""
        self._beat = self._new_beat = ""
        for unheard in self._confirmed, self._changed, self._foreign:
            unheard.clear()
        try:
            async with connect(self._url) as client, subscription(client) as heard:
                await heard.subscribe(relayed.BEATS)
                _end_if_cancelled()
                self._heard_at = time.monotonic()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._hear(heard))
                    tasks.create_task(self._catch_up())
                    tasks.create_task(self._subscribe(heard))
                    tasks.create_task(self._watch(heard))
        except* _AWAY as errors:
            if not self._said:
                self._said = True
                error = errors.exceptions[0]
                _log.warning(_LOST, PREFIX, str(error) or type(error).__name__)
        except* Exception:  # noqa: BLE001 - see below
            # Of the library, at the end of a connection; the next one is another.
            _log.exception("the subscription failed")
        finally:
            self._deaf()

    def _note(self, file_id: FileId) -> None:
        self._changed.add(file_id)
        self._something_changed.set()

    def _deaf(self) -> None:
        if self.listening.is_set():
            self.listening.clear()
            self._looking.lost.set()
        self._metrics.listener_up.set(0)

    async def _hear(self, heard: PubSub) -> None:
        while goes_on():
            said = await heard.get_message(timeout=None)
            if said is None:
                continue
            self._heard_at = time.monotonic()
            channel, data = str(said["channel"]), str(said["data"])
            if said["type"] == "subscribe" and channel != relayed.BEATS:
                self._confirmed.add(relayed.file_of(channel))
                self._something_to_look_at.set()
            elif said["type"] == "message" and channel == relayed.BEATS:
                self._heard_beat(data)
            elif said["type"] == "message":
                seq = relayed.seq_of(data)
                if seq is not None:
                    self._ring([(relayed.file_of(channel), seq)])

    def _heard_beat(self, beat: str) -> None:
        if beat == self._beat and self.listening.is_set():
            self._beat_at = self._heard_at
        elif relayed.beat_of(beat) not in self._foreign:
            self._new_beat = beat
            self._something_to_look_at.set()

    async def _catch_up(self) -> None:
        """Look at what may have rung unheard."""
        while goes_on():
            await self._something_to_look_at.wait()
            # Those that are confirmed together are looked at together.
            await asyncio.sleep(GATHER_S)
            self._something_to_look_at.clear()
            confirmed, self._confirmed = self._confirmed, set()
            beat, self._new_beat = self._new_beat, ""
            try:
                if beat and not await self._is_ours(beat):
                    beat = ""
                if beat or confirmed:
                    await self._look(None if beat else confirmed)
            except UnavailableError:
                # The next beat says it again.
                self._deaf()
                continue
            if beat:
                self._beat, self._beat_at = beat, time.monotonic()
                if not self.listening.is_set():
                    self._said = False
                    self.listening.set()
                    self._metrics.listener_up.set(1)
                    _log.info("listening to the relay")

    async def _is_ours(self, beat: str) -> bool:
        """Tell whether a relay hears our database."""
        if relayed.beat_of(beat) == await self._identity():
            return True
        if len(self._foreign) < MAX_FOREIGN:
            self._foreign.add(relayed.beat_of(beat))
        _log.warning(_FOREIGN, PREFIX)
        return False

    async def _subscribe(self, heard: PubSub) -> None:
        """Be subscribed to what the hub holds."""
        subscribed: set[FileId] = set()
        leaving: dict[FileId, float] = {}
        self._changed.update(self._hub.held())
        self._something_changed.set()
        while goes_on():
            first_s = next(iter(leaving.values()), None)
            wait_s = None if first_s is None else first_s - time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._something_changed.wait()
                    await asyncio.sleep(GATHER_S)
            self._something_changed.clear()
            changed, self._changed = self._changed, set()
            now_s = time.monotonic()
            for file_id in changed:
                leaving.pop(file_id, None)
                if not self._hub.waiting_for(file_id) and file_id in subscribed:
                    leaving[file_id] = now_s + LINGER_S
            new = [one for one in changed - subscribed if self._hub.waiting_for(one)]
            for batch in _batches(new):
                await heard.subscribe(*map(relayed.channel, batch))
            subscribed.update(new)
            gone = _due(leaving, now_s)
            for file_id in gone:
                del leaving[file_id]
            for batch in _batches(gone):
                await heard.unsubscribe(*map(relayed.channel, batch))
            subscribed.difference_update(gone)

    async def _watch(self, heard: PubSub) -> None:
        """Notice that beats, or all words, stay away."""
        began_s, unheard = time.monotonic(), False
        while True:
            await heard.ping()
            if not goes_on():
                return
            await asyncio.sleep(PING_INTERVAL_S)
            now_s = time.monotonic()
            if now_s > self._heard_at + SILENCE_LIMIT_S:
                raise ConnectionError("no answer")
            if now_s > max(began_s, self._beat_at) + BEAT_LIMIT_S and not unheard:
                unheard = True
                _log.warning(_UNHEARD, PREFIX)
                self._deaf()
            elif self.listening.is_set():
                unheard = False


def _due(leaving: dict[FileId, float], now_s: float) -> list[FileId]:
    """Those whose time is over: the first ones, as each is put in at the end."""
    return [
        file_id
        for file_id, _ in takewhile(lambda one: one[1] <= now_s, leaving.items())
    ]


def _batches(file_ids: list[FileId]) -> Iterable[list[FileId]]:
    for first in range(0, len(file_ids), MAX_CHANNELS):
        yield file_ids[first : first + MAX_CHANNELS]
