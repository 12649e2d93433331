"""
Composition root: builds every object once, in start order, and takes it down
in reverse.

    pool -> history, files -> hub, wheel -> feed -> listener, append, ingest
         -> lot -> door (hot routes) and aiohttp (all others)
"""

import asyncio
import gc
import logging
import resource
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from functools import partial
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, cast

import uvloop
from aiohttp import http_parser, web

from gateway.config import PREFIX, Config
from gateway.errors import ConfigError
from gateway.feed import Feed
from gateway.hub import Hub
from gateway.ingest import Ingest
from gateway.inherited import listening_sockets, opening
from gateway.memory import Memory
from gateway.parking import Lot
from gateway.place import Place
from gateway.store.append import Append
from gateway.store.backlog import Backlog
from gateway.store.files import Files
from gateway.store.history import History
from gateway.store.pool import Pool, expect_primaries
from gateway.systemd import systemd_told
from gateway.telemetry import Metrics, start_logging
from gateway.uploads import Uploads
from gateway.web.access import Access
from gateway.web.body import MAX_BODY_BYTES
from gateway.web.cold import ColdConnection
from gateway.web.door import Door, bound_peers
from gateway.web.files import FileRoutes
from gateway.web.headers import CommonHeaders
from gateway.web.health import Health
from gateway.web.ingest import IngestRoutes
from gateway.web.middleware import (
    counted,
    finish_headers,
    preflights,
    problems,
)
from gateway.web.page import Page
from gateway.web.routes import routes
from gateway.web.waiting import Waiting
from gateway.wheel import Wheel
from workers.listener import Listener
from workers.migrate import note_schema

if TYPE_CHECKING:
    from gateway.tracing import Tracing
    from workers.redis_listener import RedisListener

BACKLOG = 4096
MAX_OPEN_FILES = 10_240
"""Where there is no limit: what macOS takes."""

SHUTDOWN_TIMEOUT_S = 1.0
"""For aiohttp, which may take it twice; the door has waited before."""


_log = logging.getLogger("reelready.app")


class Gateway:
    """
    One gateway that is working.

    Attributes:
        hub: Its waiting clients.
        app: What aiohttp serves.
        metrics: What it counts.
    """

    def __init__(
        self, hub: Hub, app: web.Application, door: Door, metrics: Metrics
    ) -> None:
        self.hub = hub
        self.app = app
        self.metrics = metrics
        self._door = door

    @asynccontextmanager
    async def listening(
        self,
        host: str,
        port: int,
        *,
        inherited: Sequence[socket.socket] = (),
        ssl: SSLContext | None = None,
    ) -> AsyncIterator[asyncio.Server]:
        """
        Listen for the length of the block, then say goodbye to everybody.

        Args:
            inherited: To listen on instead of `host` and `port`.

        Raises:
            OSError: The address is not ours, or in use; naming its settings.
        """
        listen = partial(
            asyncio.get_running_loop().create_server,
            self._door,
            backlog=BACKLOG,
            ssl=ssl,
        )
        if inherited:
            servers = [await listen(sock=one) for one in inherited]
        else:
            with opening(host, port):
                servers = [await listen(host, port)]
        for server in servers:
            bound_peers(server)
        try:
            yield servers[0]
        finally:
            for server in servers:
                server.close()
            self.hub.drain()
            await self._door.drain()


