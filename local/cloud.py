"""
Every part of the local cloud, started in the order of what needs what.

The database and the AWS stand-ins come up side by side, then the gateway and
the worker.  Everything lies on one exit stack, so that a start that fails half
way, or is interrupted, undoes what was done.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

import aiohttp
from aiohttp import web

from gateway.config import PREFIX, Config
from local.bucket import deploy_bucket
from local.child import Child
from local.data_folder import DataFolder, opened
from local.database_url import where
from local.environment import (
    ACCESS_KEY,
    CODE,
    CONVERTER,
    LOOPBACK,
    REGION,
    SAVER,
    SECRET_KEY,
    UPLOAD_PREFIX,
    Endpoints,
    gateway_environment,
    lambda_environment,
    s3_client,
)
from local.events import EventRouter
from local.lambda_api import lambda_api
from local.lambda_runtime import LambdaFunction
from local.logs import logged
from local.mediaconvert import MediaConvert
from local.postgres import Postgres, PostgresError
from local.s3 import S3
from local.settings import Settings, StartError
from local.watchdog import Watchdog
from workers.migrate import migrate

_DATABASE_TIMEOUT_S = 10.0
_READY_TIMEOUT_S = 60.0
_POLL_S = 0.02
_POSTGRES_POLL_S = 0.2
_JOB_CHANGES = {
    "source": ["aws.mediaconvert"],
    "detail-type": ["MediaConvert Job State Change"],
}

Say = Callable[[str], None]


@contextlib.asynccontextmanager
async def local_cloud(
    settings: Settings, *, environ: Mapping[str, str], say: Say
) -> AsyncIterator[str]:
    """
    Run everything; the value is the gateway's URL, once it is ready.

    Args:
        settings: Where and how.
        environ: What the children's environments start from.
        say: Shows one line to the person at the terminal.

    Raises:
        StartError, PostgresError: Something it needs is not to be had.
        ConfigError: A setting that the gateway would not take.
    """
    async with contextlib.AsyncExitStack() as leave:
        watchdog = leave.enter_context(Watchdog())
        folder = leave.enter_context(opened(settings.data_dir, watchdog))
        leave.enter_context(logged(folder.logs / "local.log", say))
        cloud = _Cloud(settings, folder, watchdog, say, leave)
        try:
            await cloud.start(environ)
            yield f"http://{LOOPBACK}:{cloud.port}/"
        finally:
            await cloud.stop()


class _Cloud:
    """The parts, and the exit stack they lie on."""

    def __init__(
        self,
        settings: Settings,
        folder: DataFolder,
        watchdog: Watchdog,
        say: Say,
        leave: contextlib.AsyncExitStack,
    ) -> None:
        self._door = leave.enter_context(_door(settings.port))
        self.port = int(self._door.getsockname()[1])
        self._settings = settings
        self._folder = folder
        self._watchdog = watchdog
        self._say = say
        self._leave = leave
        self._events = contextlib.AsyncExitStack()
        self._postgres: Postgres | None = None
        self._children: list[Child] = []

    async def start(self, environ: Mapping[str, str]) -> None:
        """Start everything; the worker, which nobody waits for, comes last."""
        told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        gateway = self._add(
            "gateway",
            *("-m", "local.gateway", str(self._door.fileno())),
            env=environ,
            told=told,
            inherits=(self._door.fileno(),),
        )
        async with asyncio.TaskGroup() as both:
            database_url = both.create_task(self._start_database())
            endpoints = both.create_task(self._start_aws(environ))
        env = gateway_environment(
            environ,
            endpoints.result(),
            database_url=database_url.result(),
            token_secret=self._folder.token_secret(),
        )
        Config.from_env(env)
        told.set_result(json.dumps(env).encode())
        await gateway.until(_ready(f"{endpoints.result().gateway_url}/readyz"))
        self._add("worker", "-m", "gateway", "worker", env=env).keep()

    async def stop(self) -> None:
        """
        End what uses the rest, while the rest is still there.

        First no more events, then all children at the same time.
        """
        await self._events.aclose()
        await asyncio.gather(*(child.stop() for child in self._children))

    async def _start_database(self) -> str:
        url = self._settings.database_url
        if not url:
            folder = self._folder.postgres if self._folder.is_kept else None
            postgres = Postgres(folder, watchdog=self._watchdog)
            self._postgres = await self._leave.enter_async_context(postgres)
            await self._leave.enter_async_context(
                _background(self._keep_postgres(postgres))
            )
            url = postgres.url
        await _migrate(url)
        return url

    async def _start_aws(self, environ: Mapping[str, str]) -> Endpoints:
        router = EventRouter(faults=self._settings.faults)
        s3_socket = self._s3_socket()
        self._folder.keep_s3_port(s3_socket.getsockname()[1])
        s3 = S3(
            self._folder.objects,
            access_keys={ACCESS_KEY: SECRET_KEY},
            region=REGION,
            on_event=router.put_s3_event,
        )
        s3_url = await self._serve(s3.app(), s3_socket)
        mediaconvert = MediaConvert(
            s3=s3_client(s3_url),
            on_event=router.put_event,
            region=REGION,
            work_dir=self._folder.conversions,
            status_interval_s=self._settings.status_interval_s,
        )
        mediaconvert_url = await self._serve(
            mediaconvert.app(), socket.create_server((LOOPBACK, 0))
        )
        endpoints = Endpoints(
            gateway_port=self.port, s3_url=s3_url, mediaconvert_url=mediaconvert_url
        )
        async with asyncio.TaskGroup() as both:
            both.create_task(
                deploy_bucket(s3_url, origins=_origins(self.port, environ))
            )
            both.create_task(self._leave.enter_async_context(mediaconvert))
        lambda_url = await self._start_functions(router, endpoints)
        return replace(endpoints, lambda_url=lambda_url)

    async def _start_functions(self, router: EventRouter, endpoints: Endpoints) -> str:
        converter, saver = [
            await self._events.enter_async_context(
                LambdaFunction(
                    name,
                    f"lambdas.{module}.handler",
                    env=lambda_environment(endpoints),
                    code_dir=CODE,
                )
            )
            for name, module in (
                (CONVERTER, "video_media_converter"),
                (SAVER, "hls_file_manifest_saver"),
            )
        ]
        router.add_notification(CONVERTER, converter.invoke, prefix=UPLOAD_PREFIX)
        router.add_rule(SAVER, _JOB_CHANGES, saver.invoke)
        await self._events.enter_async_context(router)
        functions = {CONVERTER: converter.invoke, SAVER: saver.invoke}
        api = await self._events.enter_async_context(lambda_api(functions))
        return await self._serve(api, socket.create_server((LOOPBACK, 0)))

    def _s3_socket(self) -> socket.socket:
        """
        On the port of the folder's first start: finished videos' URLs name it.

        While somebody else has it, another will do, for this once.
        """
        kept = self._folder.s3_port()
        if kept != self.port:
            with contextlib.suppress(OSError):
                return socket.create_server((LOOPBACK, kept))
        self._say(f"S3's port {kept} is taken: earlier videos cannot be played now.")
        return socket.create_server((LOOPBACK, 0))

    async def _serve(self, app: web.Application, listening: socket.socket) -> str:
        """Serve it on this socket; the value is its URL."""
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5
        )
        await runner.setup()
        self._leave.push_async_callback(runner.cleanup)
        await web.SockSite(runner, listening).start()
        return f"http://{LOOPBACK}:{runner.addresses[0][1]}"

    def _add(
        self,
        name: str,
        *arguments: str,
        env: Mapping[str, str],
        told: asyncio.Future[bytes] | None = None,
        inherits: Sequence[int] = (),
    ) -> Child:
        child = Child(
            name,
            [sys.executable, *arguments],
            env=env,
            told=told,
            inherits=inherits,
            log=self._folder.logs / f"{name}.log",
            watchdog=self._watchdog,
            say=self._say,
            on_change=self._say_children,
        )
        self._children.append(child)
        child.start()
        return child

    def _say_children(self) -> None:
        pids = {"supervisor": os.getpid(), "watchdog": self._watchdog.pid}
        if self._postgres is not None:
            pids["postgres"] = self._postgres.pid
        pids |= {child.name: child.pid for child in self._children}
        self._folder.say_children({name: pid for name, pid in pids.items() if pid})

    async def _keep_postgres(self, postgres: Postgres) -> None:
        while True:
            await asyncio.sleep(_POSTGRES_POLL_S)
            if postgres.is_alive:
                continue
            self._say("Postgres ended; starting it again.")
            try:
                await postgres.restart()
            except PostgresError as error:
                self._say(str(error))
            self._say_children()


async def _migrate(url: str) -> None:
    try:
        async with asyncio.timeout(_DATABASE_TIMEOUT_S):
            await migrate(url)
    except TimeoutError:
        msg = f"DATABASE_URL: {where(url)} does not answer"
        raise StartError(msg) from None
    except Exception as error:  # whatever the driver raises
        msg = f"DATABASE_URL: {where(url)}: {' '.join(str(error).split())}"
        raise StartError(msg) from error


async def _ready(url: str) -> None:
    """Wait until the gateway says so."""
    async with asyncio.timeout(_READY_TIMEOUT_S), aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as answer:
                    if answer.status == 200:  # noqa: PLR2004 - HTTP
                        return
            await asyncio.sleep(_POLL_S)


@contextlib.asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _origins(port: int, environ: Mapping[str, str]) -> list[str]:
    """Name whose pages may upload and play: the gateway's own, and whose it lets read."""
    others = environ.get(f"{PREFIX}ALLOWED_ORIGINS", "").split(",")
    return [
        f"http://{LOOPBACK}:{port}",
        f"http://localhost:{port}",
        *filter(None, map(str.strip, others)),
    ]


def _door(wanted: int) -> socket.socket:
    """
    Open the port that the gateway listens on, or any for 0.

    It stays open while the gateway is started again: who comes then waits.
    """
    try:
        return socket.create_server((LOOPBACK, wanted))
    except OSError as error:
        msg = f"PORT: {wanted} on {LOOPBACK}: {error.strerror}: choose another by PORT="
        raise StartError(msg) from error
