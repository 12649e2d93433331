"""What the documents lead to is there, to the very heading."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
BY_NAME = re.compile(r"\binstall (?:-\S+ )*['\"]?reelready\b")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


@cache
def anchors(path: Path) -> frozenset[str]:
    """Every heading as GitHub makes an anchor of it."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return frozenset(
        re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings
    )


def dead_ends(text: str, folder: Path, itself: Path) -> list[str]:
    """List the links that lead nowhere."""
    found = []
    for name, anchor in LINK.findall(CODE.sub("", text)):
        path = folder / name if name else itself
        if not path.exists() or (
            anchor and path.suffix == ".md" and anchor not in anchors(path)
        ):
            found.append(f"{name}#{anchor}")
    return found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_link_leads_nowhere(document):
    path = ROOT / document

    assert [] == dead_ends(path.read_text("utf-8"), path.parent, path)


def test_a_dead_end_is_found():
    text = "[a](README.md) [b](no.md) [c](README.md#no) [d](#no) `[e](no)` [f](a:b)"

    assert ["no.md#", "README.md#no", "#no"] == dead_ends(
        text, ROOT, ROOT / "README.md"
    )


def test_nobody_is_told_to_install_a_name_that_is_on_no_index():
    """
    Whoever takes that name first would run code on every gateway.
    """
    code = (
        path
        for folder in ("gateway", "workers", "local", "deploy")
        for path in (ROOT / folder).rglob("*.py")
    )
    told = [
        str(path)
        for path in (*map(ROOT.joinpath, DOCUMENTS), *code)
        if BY_NAME.search(path.read_text("utf-8"))
    ]

    assert [] == told
