"""What the page weighs, and that it brings everything itself."""

import gzip
import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[3] / "gateway" / "static"
FILES = sorted(
    path for path in STATIC.iterdir() if path.suffix in {".html", ".css", ".js"}
)
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
ON_DEMAND = {"clipboard.js", "player.js"}
LANGUAGES = {"en.js", "ko.js"}


def text(name: str) -> str:
    return (STATIC / name).read_text("utf-8")


def test_a_first_visit_loads_at_most_62_kb_before_any_compression():
    always = [
        path for path in FILES if path.name not in ON_DEMAND | LANGUAGES | {"hls.js"}
    ]
    language_bytes = max((STATIC / name).stat().st_size for name in LANGUAGES)

    assert 62 * 1024 >= sum(path.stat().st_size for path in always) + language_bytes


def test_the_client_is_at_most_3_and_a_half_kb_compressed_and_stands_alone():
    client = text("reelready.js")

    assert 3.5 * 1024 >= len(gzip.compress(client.encode(), 9))
    assert "import " not in client.replace("import.meta", "")


def test_what_the_client_says_of_its_connection_has_words_and_a_meaning():
    said = set(re.findall(r'#say\((?:[^"()]*\? )?"(\w+)"', text("reelready.js")))
    listed = re.search(r"\* onConnection +gets (.+)", text("reelready.js"))
    protocol = (STATIC.parents[1] / "docs" / "protocol.md").read_text("utf-8")
    table = protocol.partition("| connection | means |\n")[2].partition("\n\n")[0]

    assert listed
    assert said == set(listed[1].split(" | "))
    assert said == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    for language in LANGUAGES:
        known = set(re.findall(r"^  (\w+):", text(language), re.MULTILINE))
        assert {"done"} == said - known


def test_nothing_in_the_document_needs_more_than_the_policy_allows():
    document = text("index.html")

    assert [] == re.findall(r"<script(?![^>]*\bsrc=)", document)
    assert [] == re.findall(r"\s(?:style|on\w+)=", document)
    assert "<style" not in document


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_names_another_host(path):
    found = re.findall(r"https?://[^\s'\"`)]+", path.read_text("utf-8"))

    assert [] == [url for url in found if not url.startswith("http://www.w3.org/")]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_markup_or_code_from_text(path):
    risky = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|Function\("
    )

    assert [] == re.findall(risky, path.read_text("utf-8"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_import_is_a_file_beside_it(path):
    imported = re.findall(r'(?:from|import\() ?"\./([\w.]+)"', path.read_text("utf-8"))

    assert [] == [name for name in imported if not (STATIC / name).is_file()]


def test_every_text_in_the_document_exists_in_both_languages():
    used = set(re.findall(r'data-t(?:-label)?="(\w+)"', text("index.html")))

    for language in LANGUAGES:
        known = set(re.findall(r"^  (\w+):", text(language), re.MULTILINE))
        assert set() == used - known
