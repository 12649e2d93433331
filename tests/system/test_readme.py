"""
The documents are true: what they print runs as printed, what they name exists.

A shell block under a comment ``<!-- run: name -->`` is run here.  Nothing of it
is changed but the address of the gateway.
"""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli import COMMANDS
from gateway.config import LOCAL_API_KEY, LOCAL_INGEST_SECRET

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
LOCAL = ROOT / "docs" / "local.md"
DOCUMENTS = [
    README,
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
PRINTED_ADDRESS = "URL=http://127.0.0.1:8080\n"
WAIT_S = 150
NEW_FILE = {"name": "a.mp4", "content_type": "video/mp4", "size": 1000}

_BLOCK = re.compile(
    r"<!-- run: ([\w-]+) -->\n```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE
)
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"')
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_NAMED_TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
_NAMED_FILE = re.compile(
    r"`((?:gateway|workers|lambdas|migrations|local|tests|docs)/[\w/.-]*)`"
)
_RULE = re.compile(r"^\| (\d+) \| .+$", re.MULTILINE)

by_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)


@pytest.fixture
def workplace(tmp_path: Path, cloud) -> Path:
    """A folder like a clone in which `DATA_DIR=data make run` runs."""
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, run in (("python", ""), ("reelready", "-m gateway")):
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {run} "$@"\n')
        script.chmod(0o755)
    (tmp_path / "data").symlink_to(cloud.data_dir)
    return tmp_path


@pytest.fixture
def run_as_printed(workplace: Path, cloud) -> Callable[[Path], dict[str, str]]:
    """Run a document's blocks in one shell; the value is what each one printed."""

    def run(document: Path) -> dict[str, str]:
        blocks = _BLOCK.findall(document.read_text())
        script = "".join(f"printf '\\036{name}\\n'\n{text}" for name, text in blocks)
        script = script.replace(PRINTED_ADDRESS, f"URL={cloud.url.rstrip('/')}\n")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=workplace,
            env=_environment(workplace, cloud.url),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert (0, "") == (done.returncode, done.stderr), done.stdout
        printed = [part.partition("\n") for part in done.stdout.split("\x1e")[1:]]
        return {name: text for name, _, text in printed}

    return run


def _environment(workplace: Path, url: str) -> dict[str, str]:
    """Of this process, without settings or an AWS account of the person's own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REELREADY_", "AWS_"))
    }
    here = {"REELREADY_URL": url, "PYTHONPATH": str(ROOT), "HOME": str(workplace)}
    return kept | here


@pytest.mark.timeout(200)
def test_every_block_of_the_readme_works_as_printed(run_as_printed, workplace):
    assert 1 == README.read_text().count(PRINTED_ADDRESS)

    printed = run_as_printed(README)

    assert "playable" == json.loads(printed["cli"].splitlines()[-1])["status"]
    registered = json.loads(printed["register"])
    assert ("awaiting_upload", 1) == (
        registered["file"]["status"],
        registered["watch"]["after"],
    )
    assert "" == printed["upload"]
    first = json.loads(printed["long-poll"])["events"][0]
    assert (registered["file"]["id"], 2) == (first["id"], first["seq"])
    check_blocking_get(printed["blocking-get"])
    states = check_stream(printed["stream"])
    assert ["awaiting_upload", "playable"] == [
        states[0]["status"],
        states[-1]["status"],
    ]
    assert printed["not-modified"].startswith("HTTP/1.1 304 ")
    assert f"{states[-1]['playback']['hls_url']}\n" == printed["playback"]
    with urllib.request.urlopen(printed["playback"].strip()) as playlist:
        assert playlist.read().startswith(b"#EXTM3U")
    story = json.loads(printed["explain"])
    assert states == [event["state"] for event in story["events"]]
    ignored = (ROOT / ".gitignore").read_text().split("\n")
    written = {f"/{one.name}" for one in workplace.iterdir() if one.name != ".venv"}
    assert {"/clip.mp4", "/data"} <= written <= set(ignored)


def check_blocking_get(printed: str) -> None:
    head, _, body = printed.partition("\n\n")
    status, *headers = head.splitlines()

    assert "HTTP/1.1 200 OK" == status
    seq = json.loads(body)["seq"]
    assert seq > 1
    assert f'ETag: "{seq}"' in headers


def check_stream(printed: str) -> list[dict[str, object]]:
    """Check the frames of a whole stream; the value is its states."""
    hello, *frames = printed.rstrip("\n").split("\n\n")
    *events, bye = [one for one in frames if not one.startswith("event: hb\n")]
    ids, states = zip(*(one.split("\ndata: ") for one in events), strict=True)

    assert hello.startswith("retry: 2000\n")
    assert [f"id: {seq}" for seq in range(1, len(events) + 1)] == list(ids)
    assert 'event: bye\ndata: {"reason": "final"}' == bye
    return [json.loads(state) for state in states]


@pytest.mark.timeout(200)
def test_every_block_about_the_local_cloud_works_as_printed(
    run_as_printed, cloud, video
):
    file_id = cloud.upload(video)
    cloud.wait_for(file_id, lambda state: state["status"] == "converting")
    own = cloud.ask("v1/files", NEW_FILE | {"owner": "u-17"})["file"]["id"]

    printed = run_as_printed(LOCAL)

    size = video.stat().st_size
    assert f"{size} video/origin/{file_id}.mp4\n" in printed["boto3"]
    assert re.search(f" (PROGRESSING|COMPLETE) {file_id}\n", printed["boto3"])
    token = printed["token"].strip()
    assert 200 == cloud.status(f"v1/files/{own}?token={token}")
    assert 404 == cloud.status(f"v1/files/{file_id}?token={token}")


def test_the_public_secrets_are_told_as_they_are():
    assert f"`{LOCAL_API_KEY}`" in LOCAL.read_text()
    assert f"`{LOCAL_INGEST_SECRET}`" in LOCAL.read_text()


@by_document
def test_every_link_leads_somewhere(document):
    for link in sorted({a or b for a, b in _LINK.findall(document.read_text())}):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = document.parent / path if path else document

        assert target.exists(), f"{document.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{document.name}: {link}"


def anchors(document: Path) -> set[str]:
    """What the headings of a document are called in links, as GitHub makes them."""
    headings = _HEADING.findall(document.read_text())
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


@by_document
def test_every_command_that_is_named_exists(document):
    code = "\n".join(_CODE.findall(document.read_text()))
    targets = set(
        re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    )

    assert set() == set(re.findall(r"\bmake ([a-z]+)", code)) - targets
    assert set() == set(re.findall(r"\breelready ([a-z]+)", code)) - set(COMMANDS)


@by_document
def test_every_file_that_is_named_exists(document):
    named = set(_NAMED_FILE.findall(document.read_text()))

    assert [] == [path for path in sorted(named) if not (ROOT / path).exists()]


def test_every_rule_is_held_by_tests_that_exist():
    design = (ROOT / "docs" / "design.md").read_text()

    assert [str(number) for number in range(1, 13)] == _RULE.findall(design)
    for path, name in _NAMED_TEST.findall(design):
        tests = (ROOT / "tests" / path).read_text()
        assert f"def {name}(" in tests, f"{path} has no {name}"


def test_the_picture_is_small_enough_for_a_readme():
    assert (ROOT / "docs" / "images" / "page.png").stat().st_size <= 200_000
