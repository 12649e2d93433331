"""README.ko.md says what README.md says: whoever changes one changes the other."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGLISH = (ROOT / "README.md").read_text("utf-8")
KOREAN = (ROOT / "README.ko.md").read_text("utf-8")

BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(?=#+ )", re.MULTILINE)
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\]\(([^)\s]*)\)|src=\"([^\"]*)\"")
MARK = re.compile(r"<!--.*?-->")
ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
OTHER_LANGUAGE = {"README.ko.md": "README.md"}


def sections(text: str) -> list[str]:
    """What stands before the first heading, and each heading with what follows."""
    blocks = BLOCK.findall(text)
    cut = HEADING.split(BLOCK.sub("\0", text))
    return [re.sub("\0", lambda _: blocks.pop(0), one) for one in cut]


def content(section: str) -> dict[str, list[str]]:
    """What is the same in every language; in order, where a language keeps it."""
    prose = BLOCK.sub("", section)
    links = ["".join(one) for one in LINK.findall(CODE.sub("", prose))]
    words = LINK.sub("]", prose)
    return {
        "heading": re.findall(r"^#+(?= )", prose, re.MULTILINE),
        "code blocks": BLOCK.findall(section),
        "marks": MARK.findall(prose),
        "columns of a row": [str(len(row.split("|"))) for row in ROW.findall(prose)],
        "links": sorted(OTHER_LANGUAGE.get(one, one) for one in links),
        "code": sorted(CODE.findall(words)),
        "figures": sorted(FIGURE.findall(CODE.sub("", words))),
    }


def differences(english: str, korean: str) -> list[str]:
    """Where two texts differ in what every language has in common, and in what."""
    ours, theirs = sections(english), sections(korean)
    found = []
    if len(ours) != len(theirs):
        found.append(f"{len(ours) - 1} headings, and {len(theirs) - 1} in Korean")
    for one, other in zip(ours, theirs, strict=False):
        place = " / ".join(part.strip().partition("\n")[0] for part in (one, other))
        there = content(other)
        for what, values in content(one).items():
            if values != there[what]:
                missing = Counter(values) - Counter(there[what])
                more = Counter(there[what]) - Counter(values)
                found.append(
                    f"{place}: {what}: in English only {list(missing.elements())}, "
                    f"in Korean only {list(more.elements())}"
                )
    return found


def test_both_say_the_same():
    assert [] == differences(ENGLISH, KOREAN)


def test_each_leads_to_the_other():
    assert "](README.ko.md)" in sections(ENGLISH)[1]
    assert "](README.md)" in sections(KOREAN)[1]


def test_the_korean_one_is_korean():
    prose = CODE.sub("", MARK.sub("", BLOCK.sub("", LINK.sub("]", KOREAN))))
    for paragraph in prose.split("\n\n"):
        words = re.findall("[A-Za-z]{2,}", paragraph)
        assert len(words) < 5 or re.search("[가-힣]", paragraph), paragraph


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("\n## Tests\n", "\n### Tests\n", "### Tests / ## Tests: heading"),
        ("\n## Tests\n", "\n", "headings, and"),
        ("make run\n```", "make walk\n```", "## Try it / ## Try it: code blocks"),
        ("<!-- run: clip -->", "<!-- run: clap -->", "## Try it / ## Try it: marks"),
        ("| `make fmt` | ", "| `make fmt` | | ", "columns of a row"),
        ("](docs/capacity.md)", "](docs/local.md)", "links"),
        ("images/page.png", "images/pages.png", "links"),
        ("`PORT=9000 make run`", "`PORT=9001 make run`", "code"),
        ("Python 3.11", "Python 3.12", "in English only ['3.12'], in Korean only"),
        ("10,761", "10,762", "figures: in English only ['10,762']"),
    ],
)
def test_a_change_of_one_alone_is_found_and_named(before, after, said):
    assert before in ENGLISH
    changed = ENGLISH.replace(before, after, 1)

    assert [] == differences(ENGLISH, ENGLISH)
    assert said in "\n".join(differences(changed, ENGLISH))
    assert differences(ENGLISH, changed)
