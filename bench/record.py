"""
The record of a run under `bench/results/`: every raw sample, and a short note.

A figure in README, in docs or in a comment links to one of these.
"""

from pathlib import Path

import msgspec

from bench.machine import Machine
from bench.sample import Sample
from local.environment import CODE

RESULTS = CODE / "bench" / "results"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """
    One run of the bench.

    Attributes:
        missing: Contestants that could not take part, and why.
        quick: It was made with small sizes: its figures prove nothing.
    """

    machine: Machine
    rounds: int
    quick: bool
    scenarios: list[str]
    missing: dict[str, str]
    samples: list[Sample]

    @property
    def name(self) -> str:
        """`<date>-<commit>-<scenario set>`, the stem of its two files."""
        date = self.machine.at[:16].replace(":", "").replace("T", "-")
        commit = self.machine.commit[:7] + ("-dirty" if self.machine.dirty else "")
        return f"{date}-{commit}-{scenario_set(self.scenarios)}"


def scenario_set(scenarios: list[str]) -> str:
    """How a file name says what was measured."""
    return "all" if len(scenarios) > 3 else "+".join(scenarios) or "none"


def write(record: Record, note: str, *, folder: Path = RESULTS) -> Path:
    """Write both files; returns that of the samples."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.name}.json"
    text = msgspec.json.format(msgspec.json.encode(record), indent=1)
    path.write_bytes(text + b"\n")
    path.with_suffix(".md").write_text(note, encoding="utf-8")
    return path


def read(path: Path) -> Record:
    """Read the samples of a record."""
    return msgspec.json.decode(path.read_bytes(), type=Record)
