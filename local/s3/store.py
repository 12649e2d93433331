"""
Buckets and objects, kept in a folder.

An object is two files: its bytes under a random name, and a description beside
them that names the bytes.  Replacing the description is the commit; it happens
under the bucket's lock together with the check of the write's conditions, so of
two writers with ``If-None-Match: *`` one wins.

``<root>/<bucket>/bucket.json, objects/, incoming/, uploads/``
"""

import asyncio
import re
import secrets
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

from local.s3 import bucket_policy, cors, disk, notifications
from local.s3.checksums import Digests
from local.s3.errors import S3Error
from local.s3.multipart import Uploads
from local.s3.objects import Condition, Description, StoredObject

_BUCKET_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]", re.ASCII)
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+", re.ASCII)
_NS_PER_MS = 1_000_000


class Bucket:
    """
    One bucket.

    Attributes:
        objects: Committed objects by key.
        created_ms: Unix epoch.
        cors_rules: Empty for none.
        policy: The policy document as it was put; None for none.
        public: Patterns of the keys that everybody may read.
        notification: Who is told about new objects.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self._folder = folder
        self._objects_folder = folder / "objects"
        self._incoming_folder = folder / "incoming"
        self._lock = asyncio.Lock()
        self._settings = disk.read_json(folder / "bucket.json")
        self._apply_settings()
        self.objects = self._load()
        self.uploads = Uploads(folder / "uploads")
        self._sequencer = max(
            (int(stored.sequencer, 16) for stored in self.objects.values()), default=0
        )
        disk.sweep(self._incoming_folder, keep=())

    @classmethod
    def create(cls, folder: Path) -> "Bucket":
        """Make the folders of a new bucket."""
        for name in ("objects", "incoming", "uploads"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        disk.write_json(folder / "bucket.json", {"created_ms": _now_ms()})
        return cls(folder)

    @property
    def created_ms(self) -> int:
        return int(self._settings["created_ms"])

    @property
    def policy(self) -> str | None:
        policy = self._settings.get("policy")
        return None if policy is None else str(policy)

    def is_public(self, key: str) -> bool:
        """Say whether everybody may read this key."""
        return any(pattern.fullmatch(key) for pattern in self._public)

    def get(self, key: str) -> StoredObject:
        """
        Raises:
            S3Error: NoSuchKey.
        """
        try:
            return self.objects[key]
        except KeyError:
            raise S3Error("NoSuchKey", details={"Key": key}) from None

    async def open(self, key: str) -> tuple[StoredObject, BinaryIO]:
        """
        Return an object with a file of its bytes, which stay though replaced.

        Raises:
            S3Error: NoSuchKey.
        """
        async with self._lock:
            stored = self.get(key)
            return stored, await asyncio.to_thread(self.path_of(stored).open, "rb")

    def path_of(self, stored: StoredObject) -> Path:
        """Return the file of the bytes; gone once the object is replaced."""
        return self._objects_folder / stored.blob

    def incoming(self, digests: Digests) -> disk.IncomingFile:
        """Return a file to write a body to, in this bucket's folder."""
        return disk.IncomingFile(self._incoming_folder, digests)

    async def commit(
        self,
        key: str,
        incoming: disk.IncomingFile,
        description: Description,
        *,
        condition: Condition,
        etag: str | None = None,
    ) -> StoredObject:
        """
        Make the object visible, in place of any other with its key.

        Args:
            etag: Without quotes; by default the MD5 of the bytes.

        Raises:
            S3Error: The condition does not hold.
        """
        async with self._lock:
            previous = self.objects.get(key)
            condition.check(key, previous)
            stored = StoredObject(
                key=key,
                size=incoming.size,
                etag=etag or incoming.digests.md5,
                modified_ms=_now_ms(),
                sequencer=self._next_sequencer(),
                blob=f"{disk.name_of(key)}.{secrets.token_hex(8)}.data",
                description=description,
                checksums=incoming.digests.checksums(),
            )
            await asyncio.to_thread(self._write, stored, incoming)
            self.objects[key] = stored
        if previous is not None:
            await asyncio.to_thread(disk.remove, [self.path_of(previous)])
        return stored

    async def retag(self, key: str, tags: dict[str, str]) -> None:
        """
        Replace the tags of an object; this is no new object and no event.

        Raises:
            S3Error: NoSuchKey.
        """
        async with self._lock:
            stored = self.get(key)
            changed = replace(
                stored, description=replace(stored.description, tags=tags)
            )
            await asyncio.to_thread(self._write, changed, None)
            self.objects[key] = changed

    async def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""
        async with self._lock:
            stored = self.objects.pop(key, None)
            if stored is not None:
                names = (_description_name(key), stored.blob)
                paths = [self._objects_folder / name for name in names]
                await asyncio.to_thread(disk.remove, paths)

    async def configure(self, **settings: str | None) -> None:
        """
        Replace documents of the bucket: ``cors``, ``policy``, ``notification``.

        Raises:
            S3Error: A document is not valid; then nothing is changed.
        """
        async with self._lock:
            previous = self._settings
            self._settings = previous | settings
            try:
                self._apply_settings()
            except S3Error:
                self._settings = previous
                self._apply_settings()
                raise
            path = self._folder / "bucket.json"
            await asyncio.to_thread(disk.write_json, path, self._settings)

    def _apply_settings(self) -> None:
        cors_document = self._settings.get("cors")
        policy = self._settings.get("policy")
        notification = self._settings.get("notification")
        self.cors_rules = (
            cors.from_document(cors_document.encode())
            if cors_document is not None
            else ()
        )
        self._public = (
            bucket_policy.public_patterns(policy.encode(), self.name)
            if policy is not None
            else ()
        )
        self.notification = (
            notifications.from_document(notification.encode())
            if notification is not None
            else notifications.Configuration()
        )

    def _write(self, stored: StoredObject, incoming: disk.IncomingFile | None) -> None:
        if incoming is not None:
            incoming.keep(self._objects_folder / stored.blob)
        disk.write_json(
            self._objects_folder / _description_name(stored.key), asdict(stored)
        )

    def _load(self) -> dict[str, StoredObject]:
        rows = [disk.read_json(path) for path in self._objects_folder.glob("*.json")]
        objects = {row["key"]: _stored_object(row) for row in rows}
        keep = {stored.blob for stored in objects.values()}
        disk.sweep(
            self._objects_folder,
            keep=keep | {_description_name(key) for key in objects},
        )
        return objects

    def _next_sequencer(self) -> str:
        # Wall-clock nanoseconds grow over restarts too; the maximum holds when
        # the clock is set back.
        self._sequencer = max(self._sequencer + 1, time.time_ns())
        return f"{self._sequencer:018X}"


