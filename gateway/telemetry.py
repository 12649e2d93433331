"""
The names of all metrics and log events, in one list.

No metric has a label whose values grow with files, users or addresses.
"""

import logging
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector
from pythonjsonlogger.json import JsonFormatter

MAX_LOG_LINES = 4096
"""That wait to be written."""

LOG_FLUSH_S = 1.0

_STDERR = 2

_FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Count:
    """One number that only grows; a plain addition, unlike the library's lock."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        """Add."""
        self.value += amount


class Counts(Collector):
    """A counter for the hot paths, with labels; read when it is scraped."""

    def __init__(self, name: str, about: str, *labels: str) -> None:
        self._name = name
        self._about = about
        self._labels = labels
        self._counts: dict[tuple[str, ...], Count] = {}

    def labels(self, *values: object) -> Count:
        """Give the count of these label values."""
        return self._counts.setdefault(tuple(map(str, values)), Count())

    def adopt(self, count: Count) -> Count:
        """Show a count that lives elsewhere as the one without labels."""
        self._counts[()] = count
        return count

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Tell the library all of them."""
        family = CounterMetricFamily(self._name, self._about, labels=self._labels)
        for values, count in list(self._counts.items()):
            family.add_metric(values, count.value)
        yield family


log_lines_dropped = Count()
"""Of this process: logging belongs to it, not to one gateway."""


class Metrics:
    """Every metric, on a registry of its own so that tests can build many."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self.registry = CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"reelready_{name}", about, labels, registry=registry)

        def counts(name: str, about: str, *labels: str) -> Counts:
            made = Counts(f"reelready_{name}", about, *labels)
            registry.register(made)
            return made

        def gauge(name: str, about: str, *labels: str) -> Gauge:
            return Gauge(f"reelready_{name}", about, labels, registry=registry)

        self.requests = counts(
            "http_requests_total", "Answers by route and status", "route", "status"
        )
        self.subscribers = gauge("subscribers", "Waiting clients", "transport")
        self.connections = gauge("connections", "Open connections of hot routes")
        self.refused = counter(
            "refused_total", "Clients who were not let wait, by reason", "reason"
        )
        self.evicted = counter(
            "evicted_total", "Connections closed to keep files or memory for others"
        )
        self.memory_used = gauge(
            "memory_used_ratio", "Memory in use, as a share of what there is"
        )
        self.log_lines_dropped = counts(
            "log_lines_dropped_total", "Log lines that nobody took in time"
        ).adopt(log_lines_dropped)
        self.tasks = gauge("tasks", "Tasks of the event loop; not one per client")
        self.events = counts(
            "events_delivered_total", "Events written to subscribers", "transport"
        )
        self.byes = counter("byes_total", "Planned closes by reason", "reason")
        self.resets = counter("resets_total", "Cursors that could not be continued")
        self.reports = counts("reports_total", "Reports by outcome", "outcome")
        self.batch_reports = Histogram(
            "reelready_ingest_batch_reports",
            "Reports written by one transaction",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "reelready_ingest_commit_seconds",
            "Time of one ingest transaction",
            buckets=_FAST_S,
            registry=registry,
        )
        self.read_seconds = Histogram(
            "reelready_feed_read_seconds",
            "Time of one read for waiting subscribers",
            buckets=_FAST_S,
            registry=registry,
        )
        self.listener_up = gauge("listener_up", "1 while the listener hears its echo")
        self.listener_reconnects = counter(
            "listener_reconnects_total", "Times the listener had to connect again"
        )
        self.listener_echo_seconds = gauge(
            "listener_echo_seconds", "Last round trip of the listener's echo"
        )
        self.notification_queue_usage = gauge(
            "notification_queue_usage",
            "Share of the queue of notifications in use; alarm at 0.1",
        )
        self.catch_ups = counter("catch_ups_total", "Looks for missed notifications")
        self.caught_up_files = counter(
            "caught_up_files_total", "Files that such a look found behind"
        )
        self.database_up = gauge("database_up", "1 if the last look reached it")
        self.worker_lag_seconds = gauge(
            "worker_lag_seconds", "How long the first silent file waits for a worker"
        )
        self.stuck_files = gauge(
            "stuck_files", "Files that did not end ten minutes after their deadline"
        )
        ProcessCollector(registry=registry)

    async def scrape(self) -> bytes:
        """Give every metric in Prometheus' text format."""
        return generate_latest(self.registry)


class LogWriter(logging.Handler):
    """
    Writes lines without ever making anybody wait for whoever reads them.

    A thread writes to the descriptor; when it is stuck (a pipe that nobody
    reads) or fails (a disk that is full), `MAX_LOG_LINES` wait and further ones
    are dropped and counted.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._lines: queue.Queue[bytes] = queue.Queue(MAX_LOG_LINES)
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Leave one line to the thread."""
        try:
            line = self.format(record) + "\n"
            self._lines.put_nowait(line.encode("utf-8", "backslashreplace"))
        except queue.Full:
            log_lines_dropped.inc()
        except Exception:  # noqa: BLE001 - as every handler of the library
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all is written, for `LOG_FLUSH_S` at most."""
        until_s = time.monotonic() + LOG_FLUSH_S
        with self._lines.all_tasks_done:
            while self._lines.unfinished_tasks:
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    return
                self._lines.all_tasks_done.wait(left_s)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            try:
                self._write_all(line)
            except OSError:
                log_lines_dropped.inc()
            finally:
                self._lines.task_done()

    def _write_all(self, line: bytes) -> None:
        while line:
            try:
                # Not sys.stderr: its lock, held here, would hold up the exit.
                line = line[os.write(self._fd, line) :]
            except BlockingIOError:
                select.select([], [self._fd], [])


def start_logging(*, level: int = logging.INFO, access: bool = False) -> None:
    """Log to stderr: lines for people on a terminal, else JSON lines."""
    handler = LogWriter(_STDERR)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        if sys.stderr.isatty()
        else JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("reelready.access").disabled = not access
    # It quotes what it cannot parse, and a credential may stand there.
    logging.getLogger("aiohttp.server").disabled = True
