"""
What a load takes with one process, with many, and behind a relay.

Reckoned from what one event, connect or client was measured to take.
"""

import random
from dataclasses import dataclass, replace
from math import ceil

from bench.costs import UPDATE_S, usd
from bench.scenarios.processes import IN_FLIGHT, SHARE
from bench.spent import Costs
from gateway.ingest import MAX_BATCH_REPORTS as MAX_BATCH

WAIT_S = 600.0
"""A client waits for its file so long: ten minutes of video, at MediaConvert's pace."""

MAX_AGE_S = 900.0
"""Streams come back that often: `REELREADY_STREAM_MAX_AGE_SECONDS`."""

BUSY = 0.6
"""How much of a core is used at most, so that bursts and restarts have room."""

POSTGRES_CORES = 16
"""Of the largest server that is reckoned with."""

USD_CORE = usd("usd_micro") / 0.2
"""A month of a core that is used all the time: a micro may use a fifth of one."""

MOST_GATEWAYS = 2_000
SIMULATED = 200_000

ONE, POSTGRES, RELAY = ENGINES = ("one process", "Postgres", "relay and Redis")
"""What can be turned on, in this order."""

PARTS = (
    "gateways", "Postgres", "relay", "Redis", "turns at notifying", "subscribers",
)  # fmt: skip

MOST_SUBSCRIBERS = 100_000
"""Of a process: `REELREADY_MAX_SUBSCRIBERS`, if it is not set."""

WRITERS = 2
"""Transactions that a process has under way: `gateway.ingest.WRITERS`."""

_US = 1e6


def event_us(known: Costs, processes: int, parts: int = 1) -> float:
    """
    CPU of all processes for one event, doorbells by Postgres.

    One in so many events is written where its client waits; the others are written
    in one process and read in another, and all the rest hear of each.

    Args:
        parts: Into which the reports in flight are divided: the fewer a process
            has, the fewer share a transaction, and the dearer each is.
    """
    here = known.own[parts] + (processes - 1) * known.idle[parts]
    if processes == 1:
        return here
    elsewhere = known.writer[parts] + known.reader[parts]
    elsewhere += (processes - 2) * known.idle[parts]
    return here / processes + elsewhere * (1 - 1 / processes)


def predicted(known: Costs, processes: int) -> dict[str, float]:
    """What so many processes do a second, each with its `SHARE` of a core."""
    cpu_us = SHARE * processes * _US
    return {
        "connects_per_second": cpu_us / known.connect,
        f"events_per_second_{IN_FLIGHT}": cpu_us
        / event_us(known, processes, processes),
        "deliveries_per_second": cpu_us / known.delivery,
    }


@dataclass(frozen=True, kw_only=True)
class Load:
    """
    Who waits, and what happens meanwhile.

    Attributes:
        clients: At a time, each for a file of its own.
        update_s: Between two events of a file.
    """

    clients: int
    update_s: float = UPDATE_S

    @property
    def events(self) -> float:
        """A second."""
        return self.clients / self.update_s

    @property
    def connects(self) -> float:
        """A second: for a new file, and again when a stream has its age."""
        return self.clients * (1 / WAIT_S + 1 / MAX_AGE_S)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """
    What a load takes with one engine.

    Attributes:
        cores: That each part uses.
        full: How much of what each of `PARTS` may use that is, 1 at the most.
        turn_ms: Until each gateway has had its turn at notifying once.
        back_s: Until the clients of a gateway that fell are with the others.
        parts: Separate databases with gateways of their own, each with its share.
    """

    load: Load
    engine: str
    gateways: int
    cores: dict[str, float]
    full: dict[str, float]
    turn_ms: float
    back_s: float
    parts: int = 1

    @property
    def works(self) -> bool:
        """Nothing is more than full."""
        return max(self.full.values()) <= 1

    @property
    def first(self) -> str:
        """The part that is full first."""
        return max(self.full, key=self.full.__getitem__)

    @property
    def usd(self) -> float:
        """A month, for the cores that are used, with room for the unforeseen."""
        return self.parts * sum(self.cores.values()) / BUSY * USD_CORE


