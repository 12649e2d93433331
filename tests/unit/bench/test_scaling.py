"""The plan past one machine: page and script agree, and the model with what was seen."""

import re
from dataclasses import replace

import pytest

from bench.engines import (
    BUSY,
    ENGINES,
    MOST_SUBSCRIBERS,
    ONE,
    POSTGRES,
    RELAY,
    WRITERS,
    Load,
    best,
    event_us,
    most,
    plan,
    predicted,
    smallest,
    waits_ms,
)
from bench.scaling import PAGE, tables, update
from bench.spent import SEVERAL, WAITING, costs, measured
from gateway.config import Config
from gateway.ingest import WRITERS as WRITERS_OF_INGEST

TEXT = PAGE.read_text("utf-8")
MOST_OFF = 0.25


@pytest.fixture
def known():
    return costs()


@pytest.mark.parametrize("name", tables())
def test_the_page_holds_the_table_as_the_script_makes_it(name):
    assert f"<!-- {name} -->\n\n{tables()[name]}\n\n<!-- /{name} -->" in TEXT


def test_the_page_holds_no_table_that_the_script_does_not_make():
    assert set(tables()) == set(re.findall(r"^<!-- ([\w-]+) -->$", TEXT, re.MULTILINE))


@pytest.mark.parametrize("record", [SEVERAL, WAITING], ids=lambda path: path.stem)
def test_the_page_names_the_records(record):
    assert record.exists()
    assert f"results/{record.stem}.md" in TEXT


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_what_the_model_says_was_seen(known, processes):
    seen = measured(processes)
    said = predicted(known, processes)

    assert seen.keys() == said.keys()
    assert [] == [
        (figure, said[figure], seen[figure])
        for figure in seen
        if abs(said[figure] / seen[figure] - 1) > MOST_OFF
    ]


def test_what_the_page_says_in_short_is_what_the_tables_say(known):
    one, more, relay = (most(known, engine, 10) for engine in ENGINES)

    assert f"enough for {one.load.clients:,} clients" in TEXT
    assert 99_000 == most(known, ONE, 60).load.clients
    assert MOST_SUBSCRIBERS == Config.__dataclass_fields__["max_subscribers"].default
    assert f"for the {MOST_SUBSCRIBERS:,} of `REELREADY_MAX_SUBSCRIBERS`" in TEXT
    assert f"go far: {more.load.clients / 1e6:g} million\n  clients" in TEXT
    assert f"and {more.load.events:,.0f} events a second, with 16 cores" in TEXT
    assert f"is full itself at {relay.load.events:,.0f} events a second" in TEXT
    assert f"[{known.commits_per_second:,.0f} a second here]" in TEXT
    assert f"where {known.silent_per_second:,.0f} that" in TEXT
    assert f"add the {known.delivery:.0f} us of the table" in TEXT


def test_with_one_process_nobody_else_hears_of_an_event(known):
    idle = replace(known, idle={1: 1e9, 2: 1e9, 4: 1e9})

    assert known.own[1] == event_us(idle, 1)
    assert event_us(idle, 2) > 1e8


def test_a_further_gateway_costs_postgres_something_but_for_a_relay(known):
    load = Load(clients=20_000)

    few, many = (plan(known, load, POSTGRES, number) for number in (2, 200))
    assert few.cores["Postgres"] < many.cores["Postgres"]
    few, many = (plan(known, load, RELAY, number) for number in (2, 200))
    assert few.cores["Postgres"] == many.cores["Postgres"]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_most_that_an_engine_can_have_is_the_most(known, engine):
    found = most(known, engine, 10)
    more = replace(found.load, clients=int(found.load.clients * 1.12))

    assert found.works
    assert not smallest(known, more, engine).works


def test_the_first_engine_that_does_it_is_taken(known):
    assert [(ONE, 1), (POSTGRES, 1)] == [
        (one.engine, one.parts)
        for one in (best(known, Load(clients=n)) for n in (1_000, 100_000))
    ]
    several = best(known, Load(clients=10_000_000))
    assert several.parts > 1
    assert several.works
    assert several.usd > 9 * best(known, Load(clients=1_000_000)).usd


@pytest.mark.parametrize("busy", [0.3, BUSY, 0.9])
def test_a_queue_waits_as_theory_says(busy):
    """M/D/1: on average, service times busy / 2 (1 - busy)."""
    mean, p99 = waits_ms(1000, busy)

    assert mean == pytest.approx(busy / (2 * (1 - busy)), rel=0.05)
    assert mean < p99
    assert (mean, p99) == waits_ms(1000, busy)


def test_a_record_without_a_figure_is_named(monkeypatch):
    monkeypatch.setattr("bench.spent.SEVERAL", WAITING)

    with pytest.raises(LookupError, match=r"waiting.json has no postgres_us_0 of ours"):
        costs()


def test_the_command_puts_the_tables_there(tmp_path):
    page = tmp_path / "scaling.md"
    marks = "".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in tables())
    page.write_text(marks)

    update(page)

    text = page.read_text()
    assert "old" not in text
    assert all(table in text for table in tables().values())


def test_an_event_alone_in_its_transaction_is_dearer(known):
    """Under full load it costs what was measured there, and never less."""
    quiet, full = (
        plan(known, Load(clients=n), POSTGRES, 4) for n in (1_000, 1_000_000)
    )

    assert quiet.cores["gateways"] / 1_000 > 3 * full.cores["gateways"] / 1_000_000
    assert full.cores["gateways"] >= full.full["gateways"] * BUSY * 4
    assert WRITERS == WRITERS_OF_INGEST
