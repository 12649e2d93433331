"""How much of everything: the sizes of the bar, and small ones to try things out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """
    Sizes of the scenarios.

    Attributes:
        few, usual, many: Subscribers; `many` is what 20,000 open files allow.
        hot: Subscribers of the one hot file.
        hot_events: Events of one burst on it.
        burst_events: At most that many, in `burst_s` seconds.
        paced_per_second: Pace of the quiet traffic, for `paced_s` seconds.
        waiting_s: How long idle clients are watched; whole heartbeats.
    """

    few: int = 1_000
    usual: int = 10_000
    many: int = 18_000
    hot: int = 5_000
    hot_events: int = 20
    burst_events: int = 100_000
    burst_s: float = 3.0
    paced_per_second: int = 1_000
    paced_s: float = 10.0
    waiting_s: float = 60.0


FULL = Sizes()
QUICK = Sizes(
    few=100,
    usual=600,
    many=1_000,
    hot=300,
    burst_events=3_000,
    burst_s=1.0,
    paced_per_second=200,
    paced_s=2.0,
    waiting_s=4.0,
)
