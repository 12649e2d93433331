"""
A gateway among others that share its address, as `gateway.processes` starts it.

It has the sockets it accepts from, a folder where each tells the others what it
has counted, and a line to their parent: there it says that it serves, and then
that it lives; when the parent has gone, it goes too.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

READY = b"ready"
LIVES = b"."
LIFE_INTERVAL_S = 5.0
ASK_TIMEOUT_S = 1.0
"""Who has not told its metrics by then is left out of a scrape."""


class Place:
    """
    One gateway's place among them.

    Args:
        number: From 1; a gateway that replaces another has its number.
        folder: Where all of them tell their metrics; nobody else may look in.
        listening: Descriptors of the sockets to accept from.
        parent: Descriptor of the line to the parent.
    """

    def __init__(
        self, number: int, folder: Path, listening: Iterable[int], parent: int = 0
    ) -> None:
        self.sockets = [socket.socket(fileno=fd) for fd in listening]
        self._folder = folder
        self._path = folder / f"{number}.{os.getpid()}"
        self._parent = socket.socket(fileno=parent)
        self._parent.settimeout(0)

    @asynccontextmanager
    async def taken(
        self, registry: CollectorRegistry, *, on_orphaned: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Be one of them, for the length of the block; say so at its beginning."""

        async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(generate_latest(registry) + b"# EOF\n")
            writer.close()

        is_orphan = False

        def orphaned() -> None:
            nonlocal is_orphan
            is_orphan = True
            on_orphaned()

        loop = asyncio.get_running_loop()
        server = await asyncio.start_unix_server(tell, self._path)
        loop.add_reader(self._parent, orphaned)
        self._parent.send(READY)
        living = asyncio.create_task(self._live())
        # Of a terminal, or meant for the parent: it has no part for us.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            living.cancel()
            loop.remove_reader(self._parent)
            self._path.unlink(missing_ok=True)
            server.close()
            if is_orphan:
                # The folder was its parent's; the last of them takes it away.
                with suppress(OSError):
                    self._folder.rmdir()

    async def metrics(self) -> bytes:
        """Give the metrics of all that answer in time, each labelled `process`."""
        newest: dict[str, Path] = {}
        for path in sorted(self._folder.iterdir(), key=_made_at):
            newest[path.stem] = path
        told = await asyncio.gather(*map(_ask, newest.values()))
        # Beside the loop: it takes milliseconds for each of them.
        return await asyncio.to_thread(merged, dict(zip(newest, told, strict=True)))

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(LIFE_INTERVAL_S)
            with suppress(OSError):
                self._parent.send(LIVES)


def merged(told: Mapping[str, str]) -> bytes:
    """
    Put the metrics of several processes into one text.

    Args:
        told: The text of each process, by its number.
    """
    metrics: dict[str, Metric] = {}
    for number, text in sorted(told.items()):
        for one in text_string_to_metric_families(text):
            whole = metrics.setdefault(
                one.name, Metric(one.name, one.documentation, one.type)
            )
            whole.samples += [
                sample._replace(labels={"process": number} | sample.labels)
                for sample in one.samples
            ]
    return generate_latest(_Whole(metrics.values()).registry())


class _Whole(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics

    def registry(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        registry.register(self)
        return registry


async def _ask(path: Path) -> str:
    text = b""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(ASK_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                text = await reader.read()
            finally:
                writer.close()
    # One that was killed under way has told half of it.
    return text.decode() if text.endswith(b"# EOF\n") else ""


def _made_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