class Store:
    """
    All buckets under a root folder.

    Raises:
        OSError: The folder cannot be made or read.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)
        self.buckets = {
            path.parent.name: Bucket(path.parent)
            for path in sorted(root.glob("*/bucket.json"))
        }

    def get(self, name: str) -> Bucket:
        """
        Raises:
            S3Error: NoSuchBucket.
        """
        try:
            return self.buckets[name]
        except KeyError:
            raise S3Error("NoSuchBucket", details={"BucketName": name}) from None

    def create(self, name: str) -> Bucket:
        """
        Raises:
            S3Error: As `check_new`.
        """
        self.check_new(name)
        self.buckets[name] = Bucket.create(self._root / name)
        return self.buckets[name]

    def check_new(self, name: str) -> None:
        """
        Raises:
            S3Error: InvalidBucketName, BucketAlreadyOwnedByYou.
        """
        if not _BUCKET_NAME.fullmatch(name) or _ADDRESS.fullmatch(name):
            raise S3Error("InvalidBucketName", details={"BucketName": name})
        if name in self.buckets:
            raise S3Error("BucketAlreadyOwnedByYou", details={"BucketName": name})


def _stored_object(row: dict[str, Any]) -> StoredObject:
    return StoredObject(**row | {"description": Description(**row["description"])})


def _description_name(key: str) -> str:
    return f"{disk.name_of(key)}.json"


def _now_ms() -> int:
    return time.time_ns() // _NS_PER_MS
