"""The note beside a record: the question, the answer, and what it does not show."""

from bench.bars import Verdict
from bench.record import Record
from bench.sample import Sample
from bench.table import bars_table, judged, scenario_table

_LOUD = 0.5
_NOT_SHOWN = (
    "Not shown: a network between them, TLS, more than one machine, a disk slower "
    "than this one.  Peers count as connected at their response head and are not "
    "asked for a state; ours at its first event."
)


def note(record: Record, contestants: list[str]) -> str:
    """Write the note in Markdown."""
    machine = record.machine
    results = judged(record.samples, record.scenarios)
    counts = {one: sum(r.verdict is one for r in results) for one in Verdict}
    dirty = " with changes" if machine.dirty else ""
    lines = [
        f"# {record.name}",
        "",
        f"Question: does the gateway keep its bar in {', '.join(record.scenarios)}?",
        f"Answer: {', '.join(f'{number} {one}' for one, number in counts.items())}.",
        "",
        f"- commit {machine.commit}{dirty}, {machine.at}, `{machine.command}`",
        *_where(record),
        f"- {', '.join(f'{name} {one}' for name, one in machine.versions.items())}",
        *_warnings(record),
        "",
        bars_table(results),
        "",
    ]
    for scenario in record.scenarios:
        lines += [scenario_table(record.samples, scenario, contestants), ""]
    lines += [
        _NOT_SHOWN,
    ]
    return "\n".join(lines) + "\n"


def _where(record: Record) -> list[str]:
    machine = record.machine
    return [
        f"- {machine.processor}, {machine.cores} cores, {machine.memory_mib} MiB",
        f"- {machine.system}, Linux {machine.kernel}",
        f"- {machine.open_files} open files, somaxconn {machine.somaxconn}",
        f"- server on core {machine.server_core}, the rest on {machine.client_core}",
        f"- {record.rounds} rounds in turns: medians (lowest to highest)",
    ]


def _warnings(record: Record) -> list[str]:
    found = []
    if record.quick:
        found.append("- quick run with small sizes: the figures prove nothing")
    found += [f"- missing: {name}: {why}" for name, why in record.missing.items()]
    loud = [one for one in record.samples if one.load_before > _LOUD]
    if loud:
        most = max(one.load_before for one in loud)
        found.append(
            f"- load average above {_LOUD} before {len(loud)} of "
            f"{len(record.samples)} runs, {most:.1f} at most (our own last run counts)"
        )
    found += [f"- failed: {_run(one)}: {one.failure}" for one in _failed(record)]
    found += [
        f"- the load client was the limit: {_run(one)}: {', '.join(one.client_limits)}"
        for one in record.samples
        if one.client_limits
    ]
    return found


def _failed(record: Record) -> list[Sample]:
    return [one for one in record.samples if one.failure]


def _run(sample: Sample) -> str:
    return f"{sample.contestant}, {sample.scenario}, round {sample.round}"
