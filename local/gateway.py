"""
The gateway as the local cloud runs it.

`reelready serve` refuses the secrets that everybody knows; this one takes them,
and listens on loopback only.  Its settings come as JSON on standard input: they
are complete only when the database is up, and meanwhile the imports are done.
"""

import json
import os
import sys

from gateway.app import run
from gateway.config import Config
from local.environment import LOOPBACK


def main() -> None:
    """
    Serve until told to stop.

    Raises:
        ValueError: It would listen where others reach it.
    """
    os.environ.update(json.load(sys.stdin))
    config = Config.from_env()
    if config.host != LOOPBACK:
        msg = f"REELREADY_HOST: the local gateway listens on {LOOPBACK} only"
        raise ValueError(msg)
    run(config)


if __name__ == "__main__":
    main()
