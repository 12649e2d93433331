"""One list of metrics: the code's, the documents' and what is made of them."""

import re

from gateway.telemetry import Metrics
from tests.unit.deploy.prometheus import ROOT, collected

ROW = re.compile(r"^\| `(\w+)` \|([^|]*)\|(.*)$", re.MULTILINE)
DOCUMENT = "docs/metrics.md"


def documented():
    """Every row of the tables: labels and meaning by name."""
    return {
        name: (re.findall(r"`(\w+)`", labels), meaning)
        for name, labels, meaning in ROW.findall((ROOT / DOCUMENT).read_text("utf-8"))
    }


def test_every_metric_is_described_and_none_that_is_gone():
    names = ROW.findall((ROOT / DOCUMENT).read_text("utf-8"))

    assert set(collected()) == set(documented()), f"see {DOCUMENT}"
    assert len(names) == len(documented()), "described twice"


def test_the_labels_that_are_described_are_those_there_are():
    labels = {}
    for one in vars(Metrics()).values():
        for family in one.describe() if hasattr(one, "describe") else ():
            own = getattr(one, "_labelnames", None)
            name = family.name + "_total" * (family.type == "counter")
            labels[name] = list(getattr(one, "_labels", ()) if own is None else own)

    assert 20 <= len(labels)
    said = documented()
    assert labels == {name: said[name][0][: len(labels[name])] for name in labels}


def test_a_histogram_is_said_to_be_one():
    assert {name for name, kind in collected().items() if kind == "histogram"} == {
        name for name, (_, meaning) in documented().items() if "*histogram*" in meaning
    }
