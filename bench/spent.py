"""
What one event, connect or client takes of every part, as it was measured.

CPU is in microseconds of the records' machine; a figure is the median of its rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.record import RESULTS, read
from bench.sample import Sample, find
from bench.scenarios.processes import IN_FLIGHT

SEVERAL = RESULTS / "2026-11-29-0744-746c3d7-processes+apart+listeners.json"
WAITING = RESULTS / "2026-11-22-2043-393b7b0-waiting.json"

_US = 1e6


@dataclass(frozen=True, kw_only=True)
class Costs:
    """
    What one gateway, Postgres, relay and Redis spend.

    Attributes:
        own: On an event whose client waits in the process that writes it, by the
            reports that the process has in flight; so are the next three.
        writer: On writing one whose client waits elsewhere.
        reader: There.
        idle: In a process that hears of it and has nobody.
        relayed: `reader`, rung by a relay.
        apiece: On an event that is a transaction of its own, by the names of the
            others; they are of events that share one, as under full load.
        connect: On a client that comes.
        delivery: On each client of a file that many wait for.
        minute: On a client that waits a minute, heartbeats included.
        commit: Of Postgres, on one transaction that notifies.
        row: Of Postgres, on one event in it.
        listener: Of Postgres, on one session that hears of one transaction.
        silent_per_second: Commits that do not notify, of eight sessions.
        commits_per_second: That notify, one after the other.
        transaction_s: From the first word of it to its answer, at the least.
        batch: Events of a transaction under full load.
        relay: On an event.
        redis: On an event, and on a client that comes.
        kib: Of memory of a client that waits, the kernel's half included.
    """

    own: dict[int, float]
    writer: dict[int, float]
    reader: dict[int, float]
    idle: dict[int, float]
    relayed: float
    apiece: dict[str, float]
    connect: float
    delivery: float
    minute: float
    commit: float
    row: float
    listener: float
    silent_per_second: float
    commits_per_second: float
    transaction_s: float
    batch: float
    relay: float
    redis: float
    redis_connect: float
    kib: float


@cache
def _samples(path: Path) -> Sequence[Sample]:
    return read(path).samples


def _figure(scenario: str, contestant: str, name: str) -> float:
    path = WAITING if scenario == "waiting" else SEVERAL
    found = find(_samples(path), scenario, contestant, name)
    if found is None:
        raise LookupError(f"{path.name} has no {name} of {contestant} in {scenario}")
    return found.median


def costs() -> Costs:
    """
    Take what was measured; the medians of its rounds.

    Raises:
        LookupError: A record lacks a figure.
    """

    def each(scenario: str, contestant: str, name: str) -> dict[int, float]:
        return {
            parts: _figure(scenario, contestant, f"{name}_{IN_FLIGHT // parts}")
            for parts in (1, 2, 4)
        }

    alone, apart, relay = (
        ("processes", "ours"),
        ("apart", "ours-apart"),
        ("apart", "ours-relay"),
    )
    # Half of the transactions read, the other half write and notify.
    one = _figure("listeners", "ours", "postgres_us_0")
    one_commits = _figure("listeners", "ours", "transactions_0") / 2
    many = _figure(*alone, f"postgres_cpu_us_{IN_FLIGHT}")
    many_commits = _figure(*alone, f"transactions_{IN_FLIGHT}") / 2
    commit = (one - many) / (one_commits - many_commits)
    woken = _figure("listeners", "ours", "postgres_us_64") - one
    held = _figure("waiting", "ours", "held_usual")
    return Costs(
        own=each(*alone, "event_cpu_us"),
        writer=each(*apart, "writer_us"),
        reader=each(*apart, "reader_us"),
        idle=each(*apart, "idle_us"),
        relayed=_figure(*relay, f"reader_us_{IN_FLIGHT}"),
        apiece={
            "own": _figure("listeners", "ours", "gateway_us_0"),
            "writer": _figure(*apart, "writer_us_paced"),
            "reader": _figure(*apart, "reader_us_paced"),
            "idle": _figure(*apart, "idle_us_paced"),
            "relayed": _figure(*relay, "reader_us_paced"),
            "relay": _figure(*relay, "relay_us_paced"),
            "redis": _figure(*relay, "redis_us_paced"),
        },
        connect=_figure(*alone, "connect_cpu_us"),
        delivery=_figure(*alone, "delivery_cpu_us"),
        minute=_figure("waiting", "ours", "cpu_s_usual") / held * _US,
        commit=commit,
        row=max(0.0, one - commit * one_commits),
        listener=woken / 64 / one_commits,
        silent_per_second=_figure("listeners", "ours", "commits_per_second"),
        commits_per_second=_figure("listeners", "ours", "notifying_per_second"),
        transaction_s=_figure("listeners", "ours", "p50_ms_0") / 1000,
        batch=1 / many_commits,
        relay=_figure(*relay, f"relay_us_{IN_FLIGHT}"),
        redis=_figure(*relay, f"redis_us_{IN_FLIGHT}"),
        redis_connect=_figure(*relay, "redis_us_connect"),
        kib=_figure("waiting", "ours", "kib_each_usual")
        + max(0.0, _figure("waiting", "ours", "kernel_kib_each_usual")),
    )


def measured(processes: int) -> dict[str, float]:
    """What they did."""
    name = "ours" if processes == 1 else f"ours-x{processes}"
    return {
        figure: _figure("processes", name, figure)
        for figure in (
            "connects_per_second",
            f"events_per_second_{IN_FLIGHT}",
            "deliveries_per_second",
        )
    }
