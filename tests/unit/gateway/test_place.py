"""Several processes' metrics in one text."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.place import merged
from gateway.telemetry import Metrics


@pytest.fixture
async def told():
    """What two processes say."""
    texts = {}
    for number, answers in ("1", 3), ("2", 5):
        metrics = Metrics()
        metrics.subscribers.labels("sse").set(answers)
        metrics.requests.labels("/readyz", 200).inc(answers)
        metrics.read_seconds.observe(answers)
        texts[number] = (await metrics.scrape()).decode()
    return texts


def samples(text, name):
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]


def test_each_sample_says_whose_it_is(told):
    text = merged(told).decode()

    assert [
        ({"process": "1", "transport": "sse"}, 3.0),
        ({"process": "2", "transport": "sse"}, 5.0),
    ] == samples(text, "reelready_subscribers")
    assert [
        ({"process": "1", "route": "/readyz", "status": "200"}, 3.0),
        ({"process": "2", "route": "/readyz", "status": "200"}, 5.0),
    ] == samples(text, "reelready_http_requests_total")
    assert [({"process": "1"}, 3.0), ({"process": "2"}, 5.0)] == samples(
        text, "reelready_feed_read_seconds_sum"
    )


def test_each_metric_is_told_of_once(told):
    lines = merged(told).decode().splitlines()
    heads = [line for line in lines if line.startswith("# TYPE ")]

    assert len(set(heads)) == len(heads)
    assert set(heads) == {
        line for line in told["1"].splitlines() if line.startswith("# TYPE ")
    }


def test_who_says_nothing_is_left_out(told):
    text = merged(told | {"2": ""}).decode()

    assert {"1"} == {
        labels["process"] for labels, _ in samples(text, "reelready_tasks")
    }
