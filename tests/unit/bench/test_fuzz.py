"""What fuzzing looks for, it would find."""

import json
import logging
import sys
from itertools import islice

import pytest

from bench.soak import fuzz, targets
from bench.soak.front import Seen, front
from bench.soak.fuzz_child import main
from bench.soak.held import Held, left
from bench.soak.mutating import mutated
from bench.soak.targets import TARGETS, BrokenPromiseError, promise, read_requests

GET = b"GET /v1/files/f-1 HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /v1/files/f-1/reports HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_keeps_its_promise(name, capsys):
    target, seeds = TARGETS[name]
    for seed in seeds:
        target(seed)


def test_every_target_is_fuzzed():
    assert set(TARGETS) == set(fuzz._TARGETS)


def test_a_broken_promise_is_found_and_kept(tmp_path, monkeypatch, capsys):
    def breaks(raw: bytes) -> None:
        print("a line of a Lambda's log")
        promise(b"-" not in raw, "no minus")

    monkeypatch.setitem(TARGETS, "cursor", (breaks, [b"1", b"2-3"]))
    monkeypatch.setattr(sys, "argv", ["fuzz_child", "cursor", "0.05", str(tmp_path)])
    try:
        main()
    finally:
        logging.disable(logging.NOTSET)
    said = capsys.readouterr()

    assert b"2-3" == (tmp_path / "found-1").read_bytes()
    assert "BrokenPromiseError: no minus" in said.err
    assert json.loads(said.out)["tried"] >= 64


def test_the_same_seed_makes_the_same_bytes():
    one, two = (list(islice(mutated([b"abc", b"d"], 7), 500)) for _ in range(2))

    assert one == two
    assert [b"abc", b"d"] == one[:2]
    assert len(set(one)) > 250
    assert one != list(islice(mutated([b"abc", b"d"], 8), 500))


def test_the_front_sees_each_request_and_what_it_was_answered():
    seen = front([GET + POST + b"GET / HTTP/1.1\r\nHost: h\r\n\r\nrest"])

    assert [
        ("GET", "/v1/files/f-1", b""),
        ("POST", "/v1/files/f-1/reports", b"{}"),
    ] == seen.served
    assert 2 == seen.written.count(b"HTTP/1.1 200 OK")
    assert b"GET / HTTP/1.1\r\nHost: h\r\n\r\nrest" == seen.handed_over


def test_a_front_that_depends_on_cuts_is_a_broken_promise(monkeypatch):
    monkeypatch.setattr(
        targets, "front", lambda pieces: Seen(written=next(iter(pieces)))
    )

    with pytest.raises(BrokenPromiseError):
        read_requests(GET)


def test_what_is_left_is_held_against_the_base_line():
    base = Held(
        subscribers=0,
        connections=1,
        tasks=10,
        open_files=15,
        pss_kib=1000,
        server_errors=0,
    )
    grown = Held(
        subscribers=1,
        connections=2,
        tasks=11,
        open_files=16,
        pss_kib=1101,
        server_errors=1,
    )

    assert all(one.holds for one in left(base, base))
    assert not any(one.holds for one in left(base, grown))
