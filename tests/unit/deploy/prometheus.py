"""What the tests of metrics, alerts and board share."""

import re
import subprocess
from pathlib import Path

from gateway.telemetry import Metrics

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/prometheus"

_NAME = re.compile(r"\b(?:reelready|process)_\w+")


def collected() -> dict[str, str]:
    """Tell every metric by its name in queries, and its type."""
    return {
        one.name + "_total" * (one.type == "counter"): one.type
        for one in Metrics().registry.collect()
    }


def unknown_in(query: str) -> set[str]:
    """Name what a query asks for and nobody tells."""
    known = set()
    for name, kind in collected().items():
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        known |= {name + part for part in parts}
    return set(_NAME.findall(query)) - known


def promtool(*arguments: str, folder: Path = FOLDER) -> str:
    """Run it, and give what it says; Debian's `prometheus` has it."""
    done = subprocess.run(
        ["promtool", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr

    return done.stdout
