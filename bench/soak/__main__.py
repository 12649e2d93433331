"""
`python -m bench.soak`, which is `make soak`: faults and crowds, on purpose.

Every part starts its own processes on this machine's loopback, and ends them.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

import msgspec

from bench.cores import pin_driver
from bench.errors import MissingError
from bench.machine import Machine, describe, raise_open_files
from bench.record import RESULTS
from bench.soak.catalogue import PARTS
from bench.soak.part import Outcome, Part, Size


class Soak(msgspec.Struct, frozen=True, kw_only=True):
    """
    The record of one soak.

    Attributes:
        seconds: That each part took.
        failed: Parts that came to no figures, and why.
        lacking: Parts that were not run, and what they need that is not here.
    """

    machine: Machine
    size: Size
    seconds: dict[str, float]
    outcomes: dict[str, Outcome]
    failed: dict[str, str]
    lacking: dict[str, str]

    @property
    def missed(self) -> list[str]:
        """Name what is not as it should be; empty when all is well."""
        figures = [
            f"{name}: {figure}"
            for name, outcome in self.outcomes.items()
            for figure in outcome.figures
            if not figure.holds
        ]
        return figures + [f"{name}: {why}" for name, why in self.failed.items()]


def _options() -> argparse.Namespace:
    parts = "\n".join(f"  {one.name:12} {one.about}" for one in PARTS)
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description=f"{__doc__}\nParts:\n{parts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    names = [one.name for one in PARTS]
    add("--part", action="append", choices=names, metavar="NAME", help="only this one")
    add("--short", action="store_true", help="seconds of each; without a record")
    add("--results", type=Path, help="folder of the record, also of a short one")
    add("--no-record", action="store_true", help="only say how it went")
    return parser.parse_args()


def _folder(options: argparse.Namespace) -> Path | None:
    """Where the record goes; None without one."""
    if options.no_record or (options.short and options.results is None):
        return None
    return options.results or RESULTS


def _run(part: Part, soak: Soak) -> None:
    print(f"{part.name}: {part.about}", flush=True)
    began_s = time.monotonic()
    try:
        outcome = asyncio.run(part.run(soak.size))
    except Exception as error:  # noqa: BLE001 - the other parts still have something to say
        if lacking := _lacking(error):
            soak.lacking[part.name] = lacking
            print(f"  NOT RUN: needs {lacking}", flush=True)
        else:
            first = _first(error)
            soak.failed[part.name] = f"{type(first).__name__}: {first}"
            print(f"  FAILED: {soak.failed[part.name]}", flush=True)
    else:
        soak.outcomes[part.name] = outcome
        if not any(figure.bar for figure in outcome.figures):
            soak.failed[part.name] = "it judged nothing"
        for figure in outcome.figures:
            print(f"  {figure}", flush=True)
    soak.seconds[part.name] = round(time.monotonic() - began_s, 1)


def _lacking(error: Exception) -> str | None:
    """What the part needs that is not here; None when it failed for another reason."""
    if isinstance(error, ExceptionGroup):
        return next(filter(None, map(_lacking, error.exceptions)), None)
    return str(error) if isinstance(error, MissingError) else None


def _first(error: Exception) -> Exception:
    """What went wrong, without the groups around it."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _path(machine: Machine, parts: list[Part], folder: Path) -> Path:
    date = machine.at[:16].replace(":", "").replace("T", "-")
    commit = machine.commit[:7] + ("-dirty" if machine.dirty else "")
    named = "-" + "+".join(one.name for one in parts)
    return folder / f"{date}-{commit}-soak{named * (len(parts) < len(PARTS))}.json"


def main() -> int:
    """Run it; 1 when something is not as it should be."""
    options = _options()
    raise_open_files()
    pin_driver()
    chosen = [one for one in PARTS if not options.part or one.name in options.part]
    machine = describe([], "")
    said = " ".join(["python -m bench.soak", *sys.argv[1:]])
    soak = Soak(
        machine=msgspec.structs.replace(machine, command=said),
        size=Size.SHORT if options.short else Size.FULL,
        seconds={},
        outcomes={},
        failed={},
        lacking={},
    )
    folder = _folder(options)
    path = _path(machine, chosen, folder) if folder else None
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    for part in chosen:
        _run(part, soak)
        if path:
            # Anew after each: what stops a soak of hours takes no part that is done.
            raw = msgspec.json.encode(soak)
            path.write_bytes(msgspec.json.format(raw, indent=1) + b"\n")
    if path:
        print(f"Record: {path}")
    for name, needed in soak.lacking.items():
        print(f"NOT RUN {name}: needs {needed}")
    for missed in soak.missed:
        print(f"MISSED {missed}")
    if soak.missed or soak.lacking:
        print("missed" if soak.missed else "not all was run")
        return 1
    print("all as it should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
