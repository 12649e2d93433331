"""The board asks for what there is, in the order in which an operator asks."""

import json
import re

import pytest
import yaml

from tests.unit.deploy.prometheus import ROOT, collected, promtool, unknown_in

pytestmark = pytest.mark.config

BOARD = json.loads((ROOT / "deploy/grafana/board.json").read_text("utf-8"))
PANELS = [one for one in BOARD["panels"] if one["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
NOT_SHOWN = {"process_virtual_memory_bytes"}


def test_it_asks_for_what_there_is_and_for_all_of_it():
    asked = set(re.findall(r"\w+", " ".join(QUERIES)))
    names = {re.sub("_(bucket|sum|count)$", "", one) for one in asked}

    assert set() == unknown_in(" ".join(QUERIES))
    assert NOT_SHOWN == set(collected()) - names


def test_prometheus_understands_every_query(tmp_path):
    rules = [
        {"record": f"query_{number}", "expr": as_grafana_asks(query)}
        for number, query in enumerate(QUERIES)
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    said = promtool("check", "rules", path.name, folder=tmp_path)

    assert f"{len(QUERIES)} rules found" in said


def as_grafana_asks(query: str) -> str:
    return query.replace("$__rate_interval", "1m").replace("$instance", ".*")


def test_the_rows_are_the_chapters_of_the_document():
    rows = [one["title"] for one in BOARD["panels"] if one["type"] == "row"]
    text = (ROOT / "docs/metrics.md").read_text("utf-8")

    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == rows


def test_every_panel_says_what_it_shows_and_where_it_asks():
    ids = [one["id"] for one in BOARD["panels"]]

    assert len(ids) == len(set(ids))
    assert all(one["title"] and one["description"].endswith(".") for one in PANELS)
    assert {"${datasource}"} == {one["datasource"]["uid"] for one in PANELS}
    assert ["datasource", "instance"] == [
        one["name"] for one in BOARD["templating"]["list"]
    ]
    assert all("$instance" in one or "ALERTS" in one for one in QUERIES)


def test_no_panel_covers_another():
    taken = set()
    for one in BOARD["panels"]:
        place = one["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y)
            for x in range(place["w"])
            for y in range(place["h"])
        }

        assert not taken & cells, one["title"]
        assert place["x"] + place["w"] <= 24

        taken |= cells
