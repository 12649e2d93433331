"""
The load client of `load.c`, compiled when needed, told what to do and heard.

One `Phase` is the answer to one command: what happened, and how long it took.
"""

import asyncio
import hashlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bench.children import Children
from bench.errors import BenchError, RunError
from bench.peers.environment import cache_folder
from bench.server import GREETING, Kind
from local.environment import LOOPBACK

_NAME = "load"
_SOURCE = Path(__file__).with_name("load.c")
_FLAGS = ("-O2", "-std=gnu11")
_MARGIN_S = 60.0
_LINE_BYTES = 1 << 20


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one command did.

    Attributes:
        seconds: Until the last thing that counts, not until the answer.
        live: Connections held at the end.
        missing: Deliveries that were due and did not come.
        doubled: Events that a connection got twice.
        misrouted: Events of somebody else's file.
        skipped: Holes in the seqs of a connection.
        late: Events of an earlier command.
        wrong_state: First events older than what was answered before.
        overdue: Polls that were due while the last one was not answered.
        p50_ms: Of deliveries, or of connecting; from the intended send time.
        client_is_the_limit: The client used over 90 % of its core.
        refusal: The first answer that was not what it should be.
    """

    seconds: float
    live: int
    connected: int
    retries: int
    refused_connects: int
    closed: int
    heartbeats: int
    bytes: int
    requests: int
    sent: int
    answered: int
    refused: int
    failed: int
    expected: int
    delivered: int
    missing: int
    doubled: int
    misrouted: int
    skipped: int
    late: int
    states: int
    wrong_state: int
    overdue: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    client_cpu_share: float
    client_is_the_limit: bool
    refusal: str

    @property
    def wrong(self) -> int:
        """Everything that must never happen, added up."""
        return (
            self.missing
            + self.doubled
            + self.misrouted
            + self.skipped
            + self.late
            + self.wrong_state
        )


def compiled() -> Path:
    """
    Return the load client; compiles it unless the same source was before.

    Raises:
        BenchError: There is no C compiler, or it refuses.
    """
    source = _SOURCE.read_bytes()
    digest = hashlib.sha256(source + " ".join(_FLAGS).encode()).hexdigest()[:12]
    program = cache_folder() / f"load-{digest}"
    if program.exists():
        return program
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise BenchError("the load client needs a C compiler: install gcc, or set CC")
    program.parent.mkdir(parents=True, exist_ok=True)
    fresh = program.with_suffix(f".{os.getpid()}")
    command = [compiler, *_FLAGS, "-o", str(fresh), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"the load client does not compile: {done.stderr.strip()}")
    fresh.rename(program)
    return program


class Load:
    """A running load client; one command at a time."""

    def __init__(self, process: asyncio.subprocess.Process, children: Children) -> None:
        self._process = process
        self._children = children

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        children: Children,
        *,
        port: int,
        kind: Kind,
        subscribers: Path,
        wants_first_event: bool = False,
        heartbeat: str = "",
        accepted: str = "",
        greeting: bytes = GREETING,
        publish_port: int = 0,
    ) -> AsyncIterator["Load"]:
        """Start one for the length of the block; the arguments are those of `load.c`."""
        command = [
            str(compiled()),
            LOOPBACK,
            str(port),
            kind.value,
            str(int(wants_first_event)),
            str(subscribers),
            heartbeat,
            accepted,
            greeting.decode(),
            str(publish_port or port),
        ]
        async with children.child(
            _NAME, command, env={"LC_ALL": "C"}, is_talking=True
        ) as process:
            yield cls(process, children)

    async def open(
        self, first: int, until: int, *, in_flight: int = 256, timeout_s: float = 180
    ) -> Phase:
        """Connect subscribers `first` to `until` and wait until they are in."""
        return await self._tell(
            f"open {first} {until} {in_flight} {timeout_s}", timeout_s
        )

    async def publish(
        self,
        plan: Path,
        *,
        in_flight: int,
        per_second: float = 0,
        send_s: float = 1e6,
        timeout_s: float = 15,
    ) -> Phase:
        """
        Publish a plan and wait for what it brings.

        Args:
            per_second: The pace; 0 for as fast as it goes.
            send_s: Send for that long at most.
            timeout_s: Give up when nothing has moved for that long.
        """
        line = f"publish {plan} {in_flight} {per_second} {send_s} {timeout_s}"
        return await self._tell(line, 600)

    async def wait(self, seconds: float) -> Phase:
        """Only listen."""
        return await self._tell(f"wait {seconds}", seconds)

    async def storm(self, *, timeout_s: float = 180) -> Phase:
        """Drop every connection, open all of them at once."""
        return await self._tell(f"storm {timeout_s}", timeout_s)

    async def polling(self, interval_s: float) -> None:
        """From now on every subscriber asks again in that time."""
        await self._tell(f"polling {interval_s * 1000}", 0)

    async def close(self) -> None:
        """Close every connection."""
        await self._tell("close", 0)

    async def _tell(self, line: str, work_s: float) -> Phase:
        writer, reader = self._process.stdin, self._process.stdout
        if writer is None or reader is None:
            raise RunError("the load client has no pipes")
        writer.write(line.encode() + b"\n")
        try:
            await writer.drain()
            async with asyncio.timeout(work_s + _MARGIN_S):
                answer = await reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise RunError(
                f"the load client ended: {self._children.last_words(_NAME)}"
            ) from error
        except TimeoutError as error:
            raise RunError(f"the load client did not answer {line!r}") from error
        return msgspec.json.decode(answer, type=Phase)
