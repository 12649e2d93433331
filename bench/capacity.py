"""
The figures of `docs/capacity.md`, between its marks; the words around are ours.
"""

from pathlib import Path

from bench.record import Record
from bench.sample import Sample, find
from bench.table import bars_table, judged, markdown, number, scenario_table
from local.environment import CODE

PAGE = CODE / "docs" / "capacity.md"

_WAYS = {
    "polling": "polling every 2 s (v1)",
    "starlette-redis": "Redis + SSE (v2)",
    "ours-lp": "long-poll, this gateway",
    "ours": "SSE, this gateway",
    "aiohttp-ws": "WebSocket, aiohttp",
    "nchan": "SSE, nginx + nchan",
}


def filled(page: str, parts: dict[str, str]) -> str:
    """
    Put each part between its marks, `<!-- name -->` and `<!-- /name -->`.

    Raises:
        ValueError: The page has no such marks.
    """
    for name, text in parts.items():
        opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = page.partition(opening)
        _, ended, after = rest.partition(closing)
        if not found or not ended:
            msg = f"no {opening} ... {closing}"
            raise ValueError(msg)
        page = f"{before}{opening}\n\n{text}\n\n{closing}{after}"
    return page


def parts(record: Record, contestants: list[str]) -> dict[str, str]:
    """Write every part that this record has figures for."""
    link = f"[{record.name}](../bench/results/{record.name}.md)"
    source = f"Record: {link}."
    written = {}
    if len(record.scenarios) > 3:
        bars = bars_table(judged(record.samples, record.scenarios))
        written["bars"] = f"{bars}\n\n{source}"
    for scenario in record.scenarios:
        if scenario == "waiting":
            tables = [f"{waiting_table(record.samples)}\n\nPer minute."]
        else:
            tables = [scenario_table(record.samples, scenario, contestants)]
        results = judged(record.samples, [scenario])
        # A longer record shows them all together.
        if results and "bars" not in written:
            tables.append(bars_table(results))
        written[scenario] = "\n\n".join([*tables, source])
    return written


def waiting_table(samples: list[Sample]) -> str:
    """What clients cost that only wait, by the way in which they do."""
    rows = []
    for size in ("few", "usual"):
        for contestant, way in _WAYS.items():
            row = _row(samples, contestant, size)
            if row:
                rows.append((row[0], way, *row[1:]))
    head = (
        "clients", "way", "CPU s", "CPU s of the database", "memory MiB", "KiB each",
        "kernel KiB each", "requests", "database reads",
    )  # fmt: skip
    return markdown(head, rows)


def update(record: Record, contestants: list[str], *, path: Path = PAGE) -> None:
    """Fill in the page from one record."""
    page = path.read_text(encoding="utf-8")
    path.write_text(filled(page, parts(record, contestants)), encoding="utf-8")


def _row(samples: list[Sample], contestant: str, size: str) -> tuple[str, ...]:
    figures = (
        "held", "cpu_s", "other_cpu_s", "pss_mib", "kib_each", "kernel_kib_each",
        "requests", "reads",
    )  # fmt: skip
    values = [
        find(samples, "waiting", contestant, f"{figure}_{size}") for figure in figures
    ]
    return tuple(number(one.median) for one in values if one is not None)
