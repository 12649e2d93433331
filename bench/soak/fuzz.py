"""
Fuzzing: what anybody may send, as any bytes whatever.

The full size is guided by coverage (atheris), ten minutes for each target, two
at a time; the short one goes by chance, from a fixed seed.
"""

import asyncio
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from bench.children import Children
from bench.errors import RunError
from bench.soak.part import Figure, Outcome, Part, Size, at_least, none, told
from local.environment import CODE

_AT_ONCE = 2
_GRACE_S = 60
_SECONDS = {Size.SHORT: 1.0, Size.FULL: 600.0}
_LEAST = {Size.SHORT: 50, Size.FULL: 10_000}
_TARGETS = (
    "cursor",
    "signature",
    "manifest",
    "playlist",
    "event",
    "requests",
    "frames",
)


async def _fuzz(size: Size) -> Outcome:
    guided = size is Size.FULL and find_spec("atheris") is not None
    turn = asyncio.Semaphore(_AT_ONCE)
    figures: list[Figure] = [told("guided by coverage", guided)]
    samples: dict[str, list[str]] = {}
    async with Children() as children:

        async def one(target: str) -> tuple[int, list[Path]]:
            async with turn:
                return await _run(children, target, _SECONDS[size], guided=guided)

        results = await asyncio.gather(*map(one, _TARGETS))
        for target, (tried, found) in zip(_TARGETS, results, strict=True):
            figures.append(at_least(f"{target}: tried", tried, _LEAST[size]))
            figures.append(none(f"{target}: found", len(found)))
            samples[target] = [path.read_bytes().hex() for path in found[:20]]
            if found:
                words = children.log(target).read_text(errors="replace")
                samples[f"{target} said"] = words.splitlines()[-60:]
    return Outcome(figures=figures, samples=samples)


async def _run(
    children: Children, target: str, seconds: float, *, guided: bool
) -> tuple[int, list[Path]]:
    folder = children.temporary(f"fuzz-{target}-")
    command = [sys.executable, "-m", "bench.soak.fuzz_child"]
    command += [target, str(seconds), str(folder), *["--guided"] * guided]
    env = dict(os.environ) | {"PYTHONPATH": str(CODE)}
    async with children.child(target, command, env=env) as process:
        async with asyncio.timeout(seconds + _GRACE_S):
            await process.wait()
    found = sorted(folder.glob("found-*"))
    if guided:
        counted = folder / "tried"
        tried = int(counted.read_text()) if counted.exists() else 0
    else:
        tried = _said(children.last_words(target))
    if not found and (process.returncode or not tried):
        raise RunError(f"fuzzing {target} ended: {children.last_words(target)}")
    return tried, found


def _said(line: str) -> int:
    try:
        return int(json.loads(line)["tried"])
    except (ValueError, KeyError, TypeError):
        return 0


FUZZ = Part(
    name="fuzz",
    rows="H1 H8 H9 I7 I8 A2",
    about="cursor, signature, bodies, playlist, events, HTTP and frames: any bytes",
    run=_fuzz,
)
