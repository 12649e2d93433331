"""Properties are about behaviour; how fast a shared machine is, is not."""

import pytest
from hypothesis import settings

from gateway import feed
from gateway.hub import Hub

settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")


@pytest.fixture(autouse=True)
def nobody_waits_for_others(monkeypatch):
    monkeypatch.setattr(feed, "GATHER_S", 0)
    monkeypatch.setattr(feed, "GATHER_CROWD_S", 0)


@pytest.fixture
def retries_at_once(monkeypatch):
    monkeypatch.setattr(feed, "_RETRY_S", (0,))


@pytest.fixture
def hub() -> Hub:
    return Hub()
