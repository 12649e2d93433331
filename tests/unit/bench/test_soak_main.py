"""The command line of the soak."""

import json
import sys

import pytest

from bench.errors import MissingError, RunError
from bench.soak import __main__ as soak
from bench.soak.part import Outcome, Part, none


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run one part that does this; gives exit code, what was said, and the records."""
    monkeypatch.setattr(soak, "RESULTS", tmp_path / "real")
    monkeypatch.setattr(soak, "pin_driver", lambda: None)

    def run(act, *arguments):
        async def part(size):
            return act()

        one = Part(name="one", rows="P1", about="this and that", run=part)
        monkeypatch.setattr(soak, "PARTS", (one,))
        monkeypatch.setattr(sys, "argv", ["soak", *map(str, arguments)])
        code = soak.main()
        said = capsys.readouterr().out.splitlines()
        return code, said, sorted(tmp_path.rglob("*.json"))

    return run


def fine():
    return Outcome(figures=[none("lost", 0)])


def raised(error):
    def act():
        raise error

    return act


def test_a_full_run_leaves_a_record(run):
    code, said, [record] = run(fine)

    assert (0, "all as it should be") == (code, said[-1])
    assert "real" == record.parent.name


def test_a_short_run_leaves_none_beside_the_real_ones(run, tmp_path):
    assert [] == run(fine, "--short")[2]
    assert [] == run(fine, "--no-record")[2]

    [record] = run(fine, "--short", "--results", tmp_path / "mine")[2]
    assert "mine" == record.parent.name


LACKING = MissingError("soap: apt-get install soap")


@pytest.mark.parametrize("error", [LACKING, ExceptionGroup("x", [LACKING])])
def test_what_is_not_installed_is_no_missed_bar_and_no_success(run, error):
    code, said, [record] = run(raised(error))

    assert 1 == code
    assert "NOT RUN one: needs soap: apt-get install soap" in said
    assert "not all was run" == said[-1]
    assert "MISSED" not in "".join(said)
    lacking = json.loads(record.read_bytes())["lacking"]
    assert {"one": "soap: apt-get install soap"} == lacking


def test_what_fails_is_missed(run):
    code, said, _ = run(raised(RunError("it fell over")))

    assert 1 == code
    assert ["MISSED one: RunError: it fell over", "missed"] == said[-2:]


def test_what_is_over_its_bar_is_missed(run):
    code, said, _ = run(lambda: Outcome(figures=[none("lost", 2)]))

    assert 1 == code
    assert ["MISSED one: lost: 2 (0) MISSED", "missed"] == said[-2:]
