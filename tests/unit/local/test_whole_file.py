"""A small file: whole or not there, and never open to others."""

import contextlib
import resource
import stat
from collections.abc import Iterator

import pytest

from local.whole_file import write_whole


def test_the_text_takes_the_place_of_the_old(tmp_path):
    write_whole(tmp_path / "file", "old and longer")
    write_whole(tmp_path / "file", "new")

    assert "new" == (tmp_path / "file").read_text()
    assert [tmp_path / "file"] == list(tmp_path.iterdir())


def test_what_could_not_be_written_is_not_there(tmp_path):
    with full_disk(), pytest.raises(OSError, match="too large"):
        write_whole(tmp_path / "secret", "text", mode=0o600)

    assert not (tmp_path / "secret").exists()


def test_what_could_not_be_replaced_is_as_it_was(tmp_path):
    write_whole(tmp_path / "file", "old")
    with full_disk(), pytest.raises(OSError, match="too large"):
        write_whole(tmp_path / "file", "new")

    assert "old" == (tmp_path / "file").read_text()


def test_a_draft_that_was_left_behind_opens_nothing(tmp_path):
    (tmp_path / "secret.new").write_text("half a")
    (tmp_path / "secret.new").chmod(0o666)

    write_whole(tmp_path / "secret", "text", mode=0o600)

    assert "text" == (tmp_path / "secret").read_text()
    assert 0o600 == stat.S_IMODE((tmp_path / "secret").stat().st_mode)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Files can be made, but nothing can be written to them."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
