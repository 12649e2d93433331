"""
Multipart uploads: parts kept apart until they are completed or aborted.

An upload is a folder, each part two files in it, like an object in its bucket;
so uploads too survive a restart.

Source: Amazon S3 User Guide, "Uploading and copying objects using multipart
upload".
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from local.s3 import disk
from local.s3.errors import S3Error
from local.s3.objects import Description

MIN_PART_BYTES = 5 << 20
"""Smallest part but the last."""

MAX_PART_NUMBER = 10_000

_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """
    One uploaded part.

    Attributes:
        etag: MD5 in hex, without quotes.
        modified_ms: Unix epoch.
        blob: Name of the file that holds the bytes.
    """

    number: int
    size: int
    etag: str
    modified_ms: int
    blob: str
    checksums: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A part as the client names it when it completes the upload."""

    number: int
    etag: str
    checksums: dict[str, str]


@dataclass(slots=True, kw_only=True)
class Upload:
    """One upload that has neither been completed nor aborted."""

    upload_id: str
    key: str
    folder: Path
    description: Description
    parts: dict[int, Part] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def choose(self, named: Sequence[Named]) -> list[Part]:
        """
        Return the parts the object will be made of.

        Raises:
            S3Error: InvalidPartOrder, InvalidPart or EntityTooSmall.
        """
        numbers = [one.number for one in named]
        if numbers != sorted(set(numbers)):
            raise S3Error("InvalidPartOrder")
        chosen = [self._part(one) for one in named]
        for part in chosen[:-1]:
            if part.size < MIN_PART_BYTES:
                raise S3Error(
                    "EntityTooSmall",
                    details={
                        "ProposedSize": str(part.size),
                        "MinSizeAllowed": str(MIN_PART_BYTES),
                        "PartNumber": str(part.number),
                        "ETag": part.etag,
                    },
                )
        return chosen

    def paths(self, parts: Sequence[Part]) -> list[Path]:
        """Return the files of the parts."""
        return [self.folder / part.blob for part in parts]

    def _part(self, named: Named) -> Part:
        part = self.parts.get(named.number)
        if (
            part is None
            or part.etag != named.etag
            or any(
                part.checksums.get(name, value) != value
                for name, value in named.checksums.items()
            )
        ):
            raise S3Error("InvalidPart", details={"PartNumber": str(named.number)})
        return part


def etag_of(parts: Sequence[Part]) -> str:
    """Return S3's ETag for an object made of parts: MD5 of their MD5s, a count."""
    joined = b"".join(bytes.fromhex(part.etag) for part in parts)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"


class Uploads:
    """The uploads of one bucket."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uploads = {
            path.parent.name: _load(path.parent)
            for path in sorted(folder.glob("*/upload.json"))
        }

    async def create(self, key: str, description: Description) -> Upload:
        upload_id = secrets.token_hex(32)
        folder = self._folder / upload_id
        upload = Upload(
            upload_id=upload_id, key=key, folder=folder, description=description
        )
        row = {"key": key, "description": asdict(description)}
        await asyncio.to_thread(_create, folder, row)
        self._uploads[upload_id] = upload
        return upload

    def get(self, upload_id: str, key: str) -> Upload:
        """
        Raises:
            S3Error: NoSuchUpload, also for the upload of another key.
        """
        upload = self._uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise S3Error("NoSuchUpload", details={"UploadId": upload_id})
        return upload

    @asynccontextmanager
    async def hold(self, upload_id: str, key: str) -> AsyncIterator[Upload]:
        """
        Keep others from changing or ending an upload.

        Raises:
            S3Error: NoSuchUpload, also when it ended while we waited.
        """
        async with self.get(upload_id, key).lock:
            yield self.get(upload_id, key)

    async def put_part(
        self, upload: Upload, number: int, incoming: disk.IncomingFile
    ) -> Part:
        """Keep a part of a held upload, in place of any other with its number."""
        part = Part(
            number=number,
            size=incoming.size,
            etag=incoming.digests.md5,
            modified_ms=time.time_ns() // _NS_PER_MS,
            blob=f"{number}.{secrets.token_hex(8)}.data",
            checksums=incoming.digests.checksums(),
        )
        await asyncio.to_thread(_write_part, upload.folder, part, incoming)
        previous = upload.parts.get(number)
        upload.parts[number] = part
        if previous is not None:
            await asyncio.to_thread(disk.remove, [upload.folder / previous.blob])
        return part

    async def remove(self, upload: Upload) -> None:
        """End a held upload and remove its files."""
        del self._uploads[upload.upload_id]
        await asyncio.to_thread(disk.remove_folder, upload.folder)


def _create(folder: Path, row: dict[str, Any]) -> None:
    folder.mkdir()
    disk.write_json(folder / "upload.json", row)


def _write_part(folder: Path, part: Part, incoming: disk.IncomingFile) -> None:
    incoming.keep(folder / part.blob)
    disk.write_json(folder / f"{part.number}.json", asdict(part))


def _load(folder: Path) -> Upload:
    row = disk.read_json(folder / "upload.json")
    paths = [path for path in folder.glob("*.json") if path.name != "upload.json"]
    parts = [Part(**disk.read_json(path)) for path in paths]
    blobs = {part.blob for part in parts}
    disk.sweep(folder, keep=blobs | {path.name for path in paths} | {"upload.json"})
    return Upload(
        upload_id=folder.name,
        key=row["key"],
        folder=folder,
        description=Description(**row["description"]),
        parts={part.number: part for part in parts},
    )