def plan(known: Costs, load: Load, engine: str, gateways: int) -> Plan:
    """
    Reckon a load with so many gateways.

    How full gateways, relay and Redis are is reckoned with what an event costs
    under full load: until then fewer events share a transaction, and each is
    dearer, which is what `cores` is reckoned with.
    """
    is_relayed = engine == RELAY
    # What waits for its turn is written together, so there are never more of them.
    commits = min(
        load.events,
        gateways * WRITERS / known.transaction_s,
        BUSY * known.commits_per_second,
    )
    batch = load.events / commits
    listeners = 2 if is_relayed else gateways
    postgres_us = load.events * known.row
    postgres_us += commits * (known.commit + listeners * known.listener)
    clients_us = load.connects * known.connect + load.clients / 60 * known.minute
    subscribe_us = load.connects * known.redis_connect

    def used(apiece: Costs) -> dict[str, float]:
        each_us = (
            _relayed_us(apiece, gateways) if is_relayed else event_us(apiece, gateways)
        )
        used_us = {
            "gateways": load.events * each_us + clients_us,
            "Postgres": postgres_us,
            "relay": load.events * apiece.relay if is_relayed else 0.0,
            "Redis": load.events * apiece.redis + subscribe_us if is_relayed else 0.0,
        }
        return {part: part_us / _US for part, part_us in used_us.items()}

    room = {"gateways": gateways, "Postgres": POSTGRES_CORES, "relay": 1, "Redis": 1}
    full = {part: cores / room[part] / BUSY for part, cores in used(known).items()}
    turns = load.events / (known.commits_per_second * MAX_BATCH)
    fallen_us = load.clients / gateways * known.connect
    return Plan(
        load=load,
        engine=engine,
        gateways=gateways,
        cores=used(_sharing(known, batch)),
        full=full
        | {
            "turns at notifying": turns / BUSY,
            "subscribers": load.clients / gateways / MOST_SUBSCRIBERS,
        },
        turn_ms=gateways / known.commits_per_second * 1000,
        back_s=fallen_us / _US / max(1.0, (1 - BUSY) * (gateways - 1)),
    )


def _relayed_us(known: Costs, gateways: int) -> float:
    """CPU of all processes for one event, doorbells by a relay."""
    elsewhere = known.writer[1] + known.relayed
    return known.own[1] / gateways + elsewhere * (1 - 1 / gateways)


def _sharing(known: Costs, batch: float) -> Costs:
    """
    Say what things cost when so many events share a transaction.

    Between one alone and full load: what they share is divided by their number.
    """
    share = min(1.0, max(0.0, (1 / batch - 1 / known.batch) / (1 - 1 / known.batch)))

    def between(name: str, shared: float) -> float:
        return shared + (known.apiece[name] - shared) * share

    return replace(
        known,
        own={1: between("own", known.own[1])},
        writer={1: between("writer", known.writer[1])},
        reader={1: between("reader", known.reader[1])},
        idle={1: between("idle", known.idle[1])},
        relayed=between("relayed", known.relayed),
        relay=between("relay", known.relay),
        redis=between("redis", known.redis),
    )


def smallest(known: Costs, load: Load, engine: str) -> Plan:
    """Reckon it with the fewest gateways that are not more than full, if any are."""
    if engine == ONE:
        return plan(known, load, ONE, 1)
    gateways = ceil(load.clients / MOST_SUBSCRIBERS)
    while True:
        one = plan(known, load, engine, gateways)
        if one.full["gateways"] <= 1 or gateways >= MOST_GATEWAYS:
            return one
        gateways = max(gateways + 1, int(gateways * 1.02))


def best(known: Costs, load: Load) -> Plan:
    """Take the first engine that does it; else the fewest databases."""
    for engine in ENGINES:
        one = smallest(known, load, engine)
        if one.works:
            return one
    several = (in_parts(known, load, engine) for engine in (POSTGRES, RELAY))
    return min(several, key=lambda one: one.parts)


def in_parts(known: Costs, load: Load, engine: str) -> Plan:
    """Reckon with the fewest databases that do it, each with gateways of its own."""
    parts = 0
    while True:
        parts += 1
        share = replace(load, clients=ceil(load.clients / parts))
        one = smallest(known, share, engine)
        if one.works:
            return replace(one, parts=parts)


def most(known: Costs, engine: str, update_s: float) -> Plan:
    """Reckon the most clients that an engine can have, to two digits."""
    low, high = 10, 10**9
    while high - low > low // 100:
        middle = (low + high) // 2
        works = smallest(known, Load(clients=middle, update_s=update_s), engine).works
        low, high = (middle, high) if works else (low, middle)
    unit = 10 ** (len(str(low)) - 2)
    clients = low // unit * unit
    return smallest(known, Load(clients=clients, update_s=update_s), engine)


def waits_ms(service_us: float, busy: float) -> tuple[float, float]:
    """
    Simulate one process that takes events as they come, at random.

    Args:
        service_us: CPU of each.
        busy: How much of the core they use.

    Returns:
        Mean and 99th percentile of what an event waits before it is taken.
    """
    chance, free_at, now, waits = random.Random(1), 0.0, 0.0, []
    for _ in range(SIMULATED):
        now += chance.expovariate(busy / service_us)
        waits.append(max(0.0, free_at - now))
        free_at = max(free_at, now) + service_us
    waits.sort()
    return sum(waits) / SIMULATED / 1000, waits[SIMULATED * 99 // 100] / 1000
