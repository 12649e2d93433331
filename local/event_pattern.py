"""
EventBridge event patterns, as much of them as this project's rules use.

A pattern names fields and lists the values each may have, or what a text may
begin with; every named field must match, fields not named do not matter.  The rule: what this does not know
is refused when the rule is made, so that it cannot quietly match nothing.

Source: EventBridge user guide, "Creating event patterns".
"""

from collections.abc import Mapping
from typing import Any


def check_pattern(pattern: Mapping[str, Any], path: str = "") -> None:
    """
    Refuse a pattern that could not match as its author means.

    Raises:
        ValueError: A value that is no list, an empty list, a content filter other
            than ``{"prefix": text}``, or no field at all.  The message names it.
    """
    if not pattern:
        msg = f"event pattern: {path or 'the pattern'} names no field"
        raise ValueError(msg)
    for name, wanted in pattern.items():
        where = f"{path}.{name}" if path else name
        if isinstance(wanted, Mapping):
            check_pattern(wanted, where)
        else:
            _check_values(where, wanted)


def _check_values(where: str, wanted: object) -> None:
    if not isinstance(wanted, list) or not wanted:
        msg = f"event pattern: {where} needs a list of values"
        raise ValueError(msg)
    if any(isinstance(one, dict | list) and not _is_prefix(one) for one in wanted):
        msg = f"event pattern: {where} may list plain values and prefixes only"
        raise ValueError(msg)


def _is_prefix(wanted: Any) -> bool:
    match wanted:
        case {"prefix": str(), **others}:
            return not others
        case _:
            return False


def matches(pattern: Mapping[str, Any], event: object) -> bool:
    """
    Say whether an event is one the pattern asks for.

    Values are compared exactly: case counts, ``1`` is not ``"1"``, ``true`` is
    not ``1``.  An array in the event matches when one of its values does.
    """
    if not isinstance(event, Mapping):
        return False

    return all(
        name in event and _field_matches(wanted, event[name])
        for name, wanted in pattern.items()
    )


def _field_matches(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, Mapping):
        return matches(wanted, found)
    values = found if isinstance(found, list) else [found]

    return any(_value_matches(one, other) for one in wanted for other in values)


def _value_matches(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(found, str) and found.startswith(wanted["prefix"])

    return type(wanted) is type(found) and wanted == found
