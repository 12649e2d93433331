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
from gateway.errors import ConfigError
from local.environment import LOOPBACK


def main() -> None:
    """Serve until told to stop; a wrong setting is one line, and exit code 2."""
    os.environ.update(json.load(sys.stdin))
    try:
        run(_settings())
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - its purpose
        sys.exit(2)


def _settings() -> Config:
    config = Config.from_env()
    if config.host != LOOPBACK:
        msg = f"the local gateway listens on {LOOPBACK} only"
        raise ConfigError("REELREADY_HOST", msg)
    return config


if __name__ == "__main__":
    main()
