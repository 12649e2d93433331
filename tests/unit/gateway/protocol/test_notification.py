import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.notification import (
    MAX_PAYLOAD_BYTES,
    decode,
    echo,
    echoed,
    encode,
)

ids = st.text("0123456789abcdef-", min_size=1, max_size=64)
heads = st.dictionaries(ids, st.integers(1, 10**9 - 1), max_size=300)


@given(heads)
def test_what_rings_is_heard_whole_and_in_order(said):
    payloads = list(encode(said))

    heard = [pair for payload in payloads for pair in decode(payload)]
    assert list(said.items()) == heard
    assert all(0 < len(one.encode()) <= MAX_PAYLOAD_BYTES for one in payloads)


@pytest.mark.parametrize("count", [1, 100, 107, 108, 109, 110, 1000])
def test_payloads_are_as_few_as_fit(count):
    said = {f"{n:064}": 123_456_789 for n in range(count)}

    payloads = list(encode(said))

    pair_bytes = 64 + 1 + 9 + 1
    fit = (MAX_PAYLOAD_BYTES + 1) // pair_bytes
    assert -(-count // fit) == len(payloads)
    assert max(map(len, payloads)) <= MAX_PAYLOAD_BYTES


def test_a_payload_may_be_full_to_the_last_byte():
    filler = {f"{n:063}": 1 for n in range(121)}
    rest = MAX_PAYLOAD_BYTES - sum(66 for _ in filler)
    said = filler | {"a" * (rest - 2): 1}

    assert [MAX_PAYLOAD_BYTES] == list(map(len, encode(said)))


def test_and_so_may_the_next_one():
    pair_bytes = (MAX_PAYLOAD_BYTES + 1) // 100
    said = {f"{n:0{pair_bytes - 3}}": 1 for n in range(200)}

    assert [MAX_PAYLOAD_BYTES] * 2 == list(map(len, encode(said)))


def test_nothing_rings_nothing():
    assert [] == list(encode({}))


def test_a_newer_seq_of_the_same_file_takes_the_place_of_the_older():
    said = [("f-1", 1), ("f-2", 7), ("f-1", 2)]

    assert ["f-1:2,f-2:7"] == list(encode(dict(said)))


@pytest.mark.parametrize(
    "payload",
    [
        *["", ",", ":", "f-1", "f-1:", ":1", "f-1:x", "f-1:-1", "f-1:1.0", "f-1: 1"],
        *["f-1:٣", "f-1:²", "f-1:1:2", "\0", "=nonce", "f-1:" + "9" * 10],
        "f-1:" + "9" * 7000,
    ],
)
def test_what_is_not_a_pair_is_passed_over(payload):
    assert [("f-2", 3)] == list(decode(f"{payload},f-2:3"))


@given(st.text())
def test_no_payload_whatever_is_an_error(payload):
    assert all(file_id and 0 <= seq < 10**9 for file_id, seq in decode(payload))


@given(st.text("0123456789abcdef", min_size=1))
def test_an_echo_is_its_nonce_and_rings_nothing(nonce):
    assert nonce == echoed(echo(nonce))
    assert [] == list(decode(echo(nonce)))


@given(heads)
def test_no_ring_is_taken_for_an_echo(said):
    assert all(echoed(payload) is None for payload in encode(said))
