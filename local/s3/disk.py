"""
Files of the stand-in: written aside, then renamed, so half of one is never seen.

No name on disk comes from a client: keys are hashed, the rest is random.

Everything here blocks; callers run it in a thread.
"""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

from local.s3.checksums import Digests

_COPY_BYTES = 1 << 20


def name_of(key: str) -> str:
    """Return the file name for a key; same for the same key, else different."""
    return hashlib.sha256(key.encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Replace a file as a whole."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    aside.write_text(json.dumps(value, indent=1))
    aside.replace(path)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


class IncomingFile:
    """
    A body being written to disk.

    Leaving the context without `keep` removes it.

    Attributes:
        size: Bytes written.
        digests: Over the bytes written.
    """

    def __init__(self, folder: Path, digests: Digests) -> None:
        self.size = 0
        self.digests = digests
        self._path = folder / f"{secrets.token_hex(16)}.tmp"
        self._file = self._path.open("xb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]
        self.digests.update(data)
        self.size += len(data)

    def append(self, source: BinaryIO) -> None:
        """Write what another file holds."""
        while data := source.read(_COPY_BYTES):
            self.write(data)

    def append_all(self, paths: Iterable[Path]) -> None:
        """Write what other files hold, one after the other."""
        for path in paths:
            with path.open("rb") as source:
                self.append(source)

    def keep(self, path: Path) -> None:
        """Give the file its name, replacing what had it."""
        self._file.close()
        self._path.replace(path)


def remove(paths: Iterable[Path]) -> None:
    """Remove files that may be gone already."""
    for path in paths:
        path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder of files; nothing in it is a folder."""
    with contextlib.suppress(FileNotFoundError):
        remove(list(folder.iterdir()))
        folder.rmdir()


def sweep(folder: Path, *, keep: Iterable[str]) -> None:
    """Remove the files a killed process left: all but the named ones."""
    kept = set(keep)
    remove(path for path in list(_files(folder)) if path.name not in kept)


def _files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        yield from (Path(entry.path) for entry in entries if entry.is_file())
