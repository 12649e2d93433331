"""The peers: what they are asked, and that a missing one says so."""

import pytest

from bench.document import document, file_id
from bench.peers import nchan
from bench.peers.nchan import NCHAN
from bench.peers.python import PYTHON_PEERS
from bench.server import get, post


def test_an_event_is_a_file_of_about_six_tenths_of_a_kibibyte():
    assert 500 <= len(document(17, 3)) <= 700
    assert document(17, 3).startswith(f'{{"id":"{file_id(17)}","seq":3,'.encode())


def test_a_request_is_complete_but_for_the_last_line_of_a_subscriber():
    assert b"GET /x HTTP/1.1\r\nHost: bench.local\r\nA: b\r\n" == get("/x", "A: b")
    assert post("/x", b"{}").endswith(b"Content-Length: 2\r\n\r\n{}")


def test_a_missing_peer_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nchan, "_nginx", lambda: None)

    assert "nginx is not installed" == NCHAN.missing()


def test_a_peer_with_two_connections_a_subscriber_holds_half_as_many():
    held = {one.name: one.max_subscribers for one in PYTHON_PEERS}

    assert 9_000 == held.pop("starlette-redis")
    assert {18_000} == set(held.values())
