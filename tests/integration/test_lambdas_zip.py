"""The functions as they are deployed: their zips, the standard library and boto3."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.aws.zips import FUNCTIONS, zipped

RUNTIME = ["boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six"]

PROGRAM = """
import importlib, sys
sys.path[:0] = sys.argv[2:]
module = importlib.import_module(sys.argv[1])
assert callable(module.handler)
assert sys.argv[2] in module.__file__, module.__file__
"""


@pytest.fixture
def package(tmp_path):
    """Make the zip of a function; the value is where."""

    def make(function):
        target = tmp_path / f"{function}.zip"
        target.write_bytes(zipped(function))
        return target

    return make


@pytest.fixture
def runtime(tmp_path):
    """A folder with boto3 and what boto3 itself needs, and nothing else."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    for name in RUNTIME:
        origin = Path(importlib.util.find_spec(name).origin)
        if origin.name == "__init__.py":
            (folder / name).symlink_to(origin.parent)
        else:
            (folder / origin.name).symlink_to(origin)
    return folder


def start(module, *path):
    """In an interpreter without site-packages and without this repository."""
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", PROGRAM, module]
    return subprocess.run(
        [*command, *map(str, path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_zip_alone_is_enough_beside_boto3(function, package, runtime):
    result = start(f"lambdas.{function}", package(function), runtime)

    assert (0, "") == (result.returncode, result.stderr)


def test_the_manifest_builder_needs_no_boto3(package):
    program = start("lambdas.manifest", package("hls_file_manifest_saver"))

    assert "has no attribute 'handler'" in program.stderr
