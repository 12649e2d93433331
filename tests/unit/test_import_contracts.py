"""The import contracts of `pyproject.toml` hold, and fail when they are broken."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("gateway", "workers", "lambdas", "local")

LAYERS = "Layers of the gateway"
WRITES = "One way in, one way out: what writes cannot reach the hub"
READS = "One way in, one way out: what reads cannot write"
WIRE = "The wire formats know no I/O"
LAMBDAS = "The Lambdas stand alone: standard library and boto3"

VIOLATIONS = [
    ("gateway/store/append.py", "gateway.hub", WRITES),
    ("gateway/ingest.py", "gateway.feed", WRITES),
    ("gateway/feed.py", "gateway.ingest", READS),
    ("gateway/hub.py", "gateway.store.append", READS),
    ("gateway/store/history.py", "gateway.lifecycle", READS),
    ("gateway/protocol/sse.py", "asyncio", WIRE),
    ("gateway/protocol/cursor.py", "socket", WIRE),
    ("gateway/lifecycle.py", "asyncpg", WIRE),
    ("gateway/model.py", "aiohttp", WIRE),
    ("gateway/model.py", "gateway.web.routes", LAYERS),
    ("gateway/errors.py", "gateway.model", LAYERS),
    ("gateway/store/pool.py", "gateway.feed", LAYERS),
    ("lambdas/log.py", "gateway.model", LAMBDAS),
    ("lambdas/manifest.py", "msgspec", LAMBDAS),
    ("lambdas/jobs.py", "local.probe", LAMBDAS),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package,
            folder / package,
            ignore=lambda _, names: [
                name
                for name in names
                if ("." in name and not name.endswith(".py")) or name == "__pycache__"
            ],
        )
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the linter on a copy, as `make check` does on the real thing."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as run; run()",
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_code_as_it_is_keeps_every_contract(copy):
    linted = lint(copy)

    assert 0 == linted.returncode, linted.stdout + linted.stderr
    for name in (LAYERS, WRITES, READS, WIRE, LAMBDAS):
        assert f"{name} KEPT" in linted.stdout


@pytest.mark.parametrize(("module", "imported", "contract"), VIOLATIONS)
def test_an_import_that_breaks_a_contract_is_named(copy, module, imported, contract):
    path = copy / module
    honest = path.read_text("utf-8")
    path.write_text(f"{honest}\n\nimport {imported}\n", "utf-8")
    try:
        linted = lint(copy)
    finally:
        path.write_text(honest, "utf-8")

    assert 0 != linted.returncode
    assert f"{contract} BROKEN" in linted.stdout, linted.stdout + linted.stderr
