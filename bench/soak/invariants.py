"""
21 of the 22 invariants over a million steps, in whatever order a seed takes them.

Without sockets, database and clock, see `bench.invariants`; the same machine is
driven by Hypothesis in the unit tests, and its judges are those of this part.
"""

import asyncio
import secrets
import time
from collections import Counter

from bench.invariants.rules import INVARIANTS, judged
from bench.invariants.seeded import EPISODE_STEPS, episode
from bench.soak.part import Outcome, Part, Size, at_least, none, told

_SIZES = {Size.SHORT: (2_000, 60.0), Size.FULL: (1_000_000, 600.0)}
"""Steps, and the seconds after which no other episode begins."""

_MAX_BROKEN = 10
_JUDGED_OF = 100
"""Each invariant is judged at least once in so many steps."""

_ELSEWHERE = {19}
"""The reconciler is no matter of the machine: the part `upstream` has it."""


async def _invariants(size: Size) -> Outcome:
    # Beside the loop: the machine is a loop of its own.
    return await asyncio.to_thread(_run, *_SIZES[size], secrets.randbits(32))


def _run(steps: int, most_s: float, seed: int) -> Outcome:
    print(f"seed {seed}", flush=True)
    judged.clear()
    broken: dict[int, str] = {}
    began_s, episodes = time.monotonic(), 0
    while episodes * EPISODE_STEPS < steps and len(broken) < _MAX_BROKEN:
        if time.monotonic() > began_s + most_s:
            break
        try:
            episode(seed, episodes)
        except Exception as error:  # noqa: BLE001 - the other episodes are to be judged, too
            broken[episodes] = f"{type(error).__name__}: {error}"
            print(f"episode {episodes}: {broken[episodes]}", flush=True)
        episodes += 1
    taken_s = time.monotonic() - began_s
    times = Counter({one: judged[one] for one in INVARIANTS if one not in _ELSEWHERE})
    return Outcome(
        figures=[
            at_least("steps", episodes * EPISODE_STEPS, steps),
            none("invariants broken", len(broken)),
            at_least(
                "times each was judged, at least",
                min(times.values()),
                steps // _JUDGED_OF,
            ),
            told("judgements", times.total()),
            told("steps a second", episodes * EPISODE_STEPS / taken_s),
        ],
        samples={
            "seed": seed,
            "steps of an episode": EPISODE_STEPS,
            "broken, by episode": broken,
            "judgements, by invariant": dict(times),
        },
    )


ANY_ORDER = Part(
    name="invariants",
    rows="A3",
    about="a million steps in any order: 21 invariants hold; `upstream` has the 22nd",
    run=_invariants,
)
