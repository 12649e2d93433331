"""
What can happen to an event on its way: it comes twice, late, in another order, or never.

The fate of an event depends on the seed, its stream and its number in that
stream, and on nothing else: no clock, no state.  A run that found something can
be had again.

Source: AWS delivers S3 and EventBridge events at least once and in no order
(S3 user guide "EventNotifications"; EventBridge "events-ref-mediaconvert").
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self, TypeVar

T = TypeVar("T")

VARIABLE = "REELREADY_LOCAL_FAULTS"

_KNOWN = "duplicate, reorder, delay=<ms>, lose=<share from 0 to 1>, seed=<whole number>"

_SECOND_COPY_S = (0.2, 1.2)
_REORDER_WINDOW_S = 2.0
"""Wider than the gap between two progress events, so that they really swap."""

_MAX_DELAY_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Faults:
    """
    Which faults to make.  The default makes none.

    Attributes:
        duplicate: Deliver every event a second time, 0.2 to 1.2 s later.
        reorder: Hold every copy back for a time of its own, up to 2 s.
        delay_ms: Hold every copy back for this long as well.
        lose: Share of events that never arrive, 0 to 1; no copy of them does.
        seed: Another seed, another run.
    """

    duplicate: bool = False
    reorder: bool = False
    delay_ms: int = 0
    lose: float = 0.0
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read words such as ``duplicate,reorder,delay=500,lose=0.1,seed=7``.

        Raises:
            ValueError: A word that is unknown, named twice or has a wrong value.
                The message names the variable and the word.
        """
        settings: dict[str, bool | int | float] = {}
        for word in filter(None, (part.strip() for part in text.split(","))):
            name, value = _read(word)
            if name in settings:
                raise _refusal(word, "is named twice")
            settings[name] = value

        return cls(**settings)  # type: ignore[arg-type]  # _read pairs name and type

    def due_s(self, number: int, stream: str = "") -> tuple[float, ...]:
        """
        Say how many seconds after its arrival each copy of one event is due.

        Args:
            number: Which event of the stream, counted from 0.
            stream: Whose events are counted, such as the name of a target.

        Returns:
            Nothing for a lost event, else one number for each copy.
        """
        # Every number is drawn whether used or not: switching one fault on
        # must not change what the others do.
        dice = random.Random(f"{self.seed}/{stream}/{number}")  # noqa: S311 - no secret
        lost = dice.random() < self.lose
        gaps_s = (0.0, dice.uniform(*_SECOND_COPY_S))
        holds_s = (
            dice.uniform(0, _REORDER_WINDOW_S),
            dice.uniform(0, _REORDER_WINDOW_S),
        )
        if lost:
            return ()

        return tuple(
            self.delay_ms / 1000 + gaps_s[copy] + (holds_s[copy] if self.reorder else 0)
            for copy in range(2 if self.duplicate else 1)
        )

    def plan(self, events: Iterable[T], stream: str = "") -> list[tuple[float, T]]:
        """Say when which of the events, all arriving now, is delivered: by time, in s."""
        due = [
            (delay_s, event)
            for number, event in enumerate(events)
            for delay_s in self.due_s(number, stream)
        ]

        return sorted(due, key=lambda delivery: delivery[0])


def _read(word: str) -> tuple[str, bool | int | float]:
    name, equals, value = word.partition("=")
    match name, equals:
        case "duplicate" | "reorder", "":
            return name, True
        case "delay", "=":
            return "delay_ms", _whole(word, value, most=_MAX_DELAY_MS)
        case "seed", "=":
            return "seed", _whole(word, value, most=2**63)
        case "lose", "=":
            return "lose", _share(word, value)
        case _:
            raise _refusal(word, f"is not known; there are {_KNOWN}")


def _whole(word: str, value: str, *, most: int) -> int:
    if not (value.isascii() and value.isdigit()) or int(value) > most:
        raise _refusal(word, f"needs a whole number from 0 to {most}")
    return int(value)


def _share(word: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise _refusal(word, "needs a share from 0 to 1")
    return share


def _refusal(word: str, why: str) -> ValueError:
    return ValueError(f"{VARIABLE}: {word!r} {why}")
