"""
A gateway with less patience: `python -m bench.soak.hasty SECONDS`.

The short parts have no minute to see a peer given up; everything but the length
of the wait is as it is.
"""

import sys

from bench.soak.stage import Stage
from gateway import app, parking
from gateway.config import Config
from gateway.web import door


async def start(stage: Stage, patience_s: float) -> None:
    """Start a gateway with this patience, or its own if that is 0; wait for it."""
    if patience_s:
        await stage.start_gateway(("-m", "bench.soak.hasty", str(patience_s)))
    else:
        await stage.start_gateway()
    await stage.ready()


def main() -> None:
    """Serve, with this patience for peers that do not take what they are sent."""
    patience_s = float(sys.argv[1])
    door.USER_TIMEOUT_MS = int(patience_s * 1000)
    door.PROBE_AFTER_S = door.PROBE_INTERVAL_S = 1
    parking.STALL_LIMIT_S = patience_s * 1.5
    app.run(Config.from_env())


if __name__ == "__main__":
    main()
