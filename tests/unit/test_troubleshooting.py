"""What is quoted to people who look for a cause is said by somebody, word for word."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from gateway.config import PREFIX, Config

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
DOCUMENTS = [TEXT, (ROOT / "docs" / "migrating.md").read_text("utf-8")]
OTHERS = {
    "Too many open files",
    "worker_connections are not enough",
    "gzip_types *",
    "X-Accel-Buffering: no",
    "Cache-Control: no-transform",
}
"""What proxies say, and what is said to them."""

_QUOTED = re.compile(r"`([^`\n]+)`")
_BLOCK = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_TYPED = re.compile(r"(curl|grep|here|journalctl|reelready|serve|bye|GET|POST) |[{/]")
_NAMED = re.compile(r"^[A-Z_]+: ?")
_JOINED = re.compile(r'"\n\s*f?"')
_LEFT_OUT = re.compile(r"\.\.\.|\d+")


def said() -> str:
    """Every text of the code, those of several lines in one."""
    code = (
        path.read_text("utf-8")
        for folder in ("gateway", "workers", "lambdas")
        for path in sorted((ROOT / folder).rglob("*.py"))
    )
    return _JOINED.sub("", "\n".join(code))


def quotes(text: str) -> list[str]:
    """What somebody is told to have said, without names and numbers."""
    return [
        part.strip(" :,;")
        for quote in _QUOTED.findall(_BLOCK.sub("", text))
        if " " in quote and quote not in OTHERS and not _TYPED.match(quote)
        for part in _LEFT_OUT.split(_NAMED.sub("", quote))
        if part.strip(" :,;")
    ]


def test_what_is_quoted_is_said():
    code, quoted = said(), quotes(TEXT)

    assert 40 <= len(quoted)
    assert [] == [part for part in quoted if part not in code]


def test_what_nobody_says_is_found():
    assert ["the moon is away"] == [
        part for part in quotes("`the moon is away: ...`") if part not in said()
    ]


@pytest.mark.parametrize("text", DOCUMENTS)
def test_settings_and_metrics_that_are_named_exist(text):
    known = {PREFIX + one.name.upper() for one in fields(Config)}
    known |= {f"{name}_FILE" for name in known}
    known |= {"REELREADY_URL", "REELREADY_API_KEY", "REELREADY_X"}
    metrics = (ROOT / "docs" / "metrics.md").read_text("utf-8")

    assert set() == set(re.findall(r"\bREELREADY_[A-Z_]+", text)) - known
    assert set() == set(re.findall(r"\breelready_[a-z_]+", text)) - set(
        re.findall(r"\breelready_[a-z_]+", metrics)
    )
