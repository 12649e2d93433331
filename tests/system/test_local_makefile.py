"""`make`: hls.js is tried for when there is an npm, and once."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WAIT_S = 30.0

# In place of the real one, which needs a network.
INSTALLS = "mkdir -p node_modules/hls.js"
FAILS = "exit 1"


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], str]:
    """Make hls.js in a folder of its own; the value is what was said."""
    for name in ("Makefile", "package-lock.json"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/sh")
    (tmp_path / ".venv" / "made.stamp").touch()
    (tmp_path / "bin").mkdir()
    for program in ("cat", "mkdir", "rm", "sh"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program))

    def run() -> str:
        done = subprocess.run(
            [shutil.which("make"), ".venv/hls.stamp"],
            cwd=tmp_path,
            env={**os.environ, "PATH": str(tmp_path / "bin"), "MAKEFLAGS": ""},
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=True,
        )
        return done.stderr

    return run


def test_an_npm_that_comes_later_is_used_and_only_once(make, tmp_path):
    for _ in range(2):
        assert "there is no npm, so no hls.js" in make()

    calls = npm(tmp_path, INSTALLS)
    for _ in range(3):
        assert not make()

    assert 1 == len(calls.read_text().splitlines())
    assert (tmp_path / "node_modules" / "hls.js").is_dir()


def test_what_fails_is_said_and_is_not_tried_at_every_start(make, tmp_path):
    calls = npm(tmp_path, FAILS)

    assert "hls.js could not be installed" in make()
    assert not make()

    assert 1 == len(calls.read_text().splitlines())


def test_what_was_removed_is_installed_again(make, tmp_path):
    calls = npm(tmp_path, INSTALLS)
    make()
    shutil.rmtree(tmp_path / "node_modules")

    make()

    assert 2 == len(calls.read_text().splitlines())


def npm(folder: Path, does: str) -> Path:
    """Install an npm; the value is the file that lists how it was called."""
    calls = folder / "calls"
    program = folder / "bin" / "npm"
    program.write_text(f'#!/bin/sh\necho "$@" >>"{calls}"\n{does}\n')
    program.chmod(0o755)
    return calls
