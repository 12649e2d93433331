"""
The code that must not be wrong, changed on purpose: its tests must notice.

In full, mutmut makes every small change it knows, one at a time, with the settings
of pyproject.toml; in short, a few are made by hand.  All of it happens in a copy of
the tree.
"""

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

from bench.children import Children
from bench.errors import RunError
from bench.soak.mutants import MUTANTS
from bench.soak.part import Figure, Outcome, Part, Size, at_least, none, told

MIN_SCORE = 0.85
MIN_MUTANTS = 1_000

_TREE = Path(__file__).parents[2]
_COPIED = ("gateway", "local", "tests", "pyproject.toml")
_PYTEST = ("pytest", "-x", "-q", "-p", "asyncio", "-p", "timeout")
_NOTICED = ("killed", "timeout")
_MUTATED = (
    "gateway/lifecycle.py",
    "gateway/feed.py",
    "gateway/hub.py",
    "gateway/protocol/[!_]*.py",
)
"""As `only_mutate` of pyproject.toml says."""


async def _mutation(size: Size) -> Outcome:
    async with Children() as children:
        tree = children.temporary("mutation-")
        for name in _COPIED:
            _copy(_TREE / name, tree / name)
        if size is Size.SHORT:
            return await _by_hand(children, tree)
        return await _by_mutmut(children, tree)


async def _by_hand(children: Children, tree: Path) -> Outcome:
    tests = sorted({one.tests for one in MUTANTS})
    if await _python(children, tree, "unchanged", *_PYTEST, *tests):
        raise RunError(f"unchanged: {children.last_words('unchanged')}")
    survived: list[str] = []
    for mutant in MUTANTS:
        path = tree / mutant.module
        source = path.read_text()
        if source.count(mutant.before) != 1:
            raise RunError(f"{mutant.module} does not say {mutant.before!r} once")
        path.write_text(source.replace(mutant.before, mutant.after))
        code = await _python(children, tree, mutant.about, *_PYTEST, mutant.tests)
        path.write_text(source)
        if code > 1:
            raise RunError(f"{mutant.about}: {children.last_words(mutant.about)}")
        survived += [mutant.about] * (code == 0)
    return Outcome(
        figures=[
            none("mutants that no test noticed", len(survived)),
            told("mutants", len(MUTANTS)),
        ],
        samples={"survived": survived},
    )


async def _by_mutmut(children: Children, tree: Path) -> Outcome:
    for name, arguments in (
        ("run", ("run", "--max-children", "1")),
        ("results", ("results", "--all", "true")),
    ):
        if await _python(children, tree, name, "mutmut", *arguments):
            raise RunError(f"mutmut {name}: {children.last_words(name)}")
    lines = children.log("results").read_text().split("\n")
    results = dict(line.strip().split(": ") for line in lines if line.strip())
    counts = counted(results)
    return Outcome(
        figures=[
            *judged(counts, mutated(tree)),
            at_least("mutants", len(results), MIN_MUTANTS),
        ],
        samples={
            "counts": counts,
            "survived": [name for name, how in results.items() if how not in _NOTICED],
        },
    )


def counted(results: dict[str, str]) -> dict[str, Counter[str]]:
    """Count what became of the mutants of each module."""
    counts: dict[str, Counter[str]] = {}
    for name, how in results.items():
        module, _, _ = name.rpartition(".")
        counts.setdefault(module, Counter())[how] += 1
    return counts


def mutated(tree: Path) -> set[str]:
    """Name the modules that must have mutants."""
    found = (path for one in _MUTATED for path in tree.glob(one))
    return {".".join(one.relative_to(tree).with_suffix("").parts) for one in found}


def judged(counts: dict[str, Counter[str]], modules: set[str]) -> list[Figure]:
    """
    Score each module: the mutants that were noticed, of all that were made.

    Args:
        modules: That count as unnoticed when they have none.
    """
    counts = {one: Counter() for one in sorted(modules)} | counts
    return [
        *(
            at_least(
                f"mutants of {module} noticed, of all",
                sum(of_it[how] for how in _NOTICED) / max(1, of_it.total()),
                MIN_SCORE,
            )
            for module, of_it in counts.items()
        ),
        *(
            told(f"mutants {how}", count)
            for how, count in sum(counts.values(), Counter()).items()
        ),
    ]


def _copy(here: Path, there: Path) -> None:
    if here.is_dir():
        shutil.copytree(here, there, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(here, there)


async def _python(children: Children, tree: Path, name: str, *arguments: str) -> int:
    # A module that changes within a second is not to be found in a cache, and
    # plugins that nobody asked for take longer than the tests.
    env = {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", *arguments]
    async with children.child(name, command, env=os.environ | env, cwd=tree) as child:
        return await child.wait()


MUTATION = Part(
    name="mutation",
    rows="mutation",
    about="changes to the state machine, the feed, the hub and the formats are noticed",
    run=_mutation,
)
