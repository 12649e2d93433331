"""
What an upload looks like: bars on a terminal, FILE documents in a pipe.

Both are told the same things; a bar counts bytes first, then the percent of
the conversion, with the step in words.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Self

import click
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from gateway.client import Connection
from gateway.commands import output
from gateway.commands.watch import BUSY, LOST, Outage
from gateway.model import FileState, Status


class Row(ABC):
    """One file."""

    @abstractmethod
    def sent(self, sent_bytes: int) -> None:
        """So many bytes are on their way."""

    @abstractmethod
    def page(self, url: str) -> None:
        """The page shows it at this address, which holds its watch token."""

    @abstractmethod
    def sent_all(self, state: FileState) -> None:
        """The upload is done, and nobody wants to watch."""

    @abstractmethod
    def state(self, state: FileState) -> None:
        """This is new."""

    @abstractmethod
    def playable(self, state: FileState) -> None:
        """It has ended well."""

    @abstractmethod
    def connection(self, how: Connection) -> None:
        """The watch has a connection, or has none."""


class Shown(AbstractContextManager["Shown"]):
    """All files of one command."""

    @abstractmethod
    def row(self, name: str, size_bytes: int) -> Row:
        """Begin with a file."""

    @abstractmethod
    def failed(self, row: Row | None, name: str, problem: str) -> None:
        """One file has failed."""


class Lines(Shown):
    """For programs."""

    def __exit__(self, *_: object) -> None:
        """Nothing was drawn."""

    def row(self, name: str, size_bytes: int) -> Row:  # noqa: ARG002 - the interface's
        return _Line(name)

    def failed(self, row: Row | None, name: str, problem: str) -> None:  # noqa: ARG002 - the interface's
        output.problem(f"{output.clean(name)}: {problem}")


class _Line(Row):
    def __init__(self, name: str) -> None:
        self._name = output.clean(name)
        self._outage = Outage()

    def sent(self, sent_bytes: int) -> None:
        pass

    def page(self, url: str) -> None:
        # What is piped often ends in a log, where no token belongs.
        pass

    def sent_all(self, state: FileState) -> None:
        pass

    def state(self, state: FileState) -> None:
        output.json_line(state)

    def playable(self, state: FileState) -> None:
        pass

    def connection(self, how: Connection) -> None:
        if self._outage.begins(how):
            click.echo(f"{self._name}: {LOST}", err=True)


class Bars(Shown):
    """
    For people.

    Args:
        several: Rows that have ended make way for a line each.
    """

    def __init__(self, *, several: bool) -> None:
        self.several = several
        self.progress = Progress(
            _NameColumn(table_column=Column(no_wrap=True, max_width=28)),
            BarColumn(bar_width=20),
            _NoteColumn(table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=output.console(),
        )
        self._problems: list[str] = []
        self._last: list[str] = []

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        for line in self._last:
            click.echo(line)
        for problem in self._problems:
            output.problem(problem)

    def row(self, name: str, size_bytes: int) -> Row:
        shown = output.clean(name)
        return _Bar(self, shown, self.progress.add_task(shown, total=size_bytes))

    def end(self, line: str) -> None:
        """Say how one file ended: above the bars, or below the only one."""
        if self.several:
            self.progress.console.print(line, soft_wrap=True)
        else:
            self._last.append(line)

    def failed(self, row: Row | None, name: str, problem: str) -> None:
        if isinstance(row, _Bar):
            row.note("failed", style="red")
        self._problems.append(f"{output.clean(name)}: {problem}")


class _Bar(Row):
    def __init__(self, bars: Bars, name: str, task: TaskID) -> None:
        self._bars = bars
        self._progress = bars.progress
        self._name = name
        self._task = task
        self._outage = Outage()
        self._status: Status | None = None
        self._words = ""

    def note(self, text: str, *, style: str = "") -> None:
        self._progress.update(self._task, note=Text(text, style))

    def sent(self, sent_bytes: int) -> None:
        self._progress.update(self._task, completed=sent_bytes)

    def page(self, url: str) -> None:
        line = f"{self._name}: on the page: {output.clean(url)}"
        self._progress.console.print(line, soft_wrap=True)

    def sent_all(self, state: FileState) -> None:
        self.note("uploaded", style="green")
        self._end(f"{self._name}: uploaded; follow it: reelready watch {state.id}")

    def state(self, state: FileState) -> None:
        if state.status is Status.CONVERTING and self._status is not Status.CONVERTING:
            self._progress.reset(self._task, total=None)
        if state.percent is not None:
            self._progress.update(self._task, total=100, completed=state.percent)
        self._status = state.status
        sent = state.status is Status.AWAITING_UPLOAD
        self._words = "sent, waiting for the storage" if sent else output.words(state)
        self.note(self._words)

    def playable(self, state: FileState) -> None:
        self._progress.update(self._task, total=100, completed=100)
        self.note("playable", style="green")
        url = state.playback.hls_url if state.playback else ""
        self._end(f"{self._name}: {url}" if self._bars.several else url)

    def connection(self, how: Connection) -> None:
        if self._outage.begins(how):
            self.note(LOST, style="yellow")
        elif how == "busy":
            self.note(BUSY, style="yellow")
        elif how == "live":
            self.note(self._words)

    def _end(self, line: str) -> None:
        self._progress.update(self._task, visible=not self._bars.several)
        self._bars.end(line)


class _NameColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.description, overflow="ellipsis", no_wrap=True)


class _NoteColumn(ProgressColumn):
    """What is happening: the note, or else how the bytes fare."""

    def render(self, task: Task) -> Text:
        if "note" in task.fields:
            note: Text = task.fields["note"]
            return note
        sent = f"{decimal(int(task.completed))} of {decimal(int(task.total or 0))}"
        speed = f", {decimal(int(task.speed))}/s" if task.speed else ""
        return Text(f"uploading {sent}{speed}")