@asynccontextmanager
async def gateway(config: Config, place: Place | None = None) -> AsyncIterator[Gateway]:
    """Build a gateway that is working when the block is entered."""
    await expect_primaries(config)
    await note_schema(config.database_url)
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        loop = asyncio.get_running_loop()
        metrics.tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
        hub = Hub()
        memory = Memory(metrics, max_bytes=config.max_memory_bytes)
        wheel = Wheel()
        pool = await stack.enter_async_context(
            Pool(config.database_url, max_connections=config.max_pool_connections)
        )
        uploads = await stack.enter_async_context(
            Uploads(
                config.bucket, config.upload_prefix, life_s=config.upload_url_seconds
            )
        )
        history = History(pool)
        tracing = await stack.enter_async_context(_tracing(config))
        feed = Feed(hub, history, metrics, tracing)
        listener = _listener(config, hub, feed, pool, metrics)
        ingest = Ingest(Append(pool, config.silences, feed), metrics)
        for name, work in {
            "ingest": ingest.run(),
            "feed": feed.run(),
            "listener": listener.run(),
            "wheel": wheel.run(),
            "memory": memory.run(),
            "backlog": Backlog(pool, config.deadlines, metrics).run(),
        }.items():
            await stack.enter_async_context(_running(name, work))
        access = Access(config, hub, memory, metrics)
        common = CommonHeaders(config.allowed_origins)
        app = web.Application(
            client_max_size=MAX_BODY_BYTES,
            middlewares=[counted(metrics), problems(), preflights(common)],
        )
        app.add_routes(
            routes(
                files=FileRoutes(
                    config,
                    access,
                    Files(pool, config.silences),
                    history,
                    uploads,
                    tracing,
                ),
                health=Health(
                    hub,
                    listening=listener.listening.is_set,
                    can_do_deaf=bool(config.redis_url),
                    ping=pool.ping,
                    scrape=place.metrics if place else metrics.scrape,
                ),
                page=Page(config, await uploads.origin()),
            )
        )
        app.on_response_prepare.append(finish_headers(common))
        runner = web.AppRunner(
            app,
            handler_cancellation=True,
            shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        server = cast("web.Server", runner.server)
        lot = Lot(hub, wheel, metrics, heartbeat_s=config.heartbeat_seconds)
        door = Door(
            waiting=Waiting(config, lot, access),
            ingest=IngestRoutes(config, ingest, memory, tracing),
            access=access,
            cold=partial(ColdConnection, server, common, metrics, access.client),
            wheel=wheel,
            headers=common,
            metrics=metrics,
        )
        yield Gateway(hub, app, door, metrics)


@asynccontextmanager
async def _tracing(config: Config) -> AsyncIterator["Tracing | None"]:
    if not config.tracing:
        yield None
        return
    try:
        # Only then: OpenTelemetry is an extra.
        from gateway.tracing import tracing  # noqa: PLC0415
    except ImportError as error:
        problem = "is on, and OpenTelemetry is not installed: see docs/tracing.md"
        raise ConfigError(f"{PREFIX}TRACING", problem) from error
    async with tracing() as one:
        yield one


def _listener(
    config: Config, hub: Hub, feed: Feed, pool: Pool, metrics: Metrics
) -> "Listener | RedisListener":
    if config.redis_url:
        # Only then: it is a quarter of all that is imported.
        from workers.redis_listener import RedisListener  # noqa: PLC0415

        return RedisListener(
            config.redis_url,
            hub,
            ring=feed.ring,
            look=feed.look,
            identity=pool.identity,
            metrics=metrics,
            safety_look_s=config.safety_read_seconds,
        )
    return Listener(
        config.listen_database_url,
        setting=config.listen_setting,
        ring=feed.ring,
        look=feed.look,
        notify=pool.notify,
        metrics=metrics,
        safety_look_s=config.safety_read_seconds,
    )


async def serve(config: Config, place: Place | None = None) -> None:
    """
    Serve until SIGINT or SIGTERM, then say goodbye to everybody.

    Args:
        place: Among others on the same address; the end of their parent ends us.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    inherited = place.sockets if place else listening_sockets()
    async with (
        gateway(config, place) as one,
        one.listening(config.host, config.port, inherited=inherited) as server,
        place.taken(one.metrics.registry, on_orphaned=stop.set)
        if place
        else nullcontext(),
        systemd_told(),
    ):
        _spare_the_collector()
        for sock in server.sockets:
            _log.info("serving on %s:%d", *sock.getsockname()[:2])
        await stop.wait()
        _log.info("draining")


def _require_the_c_parser() -> None:
    """
    Refuse aiohttp's fallback, which takes over without a word.

    The door reads with llhttp; behind it nothing may read the same bytes
    otherwise.  httptools has no fallback.
    """
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ConfigError(
            "AIOHTTP_NO_EXTENSIONS",
            "is set, or aiohttp was installed without its C parser: "
            "unset it, or install aiohttp from a wheel",
        )


def _raise_open_files() -> None:
    """
    Open as many files as the administrator allows.

    The lower, soft limit is for programs that use select(2), which knows only
    1,024 of them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    most = max(soft, MAX_OPEN_FILES) if hard == resource.RLIM_INFINITY else hard
    # The kernel may have a limit of its own, which is not told here.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _spare_the_collector() -> None:
    """
    Keep the cyclic collector from walking every waiting client again and again.

    What was built at the start never becomes garbage, and what a client costs
    is freed by reference counts; cycles are rare, and may wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def run(config: Config, place: Place | None = None) -> None:
    """
    Run the gateway in this process; blocks.

    Args:
        place: Among others on the same address.

    Raises:
        ConfigError: aiohttp would read requests with its parser in Python.
    """
    _require_the_c_parser()
    _raise_open_files()
    start_logging(access=config.access_log)
    uvloop.run(serve(config, place))


@asynccontextmanager
async def _running(name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a service beside the block; if it dies, the process must not go on."""
    task = asyncio.create_task(work, name=name)

    def on_done(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            _log.critical("%s died", name, exc_info=error)
            signal.raise_signal(signal.SIGTERM)

    task.add_done_callback(on_done)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
