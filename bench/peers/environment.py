"""
A Python environment with the peers' packages, apart from the project's own.

Made once per lock file in the user's cache folder, from `requirements/bench.txt`
with hashes.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from bench.errors import BenchError
from local.environment import CODE

_LOCK = CODE / "requirements" / "bench.txt"


def cache_folder() -> Path:
    """Where what is made once is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "reelready" / "bench"


@cache
def peers_python() -> Path:
    """
    Return the interpreter that has the peers' packages; makes it when missing.

    Raises:
        BenchError: The packages cannot be installed.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(_LOCK.read_bytes() + version.encode()).hexdigest()[:12]
    folder = cache_folder() / f"peers-{version}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        print(f"Installing the Python peers into {folder}, once ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        _run([*pip, "install", "--require-hashes", "-r", str(_LOCK)])
        (folder / "made").touch()
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise BenchError(f"{Path(command[0]).name}: {lines[-1]}")
