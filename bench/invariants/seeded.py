"""
Steps that a seed chooses: fast, and the same ones whenever it is asked again.

    python -m bench.invariants.seeded SEED EPISODE

takes one episode again and tells its steps.
"""

import random
import sys
from collections.abc import Callable
from typing import Any

from bench.invariants.machine import STEPS, Machine

EPISODE_STEPS = 200
"""Then everybody leaves, it is looked what is left, and all begins anew."""


def episode(
    seed: int, number: int, tell: Callable[[str, dict[str, Any]], None] | None = None
) -> None:
    """
    Take the steps of one episode.

    Raises:
        BrokenError: An invariant does not hold.
    """
    choose = random.Random(f"{seed}/{number}")
    names, weights = list(STEPS), [one.weight for one in STEPS.values()]
    # The gateway spreads its clients by chance, too.
    state = random.getstate()
    random.seed(f"{seed}/{number}")
    machine = Machine()
    try:
        for name in choose.choices(names, weights, k=EPISODE_STEPS):
            choices = STEPS[name].choices
            chosen = {one: choose.choice(choices[one]) for one in choices}
            if tell is not None:
                tell(name, chosen)
            machine.take(name, **chosen)
    except BaseException:
        machine.abandon()
        raise
    else:
        machine.close()
    finally:
        random.setstate(state)


if __name__ == "__main__":
    episode(int(sys.argv[1]), int(sys.argv[2]), print)
