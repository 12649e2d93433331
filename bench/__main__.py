"""`python -m bench`, which is `make bench`: measure, show, keep a record."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import capacity, cores
from bench.catalogue import CONTESTANTS, SCENARIOS
from bench.children import Children
from bench.database import Databases
from bench.errors import BenchError
from bench.load import compiled
from bench.machine import describe, raise_open_files
from bench.note import note
from bench.record import RESULTS, Record, read, write
from bench.rounds import measure, order
from bench.sample import Sample
from bench.scenarios.scenario import Scenario
from bench.server import Contestant
from bench.sizes import FULL, QUICK
from bench.table import bars_table, judged, missed, number, scenario_table

_ROUNDS = 3
_NAMES = [one.name for one in CONTESTANTS]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; exit codes 0, 1 failed, 2 usage."""
    options = _parser().parse_args(arguments)
    if options.capacity:
        capacity.update(read(options.capacity), _NAMES)
        return 0
    if sys.platform != "linux":
        print("The bench needs Linux: it reads /proc and uses epoll.", file=sys.stderr)
        return 1
    cores.pin_driver()
    raise_open_files()
    try:
        return asyncio.run(_until_told(_bench(options)))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("Stopped; nothing was recorded.", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    scenarios = [one.name for one in SCENARIOS]
    add = parser.add_argument
    add("--rounds", type=_positive, default=_ROUNDS, help="of everything, in turns")
    add("--only", type=_some_of(scenarios), default=scenarios, metavar="SCENARIO,...",
        help=", ".join(scenarios))  # fmt: skip
    add("--peers", type=_some_of(_NAMES), default=_NAMES, metavar="PEER,...",
        help=f"besides ours: {', '.join(_NAMES)}")  # fmt: skip
    add("--quick", action="store_true", help="small sizes: does it run at all")
    add("--results", type=Path, default=RESULTS, help="folder of the record")
    add("--no-record", action="store_true", help="only show the tables")
    add("--capacity", type=Path, metavar="RECORD",
        help="fill in docs/capacity.md from a record, measure nothing")  # fmt: skip
    return parser


async def _bench(options: argparse.Namespace) -> int:
    compiled()
    wanted = [one for one in CONTESTANTS if _takes_part(one, options.peers)]
    missing = {one.name: why for one in wanted if (why := one.missing())}
    here = [one for one in wanted if one.name not in missing]
    scenarios = [one for one in SCENARIOS if one.name in options.only]
    for name, why in missing.items():
        print(f"missing: {name}: {why}")
    samples: list[Sample] = []
    async with Children() as children, Databases(children) as databases:
        machine = describe(_said(options), await databases.version())
        for round_, scenario, contestant in order(scenarios, here, options.rounds):
            sample = await measure(
                scenario,
                contestant,
                number=round_,
                children=children,
                databases=databases,
                sizes=QUICK if options.quick else FULL,
            )
            samples.append(sample)
            _say(sample, options.rounds)
    record = Record(
        machine=machine,
        rounds=options.rounds,
        quick=options.quick,
        scenarios=[one.name for one in scenarios],
        missing=missing,
        samples=samples,
    )
    return _finish(record, scenarios, options)


def _finish(
    record: Record, scenarios: Sequence[Scenario], options: argparse.Namespace
) -> int:
    names = [one.name for one in CONTESTANTS]
    for scenario in scenarios:
        print(f"\n{scenario.about}")
        print(scenario_table(record.samples, scenario.name, names))
    results = judged(record.samples, record.scenarios)
    print(f"\n{bars_table(results)}")
    for name, why in record.missing.items():
        print(f"missing: {name}: {why}")
    if not options.no_record:
        path = write(record, note(record, names), folder=options.results)
        print(f"\nRecord: {path}")
    failed = any(sample.failure for sample in record.samples)
    return 1 if failed or missed(results) else 0


def _say(sample: Sample, rounds: int) -> None:
    """One line as it happens: a whole run takes long."""
    head = f"{sample.round}/{rounds} {sample.scenario:13} {sample.contestant:16}"
    if sample.failure:
        print(f"{head} FAILED: {sample.failure}", flush=True)
        return
    figures = "  ".join(f"{k} {number(v)}" for k, v in sample.figures.items())
    print(f"{head} {figures}", flush=True)
    for name in sample.client_limits:
        print(f"  the load client was the limit: {name}", flush=True)


def _takes_part(contestant: Contestant, peers: list[str]) -> bool:
    return contestant.name.startswith("ours") or contestant.name in peers


def _said(options: argparse.Namespace) -> list[str]:
    """The options as they would be written to get the same run."""
    said = [f"--rounds {options.rounds}"]
    if len(options.only) < len(SCENARIOS):
        said.append(f"--only {','.join(options.only)}")
    if len(options.peers) < len(_NAMES):
        said.append(f"--peers {','.join(options.peers)}")
    return said + (["--quick"] if options.quick else [])


def _some_of(names: list[str]) -> Any:
    def parse(text: str) -> list[str]:
        wanted = [word for word in text.split(",") if word]
        for word in wanted:
            if word not in names:
                msg = f"{word!r} is none of {', '.join(names)}"
                raise argparse.ArgumentTypeError(msg)
        return wanted

    return parse


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        msg = f"{text!r} is not a number from 1"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


async def _until_told(work: Any) -> int:
    """Ctrl-C and SIGTERM alike end it the orderly way."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for told in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(told, task.cancel)
    return int(await task)


if __name__ == "__main__":
    sys.exit(main())
