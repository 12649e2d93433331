"""Every alert can be evaluated, fires when it should, and has a page that helps."""

import re

import pytest
import yaml

from tests.unit.deploy.prometheus import FOLDER, ROOT, promtool, unknown_in
from tests.unit.test_threat_model import missing

pytestmark = pytest.mark.config

RUNBOOK = ROOT / "docs/runbook"
PAGES = "https://github.com/reelready/reelready/blob/main/docs/runbook"
PARTS = [
    "What it means",
    "Look first",
    "What to do",
    "How it ends by itself",
    "What brings it about",
]
"""Of every page, in this order."""

(GROUP,) = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"]
ALERTS = {one["alert"]: one for one in GROUP["rules"]}
SCENARIOS = yaml.safe_load((FOLDER / "alerts_test.yml").read_text("utf-8"))["tests"]


def test_the_rules_and_the_example_are_valid():
    promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "prometheus.yml")


def test_each_alert_fires_when_it_should_and_no_other_does():
    promtool("test", "rules", "alerts_test.yml")


def test_no_alert_is_left_out_of_the_scenarios():
    checks = [check for one in SCENARIOS for check in one["promql_expr_test"]]
    fired = {
        name
        for check in checks
        for sample in check["exp_samples"]
        for name in re.findall(r'alertname="(\w+)"', sample["labels"])
    }

    assert set(ALERTS) == fired
    assert len(SCENARIOS) <= sum(not check["exp_samples"] for check in checks)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_since_when_and_what_to_read(name):
    alert = ALERTS[name]
    said = alert["annotations"]

    assert set() == unknown_in(alert["expr"])
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"[1-9]\d*m", alert["for"])
    assert said["summary"].endswith(".")
    assert "{{" not in said["summary"]
    assert said["description"].endswith(".")
    assert f"{PAGES}/{name}.md" == said["runbook_url"]


def test_each_alert_has_its_page_and_each_page_its_alert():
    pages = {page.stem for page in RUNBOOK.glob("*.md")} - {"README"}
    listed = re.findall(r"\[(\w+)\]\(\1\.md\)", (RUNBOOK / "README.md").read_text())

    assert set(ALERTS) == pages
    assert list(ALERTS) == listed


@pytest.mark.parametrize("name", ALERTS)
def test_a_page_says_what_a_tired_person_needs(name):
    text = (RUNBOOK / f"{name}.md").read_text("utf-8")
    title, *_ = text.splitlines()
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)

    assert f"# {name}" == title
    assert f"**{ALERTS[name]['labels']['severity']}**" in text
    assert PARTS == re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [] == missing(text)
    assert set() == unknown_in(text)
    assert [] == [one for one in links if not (RUNBOOK / one).exists()]
