import pytest

from gateway.model import FILE_ID, FileId
from gateway.protocol import relayed


def test_a_channel_is_its_files():
    file_id = FileId("0199a3c4-5b6d-7e8f-9a0b-1c2d3e4f5a6b")

    assert file_id == relayed.file_of(relayed.channel(file_id))
    assert not FILE_ID.fullmatch(relayed.file_of(relayed.lease("d")))


@pytest.mark.parametrize(
    ("payload", "seq"),
    [
        ("5", 5),
        ("0", 0),
        ("999999999", 999_999_999),
        ("9999999999", None),
        ("", None),
        ("-1", None),
        ("5 ", None),
        ("٣", None),
        ('{"id": "x"}', None),
    ],
)
def test_a_doorbell_is_a_seq(payload, seq):
    assert seq == relayed.seq_of(payload)


def test_a_beat_says_of_which_database():
    database = "7123/16401/re el"

    assert database == relayed.beat_of(relayed.beat(database, "t"))
    assert relayed.beat(database, "t") != relayed.beat(database, "u")
    assert not relayed.beat_of("nonsense")
