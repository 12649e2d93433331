"""Tables for people: every figure with its spread, every ratio beside its bar."""

from collections.abc import Iterable, Sequence

from bench.bars import BARS, Bar, Judged, Verdict, judge
from bench.sample import Sample, Spread, find

_COLUMNS = {
    "memory": ("kib_few", "kib_usual", "kib_many", "kib_after_traffic"),
    "connect": ("per_second", "p99_ms", "server_cpu_us"),
    "storm": ("seconds", "server_cpu_s", "lost", "wrong"),
    "many-files": (
        "per_second_32", "server_cpu_us_32", "per_second_200", "server_cpu_us_200",
        "wrong",
    ),
    "paced": ("p50_ms", "p90_ms", "p99_ms", "max_ms", "wrong"),
    "hot-file": ("per_second", "calm_p99_ms", "server_cpu_us", "wrong"),
    "waiting": ("cpu_s_usual", "other_cpu_s_usual", "requests_usual", "reads_usual"),
    "crowd": ("cpu_us_few", "cpu_us_many", "ratio"),
    "small-machine": (
        "held", "limit_mib", "charged_kib_each", "counted_kib_each", "holds",
    ),
    "processes": (
        "connects_per_second", "events_per_second_200", "deliveries_per_second",
        "connect_cpu_us", "event_cpu_us_200", "delivery_cpu_us", "wrong",
    ),
    "apart": (
        "p50_ms", "p99_ms", "writer_us_200", "reader_us_200", "idle_us_200",
        "postgres_us_200", "relay_us_200", "redis_us_200", "wrong",
    ),
    "listeners": (
        "postgres_us_0", "postgres_us_16", "postgres_us_64", "p50_ms_0", "p50_ms_64",
        "commits_per_second", "notifying_per_second", "wrong",
    ),
}  # fmt: skip


def number(value: float) -> str:
    """Three digits that matter, thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def shown(value: Spread | None) -> str:
    """The median, and behind it the lowest and the highest."""
    if value is None:
        return "-"
    if value.runs == 1:
        return number(value.median)
    lowest, highest = number(value.lowest), number(value.highest)
    return f"{number(value.median)} ({lowest} to {highest})"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def judged(samples: Sequence[Sample], scenarios: Sequence[str]) -> list[Judged]:
    """Hold every bar of the scenarios that were run against the samples."""
    return [judge(bar, samples) for bar in BARS if bar.scenario in scenarios]


def bars_table(results: Iterable[Judged]) -> str:
    """Every ratio beside its bar."""
    return markdown(
        ("figure", "ours", "peer", "ratio", "bar", ""),
        (
            (
                one.bar.about,
                shown(one.ours),
                shown(one.theirs) if one.bar.peer else "",
                "-" if one.value is None else _ratio(one),
                one.bar.limit,
                one.verdict.value,
            )
            for one in results
        ),
    )


def scenario_table(
    samples: Sequence[Sample], scenario: str, contestants: Iterable[str]
) -> str:
    """The figures of everybody in one scenario."""
    columns = _COLUMNS[scenario]
    rows = []
    for contestant in contestants:
        values = [find(samples, scenario, contestant, one) for one in columns]
        if any(values):
            rows.append((contestant, *map(shown, values)))
    return markdown((scenario, *columns), rows)


def missed(results: Iterable[Judged]) -> list[Bar]:
    """The bars that were not reached."""
    return [one.bar for one in results if one.verdict is Verdict.MISSED]


def _ratio(one: Judged) -> str:
    return number(one.value or 0) if one.bar.peer else ""
