"""
What we install: pinned by hash, past the holes we know of, and asked about.

The database of known vulnerabilities is asked over the network, in the full
size only; where it cannot be asked, the figures say so, and nothing else.
"""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.soak.part import Figure, Outcome, Part, Size, none, told
from local.environment import CODE

LOCKS = CODE / "requirements"
FLOORS = {"aiohttp": (3, 14, 5), "httptools": (0, 9, 0)}
"""Older ones read requests in ways that were mended for a reason (H1, H3, H5)."""

_ASKED_LIMIT_S = 300
_PIN = re.compile(r"([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", re.IGNORECASE)
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def requirements(lock: str) -> Iterator[str]:
    """Every requirement of a lock, its hashes with it, as one line."""
    for line in lock.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line


def loose(lock: str) -> list[str]:
    """Requirements that could be something else tomorrow."""
    return [
        line.split()[0]
        for line in requirements(lock)
        if not (_PIN.match(line) and _HASH.search(line))
    ]


def outdated(lock: str) -> list[str]:
    """Packages below their floor."""
    return [
        f"{pin[1]} {pin[2]}"
        for line in requirements(lock)
        if (pin := _PIN.match(line))
        and tuple(map(int, re.findall(r"\d+", pin[2])[:3]))
        < FLOORS.get(pin[1].lower(), ())
    ]


async def _supply(size: Size) -> Outcome:
    locks = {path.name: path.read_text("utf-8") for path in LOCKS.glob("*.txt")}
    figures: list[Figure] = [
        told("locks", len(locks)),
        none(
            "requirements without hash", sum(len(loose(one)) for one in locks.values())
        ),
        none("below their floor", sum(len(outdated(one)) for one in locks.values())),
    ]
    packages: list[Any] = []
    why = "only the full size asks"
    if size is Size.FULL:
        packages, why = await _ask(LOCKS / "run.txt")
    # pip-audit is content with packages that its database does not know.
    known = [one for one in packages if "skip_reason" not in one]
    figures.append(told("packages whose vulnerabilities are known", len(known)))
    figures.append(
        told("packages that nobody could tell of", len(packages) - len(known))
    )
    if known:
        vulnerable = [one["name"] for one in known if one["vulns"]]
        figures.append(none("packages with a known vulnerability", len(vulnerable)))
    return Outcome(figures=figures, samples={"packages": packages, "not asked": why})


async def _ask(lock: Path) -> tuple[list[Any], str]:
    """Ask pip-audit; what it says of each package, or why it says nothing."""
    if find_spec("pip_audit") is None:
        return [], "pip-audit is not installed"
    command = ["-m", "pip_audit", "--requirement", str(lock), "--disable-pip"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        *("--require-hashes", "--format", "json", "--progress-spinner", "off"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_ASKED_LIMIT_S):
            said, problem = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return [], f"no answer in {_ASKED_LIMIT_S} s"
    try:
        return list(json.loads(said)["dependencies"]), ""
    except (ValueError, KeyError):
        words = problem.decode(errors="replace").strip().splitlines()
        return [], words[-1] if words else f"exit code {process.returncode}"


SUPPLY = Part(
    name="supply",
    rows="A12 H5",
    about="what we install is pinned by hash, and none is known to be vulnerable",
    run=_supply,
)
