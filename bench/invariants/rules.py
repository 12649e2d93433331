"""The 22 invariants, and the error that says which one was broken."""

from collections import Counter

INVARIANTS = {
    1: "No lost wake-up: who waited before the commit needs no further commit.",
    2: "No lost event: what was acknowledged is read from any cursor before it.",
    3: "Per-file order: seq by seq, without gaps, in the order of the commits.",
    4: "Status, phase and percent never fall within an attempt.",
    5: "Terminal is terminal: nothing follows but a new attempt; the stream ends.",
    6: "One terminal event per file and attempt, and no attempt after playable.",
    7: "A report that comes n times is stored once and answered the same.",
    8: "The final state does not depend on the order in which reports arrive.",
    9: "Resume equals uninterrupted, from every cut point.",
    10: "An unknown, stale or hostile cursor gets a reset and the whole state.",
    11: "A seq is trusted only in its own epoch.",
    12: "Whole or reset: no partial recovery is ever sent.",
    13: "Stream, long-poll and GET agree from the same cursor.",
    14: "An ETag that is current blocks; no 200 has the ETag that was sent.",
    15: "Nobody is told of a file that their token does not name.",
    16: "The registry holds who is connected, a full socket little, the end none.",
    17: "A slow client never delays another.",
    18: "After a restart the state is what the table says.",
    19: "The reconciler converges once the truth upstream is asked for.",
    20: "Heartbeats and goodbyes have no id and move no cursor.",
    21: "What is read is what was stored, one frame per event.",
    22: "At shutdown everybody gets a goodbye or a clean end, nobody half a frame.",
}
"""A3 of the list of faults, by number."""

judged: Counter[int] = Counter()
"""How often each was held against what happened, in this process."""


class BrokenError(AssertionError):
    """
    An invariant does not hold.

    Attributes:
        number: In `INVARIANTS`.
    """

    def __init__(self, number: int, what: object) -> None:
        super().__init__(f"invariant {number} ({INVARIANTS[number]}): {what}")
        self.number = number


def must(number: int, holds: object, what: object) -> None:
    """
    Judge one invariant.

    Raises:
        BrokenError: It does not hold.
    """
    judged[number] += 1
    if not holds:
        raise BrokenError(number, what)
