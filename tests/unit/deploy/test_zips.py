"""The zips of the functions: small, sufficient, and the same wherever they are made."""

import io
import os
import subprocess
import sys
import zipfile

import pytest

from deploy.aws import zips
from deploy.aws.zips import FUNCTIONS, ROOT, zipped

MAX_BYTES = 1_000_000


def entries(function):
    with zipfile.ZipFile(io.BytesIO(zipped(function))) as archive:
        return {entry.filename: entry for entry in archive.infolist()}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_another_process_another_day_in_another_zone_makes_the_same_bytes(
    function, tmp_path, monkeypatch
):
    """
    Also from a checkout with other times and modes, in another order.
    """
    source = tmp_path / "checkout" / "lambdas"
    source.mkdir(parents=True)
    for path in sorted((ROOT / "lambdas").glob("*.py"), reverse=True):
        copy = source / path.name
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o600)
        os.utime(copy, (1, 1))
    script = ROOT / "deploy" / "aws" / "zips.py"
    subprocess.run(
        [sys.executable, "-I", script, tmp_path / "zips"],
        env={"TZ": "Asia/Seoul", "PYTHONHASHSEED": "7"},
        check=True,
        capture_output=True,
    )
    made = (tmp_path / "zips" / f"{function}.zip").read_bytes()

    assert zipped(function) == made
    monkeypatch.setattr(zips, "ROOT", tmp_path / "checkout")
    assert zipped(function) == made


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_is_small_and_readable_by_the_runtime(function):
    assert len(zipped(function)) < MAX_BYTES
    modes = {entry.external_attr >> 16 for entry in entries(function).values()}
    assert {0o100644} == modes


def test_each_has_what_its_handler_imports_and_nothing_else():
    converter, saver = map(entries, FUNCTIONS)

    assert "lambdas/claims.py" in converter
    assert "lambdas/claims.py" not in saver
    assert "lambdas/playlist.py" in saver
    assert "lambdas/playlist.py" not in converter
    assert {name for name in converter if not name.startswith("lambdas/")} == set()
    everything = {f"lambdas/{path.name}" for path in (ROOT / "lambdas").glob("*.py")}
    assert everything == set(converter) | set(saver)


def test_a_change_of_the_source_changes_the_zip(tmp_path, monkeypatch):
    (tmp_path / "lambdas").mkdir()
    for path in (ROOT / "lambdas").glob("*.py"):
        (tmp_path / "lambdas" / path.name).write_bytes(path.read_bytes())
    before = zipped("hls_file_manifest_saver")
    monkeypatch.setattr(zips, "ROOT", tmp_path)
    with (tmp_path / "lambdas" / "log.py").open("a") as log:
        log.write("\n# changed\n")

    assert before != zipped("hls_file_manifest_saver")
