"""
One run: a fresh server, the load client in front of it, and what they use up.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import procfs
from bench.children import Children
from bench.database import Databases
from bench.errors import RunError
from bench.load import Load, Phase
from bench.plan import Publications, write_subscribers
from bench.server import Contestant, Kind, Running, Terms

WARM_SUBSCRIBERS = 64
_SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds and reads since a `Field.used` before."""

    server_cpu_s: float
    other_cpu_s: float
    reads: int


@dataclass(kw_only=True)
class Field:
    """
    A server under measurement and the means to measure it.

    Attributes:
        phases: Every answer of the load client, by name: the raw samples.
    """

    running: Running
    load: Load
    publications: Publications
    folder: Path
    phases: dict[str, Phase]

    async def open(self, first: int, until: int, *, name: str) -> Phase:
        """
        Connect subscribers; all of them must get in.

        Raises:
            RunError: Some did not.
        """
        phase = await self.load.open(first, until)
        self.phases[name] = phase
        if phase.connected < until - first:
            lost = until - first - phase.connected
            raise RunError(f"{lost} of {until - first} did not get in {phase.refusal}")
        return phase

    async def settle(self, seconds: float = _SETTLE_S) -> None:
        """Let the server come to rest."""
        await self.load.wait(seconds)

    async def warm_up(self) -> None:
        """Connect, publish and leave once, so that nothing is done for the first time."""
        many = WARM_SUBSCRIBERS
        await self.open(0, many, name="warm-up")
        await self.publish(range(many), in_flight=8, name="warm-up events")
        await self.load.close()
        await self.settle()

    async def publish(
        self,
        files: Sequence[int],
        *,
        in_flight: int,
        name: str,
        per_second: float = 0,
        send_s: float = 1e6,
    ) -> Phase:
        """
        Publish to these files, one event each time a file is named.

        Raises:
            RunError: The server did not take them.
        """
        plan = self.folder / "plan"
        self.publications.write(plan, files)
        phase = await self.load.publish(
            plan, in_flight=in_flight, per_second=per_second, send_s=send_s
        )
        self.publications.confirm(phase.sent)
        self.phases[name] = phase
        if phase.refused or phase.failed:
            bad = phase.refused + phase.failed
            raise RunError(f"{bad} publications were not taken: {phase.refusal}")
        return phase

    def pss_kib(self) -> int:
        """Memory of the server now."""
        return procfs.pss_kib(self.running.pids())

    async def used(self, before: Used | None = None) -> Used:
        """What was used up so far, or since `before`."""
        now = Used(
            procfs.cpu_s(self.running.pids()),
            procfs.cpu_s(self.running.other_pids()),
            await self.running.reads(),
        )
        if before is None:
            return now
        return Used(
            now.server_cpu_s - before.server_cpu_s,
            now.other_cpu_s - before.other_cpu_s,
            # The question before was one of them, where there is anything to ask.
            max(0, now.reads - before.reads - 1),
        )


@asynccontextmanager
async def fielded(
    contestant: Contestant,
    children: Children,
    databases: Databases,
    terms: Terms,
    *,
    subscribers: Sequence[int],
    phases: dict[str, Phase],
) -> AsyncIterator[Field]:
    """Start a fresh server, and a load client that knows these subscribers."""
    folder = children.temporary("run-")
    async with contestant.start(children, databases, terms) as running:
        requests = folder / "subscribers"
        write_subscribers(requests, subscribers, running.subscriber)
        async with Load.running(
            children,
            port=running.port,
            kind=contestant.kind,
            subscribers=requests,
            wants_first_event=running.has_state,
            heartbeat=running.heartbeat,
            accepted=running.accepted,
            greeting=running.greeting,
            publish_port=running.publish_port,
        ) as load:
            one = Field(
                running=running,
                load=load,
                publications=Publications(running.publication),
                folder=folder,
                phases=phases,
            )
            if contestant.kind is Kind.POLLING:
                await load.polling(2.0)
            yield one
