"""A lock that is not one is found."""

import json
from pathlib import Path

import pytest

from bench.soak.supply import LOCKS, loose, outdated, requirements

ROOT = Path(__file__).parents[3]
HASH = "--hash=sha256:" + "0a" * 32
PINNED = f"aiohttp==3.14.5 \\\n    {HASH} \\\n    {HASH}\n    # via us\n"


def test_every_lock_of_ours_is_pinned_by_hash():
    locks = sorted(LOCKS.glob("*.txt"))

    assert {"run.txt", "test.txt", "soak.txt"} <= {path.name for path in locks}
    for path in locks:
        text = path.read_text("utf-8")
        assert list(requirements(text))
        assert ([], []) == (loose(text), outdated(text)), path.name


def test_installing_insists_on_the_hashes():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    installs = [line for line in makefile.splitlines() if " install " in line]
    locked = [line for line in installs if "-r requirements/" in line]

    assert len(locked) >= 3
    assert all("--require-hashes" in line for line in locked)
    assert all(
        "-e ." in line for line in installs if "PIP" in line and line not in locked
    )


def test_what_the_page_plays_with_is_pinned_by_hash():
    packages = json.loads((ROOT / "package-lock.json").read_text("utf-8"))["packages"]
    others = {name: one for name, one in packages.items() if name}

    assert others
    assert all(one["integrity"].startswith("sha512-") for one in others.values())


@pytest.mark.parametrize(
    ("lock", "expected"),
    [
        (PINNED, []),
        (PINNED.replace("==", ">="), ["aiohttp>=3.14.5"]),
        ("aiohttp==3.14.5\n", ["aiohttp==3.14.5"]),
        (f"aiohttp==3.14.5 {HASH[:-1]}\n", ["aiohttp==3.14.5"]),
        (f"git+https://a.example/b.git {HASH}\n", ["git+https://a.example/b.git"]),
        ("--extra-index-url https://a.example\n", ["--extra-index-url"]),
        ("# nothing\n\n", []),
    ],
)
def test_what_is_loose_is_named(lock, expected):
    assert expected == loose(lock)


@pytest.mark.parametrize(
    ("lock", "expected"),
    [
        (PINNED, []),
        (PINNED.replace("3.14.5", "3.14.4"), ["aiohttp 3.14.4"]),
        (PINNED.replace("3.14.5", "4.0"), []),
        (PINNED.replace("aiohttp", "other").replace("3.14.5", "0.1"), []),
    ],
)
def test_what_is_too_old_is_named(lock, expected):
    assert expected == outdated(lock)
