"""What the documents say is tested, is: every test they name exists."""

import ast
import functools
import re
from pathlib import Path

import pytest

from bench.soak.catalogue import PARTS

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["THREAT_MODEL.md", "docs/reliability.md"]
NAMED = re.compile(r"(tests/[\w/]+\.py)::((?:\w+::)*)(test_\w+)")
LOOSE = re.compile(r"`[^`|]*::[^`|]*`")
PART = re.compile(r"soak `([^`]+)`")


@functools.cache
def names_in(path: str) -> frozenset[str]:
    """Every test of a module, in a class or not."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def missing(text: str) -> list[str]:
    """Name what the text names and nobody wrote."""
    parts = {one.name for one in PARTS}
    return [
        f"{path}::{name}"
        for path, _, name in NAMED.findall(text)
        if name not in names_in(path)
    ] + [name for name in PART.findall(text) if name not in parts]


@pytest.mark.parametrize(
    "document", [name for name in DOCUMENTS if (ROOT / name).is_file()]
)
def test_every_test_that_is_named_exists(document):
    text = (ROOT / document).read_text("utf-8")

    assert NAMED.search(text)
    assert [] == missing(text)
    assert all(NAMED.search(one) for one in LOOSE.findall(text))


def test_every_threat_has_a_test_beside_it():
    text = (ROOT / "THREAT_MODEL.md").read_text("utf-8")
    threats = re.findall(r"^\| ([STRIDP]\d+) \|.*\|([^|]*)\|$", text, re.MULTILINE)

    assert 40 <= len(threats)
    assert [] == [
        number
        for number, tests in threats
        if not (NAMED.search(tests) or PART.search(tests))
    ]


def test_what_does_not_exist_is_named():
    text = (
        "`tests/unit/test_threat_model.py::test_what_does_not_exist_is_named` "
        "`tests/unit/test_threat_model.py::test_none` `tests/none.py::test_none` "
        "soak `churn` soak `none`"
    )

    assert [
        "tests/unit/test_threat_model.py::test_none",
        "tests/none.py::test_none",
        "none",
    ] == missing(text)
