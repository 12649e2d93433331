"""Reports, and the story of one file that they tell."""

from dataclasses import dataclass, field
from datetime import timedelta

from gateway import lifecycle
from gateway.model import (
    FileError,
    FileRecord,
    FileState,
    Playback,
    Report,
    ReportType,
    Status,
)
from tests.unit.gateway.fakes import NOW, record

PLAYBACK = Playback(hls_url="https://cdn.test/video/hls/f-1/master.m3u8")
ERROR = FileError(code="no_video", message="There is no video in this file.")
SECOND = timedelta(seconds=1)

UPLOADED = ReportType.UPLOADED
CONVERTING = ReportType.CONVERTING
PROGRESS = ReportType.PROGRESS
COMPLETED = ReportType.COMPLETED
FAILED = ReportType.FAILED
CANCELED = ReportType.CANCELED
EXPIRED = ReportType.EXPIRED


def report(kind: ReportType, job_id: str | None = None, **details) -> Report:
    if kind is COMPLETED:
        details.setdefault("playback", PLAYBACK)
    details.setdefault("occurred_at", NOW)
    return Report(type=kind, job_id=job_id, **details)


@dataclass
class Story:
    """One file, what was told of it, and every record it went through."""

    records: list[FileRecord] = field(default_factory=lambda: [record()])

    def tell(self, *reports: Report) -> "Story":
        for one in reports:
            now = self.state.updated_at + SECOND
            after = lifecycle.apply(self.records[-1], one, now)
            if after is not None:
                self.records.append(after)
        return self

    @property
    def state(self) -> FileState:
        return self.records[-1].state

    @property
    def statuses(self) -> list[Status]:
        return [one.state.status for one in self.records]


def told(*reports: Report) -> Story:
    return Story().tell(*reports)
