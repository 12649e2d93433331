"""
What our figures must be: ratios of medians in one run, and a few plain limits.

A bar that cannot be judged, because one of the two did not run, is not passed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from bench.sample import Sample, Spread, find


class Verdict(StrEnum):
    """What became of a bar."""

    OK = "ok"
    MISSED = "MISSED"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """
    One limit.

    Attributes:
        ours: Which of our two.
        peer: Whose figure ours is divided by; empty for a plain limit.
        at_most: The limit from above; None: there is none.
        at_least: The limit from below.
    """

    about: str
    scenario: str
    figure: str
    ours: str = "ours"
    peer: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def limit(self) -> str:
        """The bar as people write it."""
        sign, value = ("<=", self.at_most)
        if self.at_least is not None:
            sign, value = (">=", self.at_least)
        return f"{sign} {value:,g}{' x ' + self.peer if self.peer else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A bar and what was measured for it; `value` is the ratio if it is one."""

    bar: Bar
    verdict: Verdict
    ours: Spread | None = None
    theirs: Spread | None = None
    value: float | None = None


def judge(bar: Bar, samples: Iterable[Sample]) -> Judged:
    """Hold one bar against the samples of a run."""
    samples = list(samples)
    ours = find(samples, bar.scenario, bar.ours, bar.figure)
    theirs = find(samples, bar.scenario, bar.peer, bar.figure) if bar.peer else None
    value = _value(bar, ours, theirs)
    if value is None:
        return Judged(bar=bar, verdict=Verdict.NOT_RUN, ours=ours, theirs=theirs)
    too_high = bar.at_most is not None and value > bar.at_most
    too_low = bar.at_least is not None and value < bar.at_least
    verdict = Verdict.MISSED if too_high or too_low else Verdict.OK
    return Judged(bar=bar, verdict=verdict, ours=ours, theirs=theirs, value=value)


def _value(bar: Bar, ours: Spread | None, theirs: Spread | None) -> float | None:
    if ours is None:
        return None
    if not bar.peer:
        return ours.median
    if theirs is None or not theirs.median:
        return None
    return ours.median / theirs.median


def _memory(ours: str, nchan: str, way: str) -> tuple[Bar, ...]:
    each = partial(
        Bar,
        about=f"memory per idle subscriber, {way}",
        scenario="memory",
        figure="kib_usual",
        ours=ours,
    )
    flat = Bar(
        about=f"each further one, at every size and after traffic, {way}: flat",
        scenario="memory",
        figure="flatness",
        ours=ours,
        at_most=1.15,
    )
    return each(peer=nchan, at_most=0.25), each(peer=_QUEUE, at_most=0.06), flat


_NCHAN = "nchan"
_QUEUE = "starlette-queue"
_REDIS = "starlette-redis"
_LISTEN = "starlette-listen"

_connect = partial(
    Bar, about="connects/s to the first event", scenario="connect", figure="per_second"
)
_storm = partial(
    Bar, about="storm: all dropped and back", scenario="storm", figure="seconds"
)
_many = partial(
    Bar,
    about="many files, 32 in flight",
    scenario="many-files",
    figure="per_second_32",
)
_paced = partial(Bar, scenario="paced")
_small = partial(Bar, scenario="small-machine")


def _none_wrong(scenario: str) -> Bar:
    about = f"{scenario}: missing, doubled or wrong events"
    return Bar(about=about, scenario=scenario, figure="wrong", at_most=0)


BARS: tuple[Bar, ...] = (
    *_memory("ours", "nchan", "SSE"),
    *_memory("ours-lp", "nchan-lp", "long-poll"),
    _connect(peer=_NCHAN, at_least=0.4),
    _connect(peer=_QUEUE, at_least=9),
    _storm(peer=_NCHAN, at_most=2.0),
    _storm(peer=_QUEUE, at_most=0.25),
    _none_wrong("storm"),
    _many(peer=_REDIS, at_least=5),
    _many(peer=_LISTEN, at_least=6),
    _many(peer=_QUEUE, at_least=1.7),
    Bar(
        about="many files, 200 in flight",
        scenario="many-files",
        figure="per_second_200",
        peer=_NCHAN,
        at_least=0.35,
    ),
    _none_wrong("many-files"),
    _paced(about="paced, p50 in ms", figure="p50_ms", at_most=2),
    _paced(about="paced, p99 in ms", figure="p99_ms", at_most=8),
    _paced(about="paced, p99", figure="p99_ms", peer=_QUEUE, at_most=0.3),
    _none_wrong("paced"),
    Bar(
        about="hot file, deliveries/s",
        scenario="hot-file",
        figure="per_second",
        peer=_NCHAN,
        at_least=1.2,
    ),
    Bar(
        about="hot file, p99 of a fan-out",
        scenario="hot-file",
        figure="calm_p99_ms",
        peer=_NCHAN,
        at_most=0.8,
    ),
    _none_wrong("hot-file"),
    Bar(
        about="CPU of idle clients with heartbeats",
        scenario="waiting",
        figure="cpu_s_usual",
        peer=_NCHAN,
        at_most=1.0,
    ),
    Bar(
        about="CPU per event, many idle beside it over few",
        scenario="crowd",
        figure="ratio",
        at_most=1.2,
    ),
    _none_wrong("processes"),
    _none_wrong("listeners"),
    Bar(
        about="two gateways apart, rung by Postgres: wrong events",
        scenario="apart",
        figure="wrong",
        ours="ours-apart",
        at_most=0,
    ),
    Bar(
        about="two gateways apart, rung by a relay: wrong events",
        scenario="apart",
        figure="wrong",
        ours="ours-relay",
        at_most=0,
    ),
    _small(about="subscribers of a 1 GiB machine", figure="holds", at_least=100_000),
    _small(about="1 GiB: lost in fan-out and storm", figure="lost", at_most=0),
    _small(about="1 GiB: killed for want of memory", figure="kills", at_most=0),
)
