"""
Gateways that kill themselves at one line of their own code.

`python -m bench.soak.crashing` reads numbers from standard input, one a line.
For each it forks a gateway that counts the lines it runs in `WATCHED`, from the
first report on, and is gone by SIGKILL before it runs that many; 0 never is.
It says the gateway's process id, and in the end how that ended.
"""

import os
import signal
import sys
from types import FrameType
from typing import Any

from gateway import app
from gateway.config import Config
from gateway.web.ingest import IngestRoutes
from local.environment import CODE

WATCHED = (
    "gateway/feed.py",
    "gateway/hub.py",
    "gateway/ingest.py",
    "gateway/parking.py",
    "gateway/store/append.py",
    "gateway/store/history.py",
    "gateway/store/pool.py",
    "gateway/web/connection.py",
    "gateway/web/door.py",
    "gateway/web/ingest.py",
)
"""From a report's bytes to the bytes that clients are sent, and its answer."""

_FILES = {str(CODE / name) for name in WATCHED}


class _Fuse:
    """Counts lines down, and ends everything at the last."""

    def __init__(self, lines: int) -> None:
        self._left = lines

    def light(self) -> None:
        """Count from now on what this thread runs."""
        if sys.gettrace() is None:
            sys.settrace(self._on_call)

    def _on_call(self, frame: FrameType, *_: Any) -> Any:
        return self._on_line if frame.f_code.co_filename in _FILES else None

    def _on_line(self, _: FrameType, event: str, __: Any) -> Any:
        if event == "line":
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return self._on_line


def _serve(lines: int) -> None:
    os.environ["LISTEN_PID"] = str(os.getpid())
    fuse = _Fuse(lines)
    take = IngestRoutes.report

    def report(*arguments: Any) -> None:
        if lines:
            fuse.light()
        take(*arguments)

    IngestRoutes.report = report  # type: ignore[assignment, method-assign]
    app.run(Config.from_env())


def main() -> None:
    """Fork one after the other until the input ends."""
    for said in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _serve(int(said))
            os._exit(0)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
