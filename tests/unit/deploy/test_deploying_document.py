"""docs/deploying.md and docs/aws.md can be typed as they are."""

import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = "".join(
    (ROOT / "docs" / name).read_text() for name in ("deploying.md", "aws.md")
)
FIRST_LOOKS = sorted(
    set(re.findall(r"^curl .*/(?:readyz|healthz)\S*$", TEXT, re.MULTILINE))
)


class _ReadyInAMoment(BaseHTTPRequestHandler):
    """503 for the first who asks."""

    statuses: list[int]

    def do_GET(self):
        status = self.statuses.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"ready\n" if status == 200 else b"not yet\n")

    def log_message(self, *_):
        pass


@pytest.fixture
def late():
    """Address of one that is ready the second time it is asked."""
    handler = type("Handler", (_ReadyInAMoment,), {"statuses": [503, 200]})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("command", FIRST_LOOKS)
def test_the_first_look_waits_until_it_is_ready(command, late):
    typed = re.sub(r'"?https?://\S+', late, command)
    done = subprocess.run(
        ["sh", "-c", typed], check=False, capture_output=True, text=True
    )

    assert (0, "ready\n") == (done.returncode, done.stdout)
