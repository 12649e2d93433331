"""The shape of a scenario, and what it is given."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from bench.children import Children
from bench.database import Databases
from bench.field import Field, fielded
from bench.load import Phase
from bench.server import Contestant, Kind, Terms
from bench.sizes import Sizes

Figures = dict[str, float]

STREAMS = frozenset({Kind.SSE, Kind.WEBSOCKET})
PUSHED = STREAMS | {Kind.LONG_POLL}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """
    Where one contestant is measured once.

    Attributes:
        phases: Filled with every answer of the load client.
    """

    contestant: Contestant
    children: Children
    databases: Databases
    sizes: Sizes
    phases: dict[str, Phase]

    def held(self, wanted: int) -> int:
        """How many subscribers this contestant can hold, of those wanted."""
        return min(wanted, self.contestant.max_subscribers)

    def field(
        self,
        subscribers: Sequence[int],
        *,
        heartbeat_s: int = 15,
        wait_s: int = 600,
        cgroup_procs: str = "",
    ) -> AbstractAsyncContextManager[Field]:
        """Start a fresh server for subscribers to these files."""
        terms = Terms(
            files=max(subscribers) + 1,
            heartbeat_s=heartbeat_s,
            wait_s=wait_s,
            cgroup_procs=cgroup_procs,
        )
        return fielded(
            self.contestant,
            self.children,
            self.databases,
            terms,
            subscribers=subscribers,
            phases=self.phases,
        )


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """
    One question.

    Attributes:
        takes: Whether a contestant takes part.
        run: Measures once.
        timed: The phases whose speed is the figure: there the load client must
            not be what limits.
    """

    name: str
    about: str
    takes: Callable[[Contestant], bool]
    run: Callable[[Stage], Awaitable[Figures]]
    timed: frozenset[str] = frozenset()

    def client_limits(self, phases: Mapping[str, Phase]) -> list[str]:
        """Names of the timed phases that only say how fast the load client is."""
        return [
            name
            for name in self.timed & phases.keys()
            if phases[name].client_is_the_limit
        ]


def of_kind(kinds: frozenset[Kind]) -> Callable[[Contestant], bool]:
    """Everybody whose clients wait like that."""
    return lambda contestant: contestant.kind in kinds


def everybody(_: Contestant) -> bool:
    """All of them, however their clients wait."""
    return True


def ours_only(contestant: Contestant) -> bool:
    """Only ours: the bar compares it with itself."""
    return contestant.name == "ours"


def meant_for(scenario: str) -> Callable[[Contestant], bool]:
    """Who was made for this scenario."""
    return lambda contestant: scenario in contestant.only


def per_event_us(cpu_s: float, events: int) -> float:
    """CPU microseconds of one event."""
    return cpu_s * 1e6 / events if events else 0.0
