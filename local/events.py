"""
S3 notifications and an EventBridge bus: from what happened to the functions.

Delivery is at least once: an event whose target raises is tried again after
growing waits and ends as a dead letter when it never worked.  The rule: what
puts an event in never waits and never gets an error, as in AWS, where an upload
does not fail because a function does.

Without faults, failures and concurrency a target gets its events in the order
they came.  Nobody may count on it: AWS does not promise it.  The queues have no
bound, since all they hold is what one person can upload to their own machine.

Source: Lambda "How Lambda handles errors and retries with asynchronous
invocation"; EventBridge "How EventBridge retries delivering events".
"""

import asyncio
import fnmatch
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import unquote_plus

from local.event_pattern import check_pattern, matches
from local.faults import Faults

_log = logging.getLogger(__name__)

LAMBDA_WAITS_S = (5.0, 10.0)
"""Lambda waits 1 minute, then 2, then gives up; the ratio is kept."""

BUS_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""EventBridge goes on for a day; two minutes outlast any restart on a laptop."""

_MAX_DEAD_LETTERS = 1000
_MAX_ERROR_CHARACTERS = 300

Target = Callable[[Any], Awaitable[object]]
"""Takes one event; raising means that it was not handled."""


class Timer(Protocol):
    """What a scheduler returns, such as `asyncio.TimerHandle`."""

    def cancel(self) -> None: ...


Scheduler = Callable[[float, Callable[[], None]], Timer]
"""Calls back after so many seconds."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    An event that no try could deliver.

    Attributes:
        target: Name of the target that refused it.
        event: The event.
        tries: How often it was tried.
        error: What the last try raised, in one line.
    """

    target: str
    event: Any
    tries: int
    error: str


@dataclass(frozen=True, slots=True)
class _Delivery:
    """One copy of an event on its way; JSON, so that no target sees another's."""

    payload: str
    what: str
    tries: int = 0


@dataclass(slots=True, eq=False)
class _Route:
    """One target, what it wants, and the events that wait for it."""

    name: str
    target: Target
    select: Callable[[Any], Any]
    waits_s: Sequence[float]
    concurrency: int
    accepted: int = 0
    waiting: asyncio.Queue[_Delivery] = field(default_factory=asyncio.Queue)


