"""Plans: what the load client maps, and the seqs that go on."""

import struct
from pathlib import Path

from bench.plan import Publications, write_subscribers


def read(path: Path) -> list[tuple[int, int, bytes]]:
    found, rest = [], path.read_bytes()
    while rest:
        file, seq, length = struct.unpack_from("<III", rest)
        found.append((file, seq, rest[12 : 12 + length]))
        rest = rest[12 + length :]
    return found


def test_seqs_count_per_file_from_the_one_after_registration(tmp_path: Path):
    plan = tmp_path / "plan"
    publications = Publications(lambda file, seq: b"%d/%d" % (file, seq))
    publications.write(plan, [0, 1, 0])

    assert [(0, 2, b"0/2"), (1, 2, b"1/2"), (0, 3, b"0/3")] == read(plan)


def test_only_what_was_sent_moves_the_seqs_on(tmp_path: Path):
    plan = tmp_path / "plan"
    publications = Publications(lambda file, seq: b"")
    publications.write(plan, [0, 1, 0])
    publications.confirm(2)
    publications.write(plan, [0, 1])

    assert [(0, 3, b""), (1, 3, b"")] == read(plan)


def test_subscribers_are_written_in_order(tmp_path: Path):
    path = tmp_path / "subscribers"
    write_subscribers(path, [7, 7], lambda file: b"GET %d" % file)

    assert struct.pack("<II", 7, 5) + b"GET 7" == path.read_bytes()[:13]
    assert 26 == path.stat().st_size
