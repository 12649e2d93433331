"""Records, their notes, and the page that is filled in from them."""

from pathlib import Path

import pytest

from bench.capacity import PAGE, filled, parts, update
from bench.catalogue import CONTESTANTS, SCENARIOS
from bench.machine import describe
from bench.note import note
from bench.record import Record, read, write
from bench.sample import Sample

NAMES = [one.name for one in CONTESTANTS]


@pytest.fixture
def record() -> Record:
    figures = {f"{name}_few": 1.0 for name in ("held", "cpu_s", "requests", "reads")}
    return Record(
        machine=describe(["--rounds 1"], "18.6"),
        rounds=1,
        quick=True,
        scenarios=["storm", "waiting"],
        missing={"nchan": "nginx is not installed"},
        samples=[
            Sample(
                scenario="storm",
                contestant="ours",
                round=1,
                load_before=1.5,
                figures={"seconds": 2.5, "wrong": 0},
                client_limits=["storm"],
            ),
            Sample(
                scenario="storm",
                contestant="starlette-queue",
                round=1,
                load_before=0.1,
                figures={"seconds": 1.0},
            ),
            Sample(
                scenario="waiting",
                contestant="ours",
                round=1,
                load_before=0.1,
                figures=figures,
                failure="it broke later",
            ),
        ],
    )


def test_a_record_is_read_as_it_was_written(record: Record, tmp_path: Path):
    path = write(record, "a note\n", folder=tmp_path / "results")

    assert record == read(path)
    assert "a note\n" == path.with_suffix(".md").read_text()
    assert path.stem.endswith("storm+waiting")


def test_a_record_says_where_when_and_how(record: Record):
    machine = record.machine

    assert "python -m bench --rounds 1" == machine.command
    assert "18.6" == machine.versions["postgres"]
    assert machine.kernel
    assert machine.memory_mib > 0


def test_a_note_tells_what_was_missed_and_what_is_doubtful(record: Record):
    text = note(record, NAMES)

    assert "| 2.5 | 1 | 2.5 | <= 0.25 x starlette-queue | MISSED |" in text
    assert "quick run" in text
    assert "missing: nchan: nginx is not installed" in text
    assert "load average above 0.5 before 1 of 3 runs, 1.5 at most" in text
    assert "the load client was the limit: ours, storm, round 1: storm" in text
    assert "failed: ours, waiting, round 1: it broke later" in text


def test_a_part_replaces_what_is_between_its_marks():
    page = "before\n<!-- a -->\n\nold\n\n<!-- /a -->\nafter\n"

    assert "before\n<!-- a -->\n\nnew\n\n<!-- /a -->\nafter\n" == filled(
        page, {"a": "new"}
    )


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="no <!-- a -->"):
        filled("nothing here", {"a": "new"})


def test_the_page_has_a_place_for_everything(record: Record, tmp_path: Path):
    path = tmp_path / "capacity.md"
    path.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    update(record, NAMES, path=path)
    page = path.read_text(encoding="utf-8")

    assert f"(../bench/results/{record.name}.md)" in page
    for name in ("bars", *(one.name for one in SCENARIOS)):
        assert f"<!-- {name} -->" in page


def test_parts_are_only_what_was_measured(record: Record):
    assert {"storm", "waiting"} == parts(record, NAMES).keys()
