"""
The answer to a registration, as values.

Source: docs/protocol.md.
"""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from gateway.model import FileState, Seq


class SignedUpload(Struct, frozen=True, kw_only=True):
    """Where and how the bytes of one file are sent."""

    method: str
    url: str
    headers: Mapping[str, str] = {}
    expires_at: datetime


class Watch(Struct, frozen=True, kw_only=True):
    """How a browser follows one file; `after` is the cursor to start from."""

    events_url: str
    token: str
    expires_at: datetime
    after: Seq


class Registered(Struct, frozen=True, kw_only=True):
    """A file that waits for its bytes."""

    file: FileState
    upload: SignedUpload
    watch: Watch

    @property
    def page_url(self) -> str:
        """The page on this file; whoever has it may watch, as with the token."""
        base = self.watch.events_url.removesuffix(f"v1/files/{self.file.id}/events")
        return f"{base}?file={self.file.id}&token={self.watch.token}"
