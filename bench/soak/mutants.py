"""Mutants by hand: each breaks one rule, and one module of tests must notice."""

from dataclasses import dataclass

_UNIT = "tests/unit/gateway"


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """
    One change, and the tests of what it breaks.

    Attributes:
        before: What `module` says once, and `after` instead.
        tests: One test module, or one test of a module that takes seconds.
    """

    about: str
    module: str
    before: str
    after: str
    tests: str


MUTANTS = (
    Mutant(
        about="a ring wakes those who have seen it",
        module="gateway/hub.py",
        before="if one.cursor < seq)",
        after="if one.cursor <= seq)",
        tests=f"{_UNIT}/test_hub.py",
    ),
    Mutant(
        about="a newcomer is told of our own commit before the table was read for it",
        module="gateway/hub.py",
        before="not (one.stalled or one.fresh)",
        after="not one.stalled",
        tests=f"{_UNIT}/test_feed_commits.py",
    ),
    Mutant(
        about="whoever stalls is read all the same",
        module="gateway/hub.py",
        before="if one.stalled:",
        after="if one.stalled is None:",
        tests=f"{_UNIT}/test_hub_stalls.py",
    ),
    Mutant(
        about="a reading that our own commit overtook is delivered",
        module="gateway/feed.py",
        before="if one.cursor == pair[1]:",
        after="if one.cursor >= pair[1]:",
        tests=f"{_UNIT}/test_feed_commits.py",
    ),
    Mutant(
        about="one dead connection refuses newcomers",
        module="gateway/feed.py",
        before="refuse=failures > 0",
        after="refuse=failures >= 0",
        tests=f"{_UNIT}/test_feed_outages.py",
    ),
    Mutant(
        about="a phase falls",
        module="gateway/lifecycle.py",
        before="phase=max(state.phase",
        after="phase=min(state.phase",
        tests=f"{_UNIT}/test_lifecycle.py::test_percent_and_phase_never_fall",
    ),
    Mutant(
        about="terminal is not terminal",
        module="gateway/lifecycle.py",
        before="elif state.status.terminal:\n        return None",
        after="elif state.status.terminal:\n        pass",
        tests=f"{_UNIT}/test_lifecycle.py::test_nothing_late_changes_what_has_ended",
    ),
    Mutant(
        about="a manifest points at another file",
        module="gateway/protocol/manifest.py",
        before='or ".." in unquote(key).split("/")',
        after='or ".." in key.split("/")',
        tests=f"{_UNIT}/protocol/test_manifest.py",
    ),
    Mutant(
        about="a token needs no secret of ours",
        module="gateway/protocol/jws.py",
        before="if not any(matches):",
        after="if not matches:",
        tests=f"{_UNIT}/test_auth.py",
    ),
)
