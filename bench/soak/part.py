"""
A part of the soak: one fault or one crowd, brought about for real and judged.

Each part runs alone, in a short size, which tests run too, and in the full one,
whose figures are the ones that are promised.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec


class Size(StrEnum):
    """How much of it: seconds, or what the bar asks for."""

    SHORT = "short"
    FULL = "full"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """
    One thing that was measured, and whether it is as it should be.

    Attributes:
        what: With the unit, if it has one.
        bar: What is promised, as words; empty for what is only told.
    """

    what: str
    value: float
    bar: str = ""
    holds: bool = True

    def __str__(self) -> str:
        judged = f" ({self.bar}){'' if self.holds else ' MISSED'}" if self.bar else ""
        return f"{self.what}: {self.value:g}{judged}"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """
    What came of one part.

    Attributes:
        samples: The raw ones, by name; whatever the figures were made of.
    """

    figures: list[Figure]
    samples: dict[str, Any] = {}


@dataclass(frozen=True, kw_only=True)
class Part:
    """
    One part.

    Attributes:
        rows: Of the list of faults in docs/reliability.md, such as P1.
        about: One line for `--help`.
    """

    name: str
    rows: str
    about: str
    run: Callable[[Size], Coroutine[Any, Any, Outcome]]


def none(what: str, count: int) -> Figure:
    """Judge what must not have happened."""
    return Figure(what=what, value=count, bar="0", holds=count == 0)


def at_most(what: str, value: float, limit: float) -> Figure:
    """Judge what must not be more."""
    return Figure(
        what=what, value=round(value, 4), bar=f"<= {limit:g}", holds=value <= limit
    )


def at_least(what: str, value: float, limit: float) -> Figure:
    """Judge what must not be less."""
    return Figure(
        what=what, value=round(value, 4), bar=f">= {limit:g}", holds=value >= limit
    )


def told(what: str, value: float) -> Figure:
    """Tell a figure that nothing is promised of."""
    return Figure(what=what, value=round(value, 4))
