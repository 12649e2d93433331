"""
Past one machine: which part is full first, and what to turn on when.

`python -m bench.scaling` prints the tables of `docs/scaling.md`, `--update` puts them
there.  The first holds the model against what was measured.
"""

import sys
from pathlib import Path

from bench.capacity import filled
from bench.costs import UPDATE_S
from bench.engines import (
    ENGINES,
    PARTS,
    POSTGRES,
    RELAY,
    Load,
    best,
    most,
    plan,
    predicted,
    waits_ms,
)
from bench.spent import Costs, costs, measured
from bench.table import markdown, number
from local.environment import CODE

PAGE = CODE / "docs" / "scaling.md"

CLIENTS = (10_000, 100_000, 1_000_000, 10_000_000)
UPDATES_S = (UPDATE_S, 60)
"""`StatusUpdateSeconds` of the template, and a slower one."""


def tables() -> dict[str, str]:
    """Every table of the document by the name of its marks."""
    known = costs()
    return {
        "held-against": _held_table(known),
        "plan": _plan_table(known),
        "limits": _limits_table(known),
        "many-gateways": _many_table(known),
        "queue": _queue_table(known),
        "costs-of-parts": _costs_table(known),
    }


def _held_table(known: Costs) -> str:
    rows = []
    for processes in (1, 2, 4):
        seen = measured(processes)
        for figure, expected in predicted(known, processes).items():
            off = expected / seen[figure] - 1
            what = figure.partition("_")[0]
            rows.append(
                (
                    str(processes),
                    what,
                    number(expected),
                    number(seen[figure]),
                    f"{off:+.0%}",
                )
            )
    return markdown(("processes", "a second", "predicted", "measured", "off by"), rows)


def _plan_table(known: Costs) -> str:
    rows = []
    for update_s in UPDATES_S:
        for clients in CLIENTS:
            load = Load(clients=clients, update_s=update_s)
            one = best(known, load)
            rows.append(
                (
                    f"{clients:,}",
                    str(update_s),
                    number(load.events),
                    one.engine if one.parts == 1 else f"{one.parts} x {one.engine}",
                    f"{one.parts * one.gateways:,}",
                    number(one.parts * one.cores["Postgres"]),
                    f"{one.first}, {one.full[one.first]:.0%}",
                    number(one.turn_ms),
                    number(one.back_s),
                    number(clients * known.kib / 2**20),
                    number(one.usd),
                )
            )
    head = (
        "clients", "update s", "events/s", "turn on", "processes", "Postgres cores",
        "full first", "turn ms", "back s", "GiB of clients", "$ a month",
    )  # fmt: skip
    return markdown(head, rows)


def _limits_table(known: Costs) -> str:
    rows = []
    for engine in ENGINES:
        for update_s in UPDATES_S:
            one = most(known, engine, update_s)
            rows.append(
                (
                    engine,
                    str(update_s),
                    f"{one.load.clients:,}",
                    number(one.load.events),
                    f"{one.gateways:,}",
                    *(f"{one.full[part]:.0%}" for part in one.full),
                )
            )
    head = ("engine", "update s", "clients", "events/s", "processes", *PARTS)
    return markdown(head, rows)


def _many_table(known: Costs) -> str:
    load, rows = Load(clients=20_000), []
    for gateways in (4, 16, 64, 256):
        by_postgres, by_relay = (
            plan(known, load, engine, gateways) for engine in (POSTGRES, RELAY)
        )
        rows.append(
            (
                str(gateways),
                *(number(one.cores["Postgres"]) for one in (by_postgres, by_relay)),
                *(number(one.cores["gateways"]) for one in (by_postgres, by_relay)),
                *(number(by_relay.cores[part]) for part in ("relay", "Redis")),
            )
        )
    head = (
        "processes", "Postgres, by Postgres", "by a relay",
        "all gateways, by Postgres", "by a relay", "relay", "Redis",
    )  # fmt: skip
    return markdown(head, rows)


def _queue_table(known: Costs) -> str:
    return markdown(
        ("of a core", "waits, mean ms", "p99 ms"),
        (
            (f"{busy:.0%}", *map(number, waits_ms(known.own[1], busy)))
            for busy in (0.3, 0.6, 0.8, 0.9, 0.95, 0.99)
        ),
    )


def _costs_table(known: Costs) -> str:
    alone = known.apiece
    rows: list[tuple[str, float, float | None]] = [
        ("gateway: an event whose client waits there", known.own[1], alone["own"]),
        ("gateway: writing another one", known.writer[1], alone["writer"]),
        ("gateway: reading it, by Postgres", known.reader[1], alone["reader"]),
        ("gateway: reading it, by a relay", known.relayed, alone["relayed"]),
        ("gateway: hearing of it, with nobody there", known.idle[1], alone["idle"]),
        ("gateway: a client that comes", known.connect, None),
        ("gateway: each client of a hot file", known.delivery, None),
        ("gateway: a client that waits a minute", known.minute, None),
        ("Postgres: a transaction that notifies", known.commit, None),
        ("Postgres: an event in it", known.row, None),
        ("Postgres: a session that hears of it", known.listener, None),
        ("relay: an event", known.relay, alone["relay"]),
        ("Redis: an event", known.redis, alone["redis"]),
        ("Redis: a client that comes", known.redis_connect, None),
    ]
    return markdown(
        ("what", "CPU us", "alone in its transaction"),
        (
            (what, number(full), "" if apiece is None else number(apiece))
            for what, full, apiece in rows
        ),
    )


def update(path: Path = PAGE) -> None:
    """Fill in the page."""
    path.write_text(filled(path.read_text("utf-8"), tables()), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--update"]:
        update()
    else:
        print("\n\n".join(f"{name}\n\n{one}" for name, one in tables().items()))
