"""
`python -m bench.soak.knocking PORT`: how long an answer takes, from outside.

Asks for something that costs nothing, on a new connection each time, until
standard input ends; then says all seconds as JSON.
"""

import json
import select
import socket
import sys
import time

from bench.server import get
from local.environment import LOOPBACK

PAUSE_S = 0.02
_LIMIT_S = 60.0


def main() -> None:
    """Knock until told to stop."""
    answers_s = []
    asked = get("/healthz", "Connection: close") + b"\r\n"
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        began_s = time.monotonic()
        with socket.create_connection((LOOPBACK, int(sys.argv[1])), _LIMIT_S) as one:
            one.sendall(asked)
            while one.recv(4096):
                pass
        answers_s.append(round(time.monotonic() - began_s, 4))
    print(json.dumps(answers_s))


if __name__ == "__main__":
    main()
