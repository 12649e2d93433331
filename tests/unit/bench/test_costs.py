"""The cost sheet: document and script say the same, and the script reckons right."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench import costs
from bench.costs import (
    DESIGNS,
    PRICES,
    TEAMS,
    Team,
    Waiting,
    at_once,
    bill,
    by_design,
    calls_of_a_file,
    calls_usd,
    converting,
    cpu_s,
    lcus,
    machines,
    marked,
    tables,
    waiting,
)

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "costs.md").read_text("utf-8")
TEAM = Team(
    name="one", files=43_800, video_minutes=2, file_minutes=3, clients=4, poll_s=5
)
CHEAP = Waiting(cpu_s=0.001, requests=0, reads=0, received_bytes=0, kib=1)
POLLING = replace(CHEAP, cpu_s=0.2, requests=20)
MEASURED = {"v1": POLLING, "v2": CHEAP, "v3": CHEAP}


@pytest.mark.parametrize("name", tables())
def test_the_document_holds_the_table_as_the_script_makes_it(name):
    assert marked(name, tables()[name]) in PAGE


def test_the_document_holds_no_table_that_the_script_does_not_make():
    assert list(tables()) == re.findall(r"^<!-- ([\w-]+) -->$", PAGE, re.MULTILINE)


def test_the_document_names_the_record():
    assert costs.RECORD.exists()
    assert f"results/{costs.RECORD.stem}.md" in PAGE


@pytest.mark.parametrize("team", TEAMS, ids=lambda team: team.name)
def test_the_formulas_of_the_document_are_those_of_the_script(team):
    block = re.search(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert block
    given, formulas = block[1].split("\n\n", 1)
    names = dict.fromkeys(re.findall(r"^(\w+) =", given, re.MULTILINE))
    values = {name: getattr(team, name) for name in names}

    exec(compile(formulas, "docs/costs.md", "exec"), values)

    measured = by_design()
    assert at_once(team) == pytest.approx(values["waiting"])
    assert converting(team) == pytest.approx(values["converting"])
    for design in DESIGNS:
        one = bill(team, design, measured)
        seconds = cpu_s(team, design, measured)
        assert seconds == pytest.approx(values[f"cpu_s_{design}"], rel=0.005)
        assert one.machines == values[f"machines_{design}"]
        assert one.beside == pytest.approx(values[f"beside_{design}"], abs=0.01)


def test_who_waits_at_once_is_what_comes_times_how_long():
    assert 12 == at_once(TEAM)


def test_a_poll_costs_the_same_however_often_one_asks():
    # 0.2 s for 20 polls a minute; asked every 5 s, 12 of them, by 120 at the peak.
    assert 120 * 12 * 0.01 == pytest.approx(cpu_s(TEAM, "v1", MEASURED))
    assert 120 * 0.001 == pytest.approx(cpu_s(TEAM, "v3", MEASURED))


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, 1), (12, 1), (12.1, 2), (100, 9)]
)
def test_machines_are_whole_ones_and_at_least_one(seconds, expected):
    assert expected == machines(seconds)


def test_the_ladder_is_two_hd_outputs_and_an_sd_one():
    assert 43_800 * 2 * 0.0375 == pytest.approx(converting(TEAM))


def test_what_is_free_each_month_is_free():
    assert 0 == calls_usd(1_000_000)
    assert 1_000_000 * 0.0000002 == pytest.approx(calls_usd(2_000_000))
    # 10 million calls: 9 are paid for, and 500,000 GB-s, of which 100,000.
    assert 9 * 0.2 + 100_000 * 0.0000166667 == pytest.approx(calls_usd(10_000_000))


def test_only_v3_tells_what_happens_on_the_way():
    assert [2, 2, 4 + 18] == [calls_of_a_file(TEAM, one) for one in DESIGNS]


def test_of_an_lcu_only_the_greatest_part_counts():
    assert 20 == lcus(connects=500, open_=1_000)
    assert 2 == lcus(connects=1, open_=6_000)
    assert 1.8 == pytest.approx(lcus(open_=1_000, bytes_=500_000))


def test_one_client_is_its_share_of_the_sample():
    sample = {
        "figures": {
            "held_few": 10,
            "cpu_s_few": 3.0,
            "other_cpu_s_few": 1.0,
            "requests_few": 20,
            "reads_few": 40,
            "kib_each_few": 2.0,
            "kernel_kib_each_few": -1.0,
            "held_usual": 20,
        },
        "phases": {"wait 10": {"seconds": 30.0, "bytes": 500}},
    }

    assert Waiting(
        cpu_s=0.4, requests=2, reads=4, received_bytes=100, kib=2
    ) == waiting(sample, "few")


def test_every_price_says_where_it_is_from():
    for name, price in PRICES.items():
        assert price.found, name
        assert not price.confirmed or price.found.startswith("AWS"), name
