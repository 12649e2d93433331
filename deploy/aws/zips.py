"""
The functions' code as AWS gets it: a zip for each, with the modules its handler
imports and nothing else.

The one rule: the same source makes the same bytes, on any machine and with any
Python.  So entries are sorted and stored, not compressed, since compressors
differ; they have one time and one mode.  What did not change is then not
deployed again.

Source: AWS Lambda, "Working with .zip file archives for Python Lambda functions".
"""

import ast
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FUNCTIONS = ("video_media_converter", "hls_file_manifest_saver")

_PACKAGE = "lambdas"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can say."""

_UNIX = 3
_READABLE = 0o100644 << 16


def main(folder: Path) -> None:
    """Write the zips, and one line about each."""
    folder.mkdir(parents=True, exist_ok=True)
    for function in FUNCTIONS:
        content = zipped(function)
        target = folder / f"{function}.zip"
        target.write_bytes(content)
        print(f"{target} {len(content)} bytes")  # noqa: T201 - its purpose


def zipped(function: str) -> bytes:
    """The zip of one function."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(modules(function)):
            entry = zipfile.ZipInfo(f"{_PACKAGE}/{name}.py", _LONG_AGO)
            entry.create_system = _UNIX
            entry.external_attr = _READABLE
            archive.writestr(entry, _source(name))
    return memory.getvalue()


def modules(function: str) -> set[str]:
    """Names of the modules of our package that a handler imports, and itself."""
    found: set[str] = set()
    wanted = {"__init__", function}
    while wanted:
        name = wanted.pop()
        found.add(name)
        wanted |= set(_imported(name)) - found
    return found


def _imported(name: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(_source(name))):
        if isinstance(node, ast.ImportFrom) and node.module == _PACKAGE:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            package, _, module = node.module.partition(".")
            if package == _PACKAGE:
                yield module
        elif isinstance(node, ast.Import):
            for alias in node.names:
                package, _, module = alias.name.partition(".")
                if package == _PACKAGE:
                    yield module or "__init__"


def _source(name: str) -> bytes:
    return (ROOT / _PACKAGE / f"{name}.py").read_bytes()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