class EventRouter:
    """
    Takes events from the stand-ins and brings them to targets.

    Targets are added before the context is entered.  Events may come earlier;
    they wait.  On exit, what is under way is cancelled and what waits is dropped.
    Everything is called on one event loop, and the context is entered once.

    Args:
        faults: What to do to the events on their way.
        s3_waits_s: Seconds before each further try of an S3 notification.
        bus_waits_s: The same for events of the bus.
        call_later: Scheduler, the event loop's own when not given.
    """

    def __init__(
        self,
        *,
        faults: Faults | None = None,
        s3_waits_s: Sequence[float] = LAMBDA_WAITS_S,
        bus_waits_s: Sequence[float] = BUS_WAITS_S,
        call_later: Scheduler | None = None,
    ) -> None:
        self._faults = faults or Faults()
        self._s3_waits_s = tuple(s3_waits_s)
        self._bus_waits_s = tuple(bus_waits_s)
        self._call_later = call_later or _on_the_running_loop
        self._notifications: list[_Route] = []
        self._rules: list[_Route] = []
        self._timers: set[Timer] = set()
        self._workers: list[asyncio.Task[None]] = []
        self._dead_letters: deque[DeadLetter] = deque(maxlen=_MAX_DEAD_LETTERS)
        self._undelivered = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self._closed = False

    def add_notification(
        self,
        name: str,
        target: Target,
        *,
        prefix: str = "",
        events: Sequence[str] = ("s3:ObjectCreated:*",),
        concurrency: int = 1,
    ) -> None:
        """
        Bring S3 notifications to a target.

        Args:
            name: Of the target, in logs and dead letters; one per target.
            target: Usually `LambdaFunction.invoke`.
            prefix: Only objects whose key, decoded, starts like this.
            events: Only these, as in a bucket's notification configuration.
            concurrency: How many events the target may have at a time.
        """

        def select(event: Any) -> Any:
            return _records(event, prefix, events)

        self._notifications.append(
            _Route(name, target, select, self._s3_waits_s, concurrency)
        )

    def add_rule(
        self,
        name: str,
        pattern: Mapping[str, Any],
        target: Target,
        *,
        concurrency: int = 1,
    ) -> None:
        """
        Bring the events of the bus that match a pattern to a target.

        Raises:
            ValueError: The pattern uses what `local.event_pattern` does not know.
        """
        check_pattern(pattern)

        def select(event: Any) -> Any:
            return event if matches(pattern, event) else None

        self._rules.append(_Route(name, target, select, self._bus_waits_s, concurrency))

    @property
    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """The newest events that could not be delivered, oldest first."""
        return tuple(self._dead_letters)

    def put_s3_event(self, event: Mapping[str, Any]) -> None:
        """Take a notification of the S3 stand-in.  Never waits, never raises."""
        self._take(self._notifications, event)

    def put_event(self, event: Mapping[str, Any]) -> None:
        """Take an event for the bus.  Never waits, never raises."""
        self._take(self._rules, event)

    async def idle(self) -> None:
        """Wait until every event that was put is handled, lost or a dead letter."""
        await self._settled.wait()

    async def __aenter__(self) -> Self:
        self._workers = [
            asyncio.create_task(self._work(route), name=f"events for {route.name}")
            for route in (*self._notifications, *self._rules)
            for _ in range(route.concurrency)
        ]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._undelivered:
            _log.info("%d deliveries dropped at the end", self._undelivered)
        self._undelivered = 0
        self._settled.set()

    def _take(self, routes: list[_Route], event: object) -> None:
        if self._closed:
            return
        try:
            for route in routes:
                wanted = route.select(event)
                if wanted is not None:
                    self._send(route, _Delivery(json.dumps(wanted), _describe(wanted)))
        except Exception:  # noqa: BLE001 - the stand-ins must not pay for an event
            _log.exception("event dropped, it cannot be routed: %.300r", event)

    def _send(self, route: _Route, delivery: _Delivery) -> None:
        due_s = self._faults.due_s(route.accepted, route.name)
        route.accepted += 1
        if not due_s:
            _log.info("%s: fault: lost %s", route.name, delivery.what)
        for delay_s in due_s:
            self._undelivered += 1
            self._settled.clear()
            self._enqueue(route, delivery, delay_s)

    def _enqueue(self, route: _Route, delivery: _Delivery, delay_s: float) -> None:
        if not delay_s:
            route.waiting.put_nowait(delivery)
            return

        def arrive() -> None:
            self._timers.discard(timer)
            route.waiting.put_nowait(delivery)

        timer = self._call_later(delay_s, arrive)
        self._timers.add(timer)

    async def _work(self, route: _Route) -> None:
        while True:
            delivery = await route.waiting.get()
            try:
                await route.target(json.loads(delivery.payload))
            except Exception as error:  # noqa: BLE001 - whatever a target may raise
                self._failed(route, delivery, error)
            else:
                self._done()

    def _failed(self, route: _Route, delivery: _Delivery, error: Exception) -> None:
        tries = delivery.tries + 1
        why = _one_line(error)
        if tries > len(route.waits_s):
            self._bury(DeadLetter(route.name, json.loads(delivery.payload), tries, why))
            _log.error(
                "%s: dead letter after %d tries: %s: %s",
                *(route.name, tries, delivery.what, why),
            )
            return

        wait_s = route.waits_s[tries - 1]
        _log.warning(
            "%s: try %d failed, next in %g s: %s: %s",
            *(route.name, tries, wait_s, delivery.what, why),
        )
        self._enqueue(route, replace(delivery, tries=tries), wait_s)

    def _bury(self, letter: DeadLetter) -> None:
        self._dead_letters.append(letter)
        self._done()

    def _done(self) -> None:
        self._undelivered -= 1
        if not self._undelivered:
            self._settled.set()


def _on_the_running_loop(delay_s: float, callback: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(delay_s, callback)


def _records(event: Any, prefix: str, events: Sequence[str]) -> Any:
    # S3 sends a test event, which has no records, to every target.
    if "Records" not in event:
        return event
    wanted = [
        record
        for record in event["Records"]
        if unquote_plus(record["s3"]["object"]["key"]).startswith(prefix)
        and any(fnmatch.fnmatchcase(f"s3:{record['eventName']}", e) for e in events)
    ]

    return {**event, "Records": wanted} if wanted else None


def _describe(event: Mapping[str, Any]) -> str:
    if "Records" in event:
        record = event["Records"][0]
        return f"{record['eventName']} {record['s3']['object']['key']}"
    detail = event.get("detail")
    detail = detail if isinstance(detail, Mapping) else {}
    words = (
        event.get("Event"),
        event.get("detail-type"),
        detail.get("status"),
        detail.get("jobId"),
    )

    return " ".join(str(word) for word in words if word)


def _one_line(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())

    return text[:_MAX_ERROR_CHARACTERS]
