"""
The listener: a Postgres session that hears the doorbell, and proves it.

A session can look alive and hear nothing (a pooler in between, a half-open
connection, a stopped server), and asyncpg notices none of these.  So the
listener notifies itself a nonce and waits for the echo.  The first one of each
session is rung from where reports are written: a transaction pooler gives a
session back its own notifications and no others.  A missed echo terminates the
session; a new one LISTENs and then looks at the table for whatever rang
meanwhile.  While deaf, it looks again and again, slowly: a lost doorbell is a
delay, never a lost event.

Dependencies: a session of its own (`LISTEN_DATABASE_URL`), never the pool and
never a transaction pooler.
"""

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterable

import asyncpg

from gateway.config import PREFIX
from gateway.errors import UnavailableError
from gateway.model import FileId, Seq
from gateway.protocol import notification
from gateway.store.pool import AWAY, PRIMARY, why
from gateway.telemetry import Metrics
from workers.looking import Looking

ECHO_INTERVAL_S = 2.0
ECHO_TIMEOUT_S = 2.5
CONNECT_TIMEOUT_S = 2.0
QUEUE_ALARM = 0.1
"""Of Postgres' notification queue; full, it lets no commit ring any more."""

_MAX_BACKOFF_S = 1.0

_DEAF = (
    f"{PREFIX}LISTEN_DATABASE_URL does not hear what {PREFIX}DATABASE_URL rings,"
    " or not in time: a transaction pooler, another database, or a slow one;"
    " lead it past any pooler, to the same database"
)
_STUCK = "a session that LISTENs is stuck in a transaction"

_log = logging.getLogger("reelready.listener")


class Listener:
    """
    Keeps the doorbell connected.

    Args:
        setting: Where the DSN comes from, for whoever reads why it is lost.
        notify: Notifies a channel from a session that reports are written in.

    Attributes:
        listening: Set while the newest echo came back.
    """

    def __init__(
        self,
        dsn: str,
        *,
        setting: str,
        ring: Callable[[Iterable[tuple[FileId, Seq]]], None],
        look: Callable[[], Awaitable[None]],
        notify: Callable[[str, str], Awaitable[None]],
        metrics: Metrics,
        safety_look_s: float,
        echo_interval_s: float = ECHO_INTERVAL_S,
        echo_timeout_s: float = ECHO_TIMEOUT_S,
    ) -> None:
        self._looking = Looking(look, safety_look_s=safety_look_s)
        self.listening = self._looking.hearing
        self._dsn = dsn
        self._setting = setting
        self._ring = ring
        self._look = look
        self._notify = notify
        self._metrics = metrics
        self._echo_interval_s = echo_interval_s
        self._echo_timeout_s = echo_timeout_s
        self._queue_alarmed = False
        self._said = ""
        self._echoes: dict[str, asyncio.Future[None]] = {}

    async def run(self) -> None:
        """Listen until cancelled, through every failure of the database."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._looking.run())
            backoff_s = 0.05
            while True:
                if await self._listen_once():
                    backoff_s = 0.05
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)
                self._metrics.listener_reconnects.inc()

    async def _listen_once(self) -> bool:
        """Hold one session until it fails; returns whether it ever heard."""
        session: asyncpg.Connection[asyncpg.Record] | None = None
        heard = False
        try:
            session = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT_S,
                target_session_attrs=PRIMARY,
                # A pooler would lead the preparation and the use to two servers.
                statement_cache_size=0,
                server_settings={"application_name": "reelready-listener"},
            )
            _keep_alive(session)
            async with asyncio.timeout(self._echo_timeout_s):
                await session.add_listener(notification.CHANNEL, self._on_notification)
            await self._note_queue(session)
            await self._hear_first_echo()
            heard = True
            await self._hearing()
            while True:
                await self._pause(session)
                await self._hear_own_echo(session)
        except (*AWAY, UnavailableError) as error:
            said = why(error)
            self._lost_by(said if session else f"{self._setting}: {said}")
        finally:
            self.listening.clear()
            self._looking.lost.set()
            self._metrics.listener_up.set(0)
            if session is not None:
                session.terminate()
        return heard

    def _lost_by(self, reason: str) -> None:
        """Say why, once until it is otherwise."""
        if reason != self._said:
            self._said = reason
            _log.warning("listener lost: %s", reason)

    async def _hearing(self) -> None:
        """Catch up on what rang while nobody listened, then say so."""
        await self._look()
        self._said = ""
        self.listening.set()
        self._metrics.listener_up.set(1)
        _log.info("listening")

    async def _hear_first_echo(self) -> None:
        try:
            await self._hear_echo(self._notify)
        except TimeoutError:
            raise ConnectionError(_DEAF) from None

    async def _hear_own_echo(
        self, session: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        async def notify(channel: str, payload: str) -> None:
            await self._note_queue(session)
            await session.execute("select pg_notify($1, $2)", channel, payload)

        await self._hear_echo(notify)

    async def _hear_echo(self, notify: Callable[[str, str], Awaitable[None]]) -> None:
        nonce = secrets.token_hex(8)
        heard = asyncio.get_running_loop().create_future()
        self._echoes[nonce] = heard
        rung_at = time.perf_counter()
        try:
            async with asyncio.timeout(self._echo_timeout_s):
                await notify(notification.CHANNEL, notification.echo(nonce))
                await heard
        finally:
            del self._echoes[nonce]
        self._metrics.listener_echo_seconds.set(time.perf_counter() - rung_at)

    async def _note_queue(self, session: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Say early that some session keeps all notifications from being dropped."""
        used = await session.fetchval(
            "select pg_notification_queue_usage()", timeout=self._echo_timeout_s
        )
        self._metrics.notification_queue_usage.set(used)
        alarmed = used >= QUEUE_ALARM
        if alarmed and not self._queue_alarmed:
            _log.warning("the notification queue is %d %% full: %s", used * 100, _STUCK)
        self._queue_alarmed = alarmed

    async def _pause(self, session: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Wait for the next echo, or less if the session ends meanwhile."""
        ended = asyncio.Event()

        def on_end(_: object) -> None:
            ended.set()

        session.add_termination_listener(on_end)
        try:
            async with asyncio.timeout(self._echo_interval_s):
                await ended.wait()
        except TimeoutError:
            session.remove_termination_listener(on_end)
            return
        raise ConnectionResetError("the session was ended")

    def _on_notification(
        self, _session: object, _pid: int, _channel: str, payload: object
    ) -> None:
        text = str(payload)
        nonce = notification.echoed(text)
        if nonce is None:
            self._ring(notification.decode(text))
        elif (heard := self._echoes.get(nonce)) and not heard.done():
            heard.set_result(None)


def _keep_alive(session: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Let the kernel notice a dead peer too; asyncpg leaves keepalive off."""
    transport = session._transport  # type: ignore[attr-defined]  # noqa: SLF001 - asyncpg shows its socket no other way
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in (
        ("TCP_KEEPIDLE", 5),
        ("TCP_KEEPINTVL", 2),
        ("TCP_KEEPCNT", 2),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)
