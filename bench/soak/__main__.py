"""
`python -m bench.soak`, which is `make soak`: churn, leave, and look what is left.

The base line is what a server is like after a first, short crowd has left it:
code is loaded, pools are open, allocators have grown.  After the long crowd has
left it must be like that again.
"""

import argparse
import asyncio
import os
import re
import sys
import time
import urllib.request
from pathlib import Path

import msgspec

from bench.children import Children
from bench.cores import pin_driver
from bench.database import Databases
from bench.machine import Machine, describe, raise_open_files
from bench.ours import OURS
from bench.procfs import pss_kib
from bench.record import RESULTS
from bench.server import Running, Terms
from bench.soak.crowd import MAX_EVENTS_OF_A_FILE, POSTS_PER_S, ROLES, Crowd
from local.environment import LOOPBACK

_FILES = 500
_WARM_S = 60.0
_SAMPLE_S = 15.0
_SETTLE_S = 90.0
_REST_S = 5.0
_MEMORY_SLACK = 1.10
_METRIC = re.compile(r"^reelready_(\w+)(?:\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)


class State(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a server holds at one moment.

    Attributes:
        at_s: Since the crowd came.
        subscribers, connections, tasks: As the server counts them itself.
        open_files: File descriptors of its process, but for sessions of its
            pool, which grows as far as it is allowed to when it is needed.
    """

    at_s: float
    clients: int
    subscribers: int
    connections: int
    tasks: int
    open_files: int
    pss_kib: int


class Soak(msgspec.Struct, frozen=True, kw_only=True):
    """
    The record of one soak.

    Attributes:
        problems: What was not as it had been; empty when all is well.
    """

    machine: Machine
    seconds: float
    held: int
    roles: dict[str, int]
    base: State
    during: list[State]
    end: State
    counts: dict[str, int]
    problems: list[str]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=600.0, help="of churn")
    add("--held", type=int, default=10_000, help="clients at a time")
    add("--results", type=Path, default=RESULTS, help="folder of the record")
    add("--no-record", action="store_true", help="only say how it went")
    return parser.parse_args()


async def _soak(options: argparse.Namespace) -> Soak:
    posts = (_WARM_S + options.seconds) * POSTS_PER_S
    hot_files = int(posts / 2 / MAX_EVENTS_OF_A_FILE) + 2
    terms = Terms(files=_FILES + hot_files, heartbeat_s=15, wait_s=60)
    async with (
        Children() as children,
        Databases(children) as databases,
        OURS.start(children, databases, terms) as running,
    ):
        crowd = Crowd(running, held=options.held, files=_FILES)
        began_s = time.monotonic()
        crowd.churn(min(_WARM_S, options.seconds))
        crowd.leave()
        base = await _settled(running, databases, crowd, began_s)
        _say("base line", base)
        during: list[State] = []
        began_s = time.monotonic()
        while (left_s := began_s + options.seconds - time.monotonic()) > 0:
            crowd.churn(min(_SAMPLE_S, left_s))
            during.append(await _state(running, databases, crowd, began_s))
            _say("churning", during[-1])
        crowd.leave()
        end = await _settled(running, databases, crowd, began_s)
        _say("end", end)
        machine = describe([], await databases.version())
    return Soak(
        machine=msgspec.structs.replace(machine, command=_said(options)),
        seconds=options.seconds,
        held=options.held,
        roles=ROLES,
        base=base,
        during=during,
        end=end,
        counts=dict(sorted(crowd.counts.items())),
        problems=problems(base, end, crowd),
    )


def problems(base: State, end: State, crowd: Crowd) -> list[str]:
    """Name what is not as it was."""
    found = [
        f"{name}: {getattr(base, name)} at the base line, {getattr(end, name)} at the end"
        for name in ("subscribers", "connections", "tasks", "open_files")
        if getattr(end, name) > getattr(base, name)
    ]
    if end.subscribers or end.connections:
        found.append("somebody is still counted")
    if end.pss_kib > base.pss_kib * _MEMORY_SLACK:
        found.append(f"memory: {base.pss_kib} KiB, then {end.pss_kib} KiB")
    if crowd.gaps:
        found.append(f"{crowd.gaps} events lost or doubled")
    if crowd.counts["reports refused"]:
        found.append(f"{crowd.counts['reports refused']} reports refused")
    return found


async def _settled(
    running: Running, databases: Databases, crowd: Crowd, began_s: float
) -> State:
    """Wait until the server has noticed that everybody left."""
    deadline_s = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline_s:
        state = await _state(running, databases, crowd, began_s)
        if not (state.subscribers or state.connections):
            break
        await asyncio.sleep(1)
    await asyncio.sleep(_REST_S)
    return await _state(running, databases, crowd, began_s)


async def _state(
    running: Running, databases: Databases, crowd: Crowd, began_s: float
) -> State:
    (pid,) = running.pids()
    metrics = _metrics(running.port)
    return State(
        at_s=round(time.monotonic() - began_s, 1),
        clients=len(crowd),
        subscribers=metrics["subscribers"],
        connections=metrics["connections"],
        tasks=metrics["tasks"],
        open_files=_open_files(pid) - await databases.sessions(),
        pss_kib=pss_kib([pid]),
    )


def _open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names are enough


def _metrics(port: int) -> dict[str, int]:
    url = f"http://{LOOPBACK}:{port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        text = answer.read().decode()
    found: dict[str, int] = {}
    for name, value in _METRIC.findall(text):
        found[name] = found.get(name, 0) + int(float(value))
    return found


def _said(options: argparse.Namespace) -> str:
    return f"python -m bench.soak --seconds {options.seconds:g} --held {options.held}"


def _say(what: str, state: State) -> None:
    figures = ", ".join(
        f"{name} {value}" for name, value in msgspec.structs.asdict(state).items()
    )
    print(f"{what}: {figures}", flush=True)


def _write(soak: Soak, folder: Path) -> Path:
    date = soak.machine.at[:16].replace(":", "").replace("T", "-")
    commit = soak.machine.commit[:7] + ("-dirty" if soak.machine.dirty else "")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{date}-{commit}-soak.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(soak), indent=1) + b"\n")
    return path


def main() -> int:
    """Run it; 1 when something was not as before."""
    options = _options()
    raise_open_files()
    pin_driver()
    soak = asyncio.run(_soak(options))
    for name, count in soak.counts.items():
        print(f"{count:9,} {name}")
    if not options.no_record:
        print(f"Record: {_write(soak, options.results)}")
    for problem in soak.problems:
        print(f"NOT AS BEFORE: {problem}")
    print("not as before" if soak.problems else "as before")
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
