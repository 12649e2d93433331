"""What a gateway says on its metrics page, labels summed up."""

import re
from collections import Counter

_METRIC = re.compile(r"^reelready_(\w+)(?:\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)


def totals(text: str) -> dict[str, int]:
    """Read a page; names without their prefix."""
    found: Counter[str] = Counter()
    for name, value in _METRIC.findall(text):
        found[name] += int(float(value))
    return dict(found)
