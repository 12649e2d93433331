"""Delivery of events to targets: order, retries, dead letters, faults."""

import asyncio
import contextlib
import heapq
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.events import BUS_WAITS_S, LAMBDA_WAITS_S, EventRouter
from local.faults import Faults

JOB_CHANGES = {
    "source": ["aws.mediaconvert"],
    "detail-type": ["MediaConvert Job State Change"],
}


def job_event(status: str, job: str = "1763769600123-k3p9xd") -> dict[str, Any]:
    return {
        "version": "0",
        "id": "6f1d2c30-0000-4000-8000-000000000001",
        "detail-type": "MediaConvert Job State Change",
        "source": "aws.mediaconvert",
        "detail": {
            "timestamp": 1763769604210,
            "jobId": job,
            "status": status,
            "userMetadata": {"file_id": "01934c1e-8a11-7c42-9b7e-5d2f0c6a9e10"},
        },
    }


def s3_event(*keys: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    return {
        "Records": [
            {
                "eventVersion": "2.6",
                "eventSource": "aws:s3",
                "eventName": name,
                "s3": {
                    "bucket": {"name": "example-media"},
                    "object": {"key": key, "sequencer": "0055AED6DCD90281E5"},
                },
            }
            for key in keys
        ]
    }


class RecordingTarget:
    """Keeps what it gets; fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.events: list[Any] = []
        self.calls = 0
        self._failures = failures

    async def __call__(self, event: Any) -> None:
        self.calls += 1
        if self.calls <= self._failures:
            msg = f"no\nluck {self.calls}"
            raise RuntimeError(msg)
        self.events.append(event)

    @property
    def statuses(self) -> list[str]:
        return [event["detail"]["status"] for event in self.events]


class VirtualTime:
    """Calls back in order of time, without waiting for it."""

    def __init__(self) -> None:
        self.delays_s: list[float] = []
        self.now_s = 0.0
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def __call__(self, delay_s: float, callback: Callable[[], None]) -> asyncio.Handle:
        self.delays_s.append(delay_s)
        due = (self.now_s + delay_s, next(self._order), callback)
        heapq.heappush(self._due, due)
        return asyncio.get_running_loop().call_soon(self._fire_next)

    def _fire_next(self) -> None:
        self.now_s, _, callback = heapq.heappop(self._due)
        callback()


async def test_an_upload_reaches_the_function():
    target = RecordingTarget()
    router = EventRouter()
    router.add_notification("converter", target, prefix="video/origin/")

    async with router:
        router.put_s3_event(s3_event("video/origin/a.mp4"))
        await router.idle()

    assert [s3_event("video/origin/a.mp4")] == target.events


async def test_only_new_objects_under_the_prefix_are_notified():
    target = RecordingTarget()
    router = EventRouter()
    router.add_notification("converter", target, prefix="video/여름 휴가+/")
    encoded = "video/%EC%97%AC%EB%A6%84+%ED%9C%B4%EA%B0%80%2B/a.mp4"
    test_event = {"Service": "Amazon S3", "Event": "s3:TestEvent"}

    async with router:
        router.put_s3_event(test_event)
        router.put_s3_event(s3_event("video/hls/a/master.m3u8"))
        router.put_s3_event(s3_event(encoded, name="ObjectRemoved:Delete"))
        router.put_s3_event(s3_event("video/hls/x.ts", encoded))
        router.put_s3_event(s3_event(encoded, name="ObjectCreated:Post"))
        router.put_s3_event({"Records": []})
        await router.idle()

    assert [
        test_event,
        s3_event(encoded),
        s3_event(encoded, name="ObjectCreated:Post"),
    ] == target.events


async def test_the_bus_and_s3_do_not_mix():
    from_s3, from_bus = RecordingTarget(), RecordingTarget()
    router = EventRouter()
    router.add_notification("converter", from_s3)
    router.add_rule("saver", JOB_CHANGES, from_bus)

    async with router:
        router.put_event(job_event("COMPLETE"))
        router.put_s3_event(s3_event("a"))
        await router.idle()

    assert [s3_event("a")] == from_s3.events
    assert [job_event("COMPLETE")] == from_bus.events


async def test_every_matching_rule_gets_the_event_and_its_own_copy():
    class Careless(RecordingTarget):
        async def __call__(self, event: Any) -> None:
            await super().__call__(event)
            event["detail"].clear()

    careless, other = Careless(), RecordingTarget()
    router = EventRouter()
    router.add_rule("careless", JOB_CHANGES, careless)
    router.add_rule("other", JOB_CHANGES, other)
    router.add_rule("elsewhere", {"source": ["aws.s3"]}, RecordingTarget(failures=9))

    async with router:
        event = job_event("COMPLETE")
        router.put_event(event)
        event["detail"]["status"] = "changed after it was put"
        await router.idle()

    assert ["COMPLETE"] == other.statuses
    assert [job_event("COMPLETE") | {"detail": {}}] == careless.events


def test_a_rule_that_cannot_match_is_refused():
    with pytest.raises(ValueError, match="source"):
        EventRouter().add_rule("saver", {"source": "aws.s3"}, RecordingTarget())


async def test_events_keep_their_order_for_a_target():
    target = RecordingTarget()
    router = EventRouter()
    router.add_rule("saver", JOB_CHANGES, target)

    async with router:
        for number in range(100):
            router.put_event(job_event(str(number)))
        await router.idle()

    assert [str(number) for number in range(100)] == target.statuses


async def test_events_put_before_the_start_wait_for_it():
    target = RecordingTarget()
    router = EventRouter()
    router.add_rule("saver", JOB_CHANGES, target)
    router.put_event(job_event("PROGRESSING"))

    async with router:
        await router.idle()

    assert ["PROGRESSING"] == target.statuses


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_target_never_has_more_events_than_it_may(concurrency: int):
    running, most = 0, 0
    full = asyncio.Event()
    go_on = asyncio.Event()

    async def target(_event: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == concurrency:
            full.set()
        await go_on.wait()
        running -= 1

    router = EventRouter()
    router.add_rule("saver", JOB_CHANGES, target, concurrency=concurrency)
    async with asyncio.timeout(5), router:
        for number in range(10):
            router.put_event(job_event(str(number)))
        await full.wait()
        go_on.set()
        await router.idle()

    assert concurrency == most


async def test_a_slow_target_holds_no_other_target_up():
    never = asyncio.Event()

    async def slow(_event: Any) -> None:
        await never.wait()

    arrived = asyncio.Event()

    async def quick(_event: Any) -> None:
        arrived.set()

    router = EventRouter()
    router.add_rule("slow", JOB_CHANGES, slow)
    router.add_rule("quick", JOB_CHANGES, quick)
    async with asyncio.timeout(5), router:
        router.put_event(job_event("COMPLETE"))
        await arrived.wait()


async def test_a_failing_target_is_tried_again_with_lambdas_waits():
    target, clock = RecordingTarget(failures=2), VirtualTime()
    router = EventRouter(call_later=clock)
    router.add_notification("converter", target)

    async with router:
        router.put_s3_event(s3_event("a"))
        await router.idle()

    assert [s3_event("a")] == target.events
    assert list(LAMBDA_WAITS_S) == clock.delays_s
    assert 2 == LAMBDA_WAITS_S[1] / LAMBDA_WAITS_S[0]
    assert () == router.dead_letters


async def test_the_bus_tries_longer_than_lambda():
    target, clock = RecordingTarget(failures=99), VirtualTime()
    router = EventRouter(call_later=clock)
    router.add_rule("saver", JOB_CHANGES, target)

    async with router:
        router.put_event(job_event("COMPLETE"))
        await router.idle()

    assert 1 + len(BUS_WAITS_S) == target.calls
    assert sum(BUS_WAITS_S) == clock.now_s
    assert 120 < clock.now_s


async def test_an_event_that_fails_does_not_hold_up_the_next_one():
    target = RecordingTarget(failures=1)
    router = EventRouter(call_later=VirtualTime(), bus_waits_s=(1,))
    router.add_rule("saver", JOB_CHANGES, target)

    async with router:
        router.put_event(job_event("fails once"))
        router.put_event(job_event("works"))
        await router.idle()

    assert {"works", "fails once"} == set(target.statuses)


async def test_an_event_that_never_worked_is_a_dead_letter_and_one_line_of_log(
    caplog: pytest.LogCaptureFixture,
):
    target = RecordingTarget(failures=99)
    router = EventRouter(call_later=VirtualTime())
    router.add_notification("converter", target)

    async with router:
        router.put_s3_event(s3_event("video/origin/a.mp4"))
        await router.idle()

    (letter,) = router.dead_letters
    assert "converter" == letter.target
    assert s3_event("video/origin/a.mp4") == letter.event
    assert 3 == letter.tries == target.calls
    assert "RuntimeError: no luck 3" == letter.error
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert (
        "converter: dead letter after 3 tries: "
        "ObjectCreated:Put video/origin/a.mp4: RuntimeError: no luck 3"
    ) == line


async def test_a_job_event_is_named_by_status_and_job_in_the_log(
    caplog: pytest.LogCaptureFixture,
):
    router = EventRouter(bus_waits_s=())
    router.add_rule("saver", JOB_CHANGES, RecordingTarget(failures=1))

    async with router:
        router.put_event(job_event("COMPLETE", job="1-a"))
        await router.idle()

    assert "MediaConvert Job State Change COMPLETE 1-a" in caplog.text


@pytest.mark.parametrize(
    "event",
    [
        None,
        "text",
        [],
        {"Records": None},
        {"Records": [{}]},
        {"source": "aws.mediaconvert", "detail-type": "x", "detail": "text"},
        {"source": "aws.mediaconvert", "detail-type": "x", "detail": {1, 2}},
    ],
)
async def test_no_event_makes_putting_it_fail(event: Any):
    router = EventRouter()
    router.add_notification("converter", RecordingTarget())
    router.add_rule("saver", {"source": ["aws.mediaconvert"]}, RecordingTarget())

    async with router:
        router.put_s3_event(event)
        router.put_event(event)
        await router.idle()

    router.put_s3_event(s3_event("after the end"))
    router.put_event(job_event("after the end"))
    async with asyncio.timeout(1):
        await router.idle()
    assert () == router.dead_letters


async def test_duplicate_brings_every_event_twice():
    target = RecordingTarget()
    router = EventRouter(faults=Faults(duplicate=True), call_later=VirtualTime())
    router.add_rule("saver", JOB_CHANGES, target)

    async with router:
        for number in range(20):
            router.put_event(job_event(str(number)))
        await router.idle()

    assert {str(n): 2 for n in range(20)} == {
        status: target.statuses.count(status) for status in target.statuses
    }


async def test_what_arrives_is_what_the_plan_of_the_faults_says():
    faults = Faults.parse("duplicate,reorder,delay=500,lose=0.2,seed=7")
    target, clock = RecordingTarget(), VirtualTime()
    router = EventRouter(faults=faults, call_later=clock)
    router.add_rule("saver", JOB_CHANGES, target)
    names = [str(number) for number in range(50)]
    plan = faults.plan(names, "saver")

    async with router:
        for name in names:
            router.put_event(job_event(name))
        await router.idle()

        assert set() == router._timers

    assert [name for _, name in plan] == target.statuses
    assert plan[-1][0] == clock.now_s
    assert len(set(target.statuses)) < 50
    assert sorted(target.statuses, key=int) != target.statuses


async def test_a_lost_event_reaches_nobody_and_is_logged(
    caplog: pytest.LogCaptureFixture,
):
    target = RecordingTarget()
    router = EventRouter(faults=Faults(lose=1))
    router.add_rule("saver", JOB_CHANGES, target)

    with caplog.at_level(logging.INFO):
        async with router:
            router.put_event(job_event("COMPLETE"))
            await router.idle()

    assert [] == target.events
    assert "saver: fault: lost MediaConvert Job State Change COMPLETE" in caplog.text


async def test_faults_work_on_the_clock_of_the_loop_too():
    target = RecordingTarget()
    router = EventRouter(faults=Faults(delay_ms=20))
    router.add_rule("saver", JOB_CHANGES, target)
    loop = asyncio.get_running_loop()

    async with router:
        start_s = loop.time()
        router.put_event(job_event("COMPLETE"))
        await router.idle()
        took_s = loop.time() - start_s

    assert ["COMPLETE"] == target.statuses
    assert 0.019 < took_s < 2


@contextlib.contextmanager
def _no_task_is_left() -> Iterator[None]:
    before = asyncio.all_tasks()
    yield
    assert before == asyncio.all_tasks()


async def test_the_end_cancels_what_runs_and_drops_what_waits():
    cancelled = []
    started = asyncio.Event()

    async def target(event: Any) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(event["detail"]["status"])
            raise

    later: list[asyncio.TimerHandle] = []

    def call_later(delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        later.append(asyncio.get_running_loop().call_later(delay_s, callback))
        return later[-1]

    router = EventRouter(faults=Faults(duplicate=True), call_later=call_later)
    router.add_rule("saver", JOB_CHANGES, target)
    with _no_task_is_left():
        async with asyncio.timeout(5), router:
            router.put_event(job_event("running"))
            router.put_event(job_event("waiting"))
            await started.wait()

    assert ["running"] == cancelled
    assert [True, True] == [timer.cancelled() for timer in later]
    async with asyncio.timeout(1):
        await router.idle()


async def test_an_idle_router_is_idle_and_may_end_unused():
    async with asyncio.timeout(1):
        async with EventRouter() as router:
            await router.idle()
        await router.idle()
