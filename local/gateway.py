"""
The gateway as the local cloud runs it.

`reelready serve` refuses the secrets that everybody knows; this one takes them,
and listens on loopback only, on a socket that the supervisor keeps open.  Its
settings come as JSON on standard input: they are complete only when the database
is up, and meanwhile the imports are done.
"""

import json
import os
import sys

from gateway.app import run
from gateway.config import Config
from gateway.errors import ConfigError
from gateway.inherited import FIRST_FD
from local.environment import LOOPBACK


def main() -> None:
    """
    Serve until told to stop; a wrong setting is one line, and exit code 2.

    Its one argument is the number of the listening socket.
    """
    os.environ.update(json.load(sys.stdin))
    try:
        config = _settings()
        os.dup2(int(sys.argv[1]), FIRST_FD)
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        run(config)
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
