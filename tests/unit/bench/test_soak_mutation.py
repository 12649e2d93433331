"""A score that forgets a mutant is worse than none."""

import tomllib
from pathlib import Path

import pytest

from bench.errors import RunError
from bench.soak import mutation
from bench.soak.mutants import Mutant
from bench.soak.mutation import MUTATION, counted, judged, mutated
from bench.soak.part import Size

KILLED = {f"gateway.hub.xǁHubǁring__mutmut_{n}": "killed" for n in range(16)}
HUNG = {"gateway.hub.xǁHubǁring__mutmut_16": "timeout"}
LEFT = {f"gateway.hub.xǁHubǁadd__mutmut_{n}": "survived" for n in range(3)}
OTHER = {"gateway.protocol.jws.x_sign__mutmut_1": "killed"}


def missed(results: dict[str, str]) -> list[str]:
    figures = judged(counted(results), {"gateway.hub", "gateway.protocol.jws"})
    return [str(one) for one in figures if not one.holds]


def test_a_mutant_that_hangs_was_noticed_and_each_module_stands_for_itself():
    assert [] == missed(KILLED | HUNG | LEFT | OTHER)


@pytest.mark.parametrize("how", ["survived", "no tests", "suspicious", "not checked"])
def test_whatever_else_becomes_of_a_mutant_was_not_noticed(how):
    one_more = {"gateway.hub.xǁHubǁdrain__mutmut_1": how}

    assert ["mutants of gateway.hub noticed, of all: 0.8095 (>= 0.85) MISSED"] == (
        missed(KILLED | HUNG | LEFT | OTHER | one_more)
    )


def test_a_module_without_a_mutant_was_not_tested():
    assert ["mutants of gateway.protocol.jws noticed, of all: 0 (>= 0.85) MISSED"] == (
        missed(KILLED | HUNG)
    )


def test_what_must_have_mutants_is_what_mutmut_is_told_to_change():
    tree = Path(mutation.__file__).parents[2]
    said = tomllib.loads((tree / "pyproject.toml").read_text())["tool"]["mutmut"]
    changed = {path for one in said["only_mutate"] for path in tree.glob(one)}
    code = {path for path in changed if path.name != "__init__.py"}

    assert mutated(tree) == {
        ".".join(path.relative_to(tree).with_suffix("").parts) for path in code
    }


async def test_a_mutant_that_no_test_notices_is_told(monkeypatch):
    harmless = Mutant(
        about="nothing is wrong",
        module="gateway/protocol/cursor.py",
        before="return CURRENT\n    return int",
        after="return -1\n    return int",
        tests="tests/unit/gateway/protocol/test_cursor.py",
    )
    monkeypatch.setattr(mutation, "MUTANTS", (harmless,))

    outcome = await MUTATION.run(Size.SHORT)

    assert ["nothing is wrong"] == outcome.samples["survived"]
    assert not outcome.figures[0].holds


async def test_a_mutant_of_code_that_has_changed_since_is_an_error(monkeypatch):
    old = Mutant(
        about="the code is another",
        module="gateway/protocol/cursor.py",
        before="what it said once",
        after="",
        tests="tests/unit/gateway/protocol/test_cursor.py",
    )
    monkeypatch.setattr(mutation, "MUTANTS", (old,))

    with pytest.raises(RunError, match="does not say 'what it said once' once"):
        await MUTATION.run(Size.SHORT)
