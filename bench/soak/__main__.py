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
    """

    machine: Machine
    size: Size
    seconds: dict[str, float]
    outcomes: dict[str, Outcome]
    failed: dict[str, str]

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
    add("--short", action="store_true", help="seconds of each, not the full size")
    add("--results", type=Path, default=RESULTS, help="folder of the record")
    add("--no-record", action="store_true", help="only say how it went")
    return parser.parse_args()


def _soak(parts: list[Part], size: Size) -> Soak:
    seconds: dict[str, float] = {}
    outcomes: dict[str, Outcome] = {}
    failed: dict[str, str] = {}
    for part in parts:
        print(f"{part.name}: {part.about}", flush=True)
        began_s = time.monotonic()
        try:
            outcomes[part.name] = asyncio.run(part.run(size))
        except Exception as error:  # noqa: BLE001 - the other parts still have something to say
            failed[part.name] = f"{type(error).__name__}: {error}"
            print(f"  FAILED: {failed[part.name]}", flush=True)
        else:
            figures = outcomes[part.name].figures
            if not any(figure.bar for figure in figures):
                failed[part.name] = "it judged nothing"
            for figure in figures:
                print(f"  {figure}", flush=True)
        seconds[part.name] = round(time.monotonic() - began_s, 1)
    machine = describe([], "")
    said = " ".join(["python -m bench.soak", *sys.argv[1:]])
    return Soak(
        machine=msgspec.structs.replace(machine, command=said),
        size=size,
        seconds=seconds,
        outcomes=outcomes,
        failed=failed,
    )


def _write(soak: Soak, folder: Path) -> Path:
    date = soak.machine.at[:16].replace(":", "").replace("T", "-")
    commit = soak.machine.commit[:7] + ("-dirty" if soak.machine.dirty else "")
    names = list(soak.seconds)
    parts = "" if len(names) == len(PARTS) else "-" + "+".join(names)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{date}-{commit}-soak{parts}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(soak), indent=1) + b"\n")
    return path


def main() -> int:
    """Run it; 1 when something is not as it should be."""
    options = _options()
    raise_open_files()
    pin_driver()
    size = Size.SHORT if options.short else Size.FULL
    chosen = [one for one in PARTS if not options.part or one.name in options.part]
    soak = _soak(chosen, size)
    if not options.no_record:
        print(f"Record: {_write(soak, options.results)}")
    for missed in soak.missed:
        print(f"MISSED {missed}")
    print("missed" if soak.missed else "all as it should be")
    return 1 if soak.missed else 0


if __name__ == "__main__":
    sys.exit(main())
