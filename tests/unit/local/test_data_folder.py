"""The data folder: kept or not, one owner at a time, named when unusable."""

import json
import stat

import pytest

from local.data_folder import opened
from local.settings import StartError
from local.watchdog import Watchdog


@pytest.fixture
def watchdog():
    with Watchdog() as running:
        yield running


def test_without_a_path_it_is_temporary(watchdog):
    with opened(None, watchdog) as folder:
        assert not folder.is_kept
        assert folder.logs.is_dir()

    assert not folder.path.exists()


def test_a_path_is_made_and_stays(watchdog, tmp_path):
    with opened(tmp_path / "a" / "b", watchdog) as folder:
        assert folder.is_kept

    assert folder.path.exists()


def test_the_token_secret_survives_and_is_private(watchdog, tmp_path):
    with opened(tmp_path, watchdog) as folder:
        secret = folder.token_secret()
    with opened(tmp_path, watchdog) as folder:
        again = folder.token_secret()

    assert secret == again
    assert len(secret) >= 32
    mode = (tmp_path / "token-secret").stat().st_mode
    assert 0o600 == stat.S_IMODE(mode)


def test_a_token_secret_that_was_not_finished_is_none(watchdog, tmp_path):
    (tmp_path / "token-secret.new").touch()

    with opened(tmp_path, watchdog) as folder:
        assert len(folder.token_secret()) >= 32


def test_the_first_s3_port_stays(watchdog, tmp_path):
    with opened(tmp_path, watchdog) as folder:
        assert 0 == folder.s3_port()
        folder.keep_s3_port(4566)
    with opened(tmp_path, watchdog) as folder:
        folder.keep_s3_port(4567)

        assert 4566 == folder.s3_port()


def test_a_second_owner_is_refused_by_name(watchdog, tmp_path):
    with (
        opened(tmp_path, watchdog),
        pytest.raises(StartError, match=r"^DATA_DIR: another Reelready"),
        opened(tmp_path, watchdog),
    ):
        pass


def test_a_path_that_cannot_be_a_folder_is_refused_by_name(watchdog, tmp_path):
    (tmp_path / "file").touch()

    with (
        pytest.raises(StartError, match=r"^DATA_DIR: cannot write to .*file"),
        opened(tmp_path / "file" / "below", watchdog),
    ):
        pass


def test_the_children_are_listed_while_it_is_open(watchdog, tmp_path):
    with opened(tmp_path, watchdog) as folder:
        folder.say_children({"gateway": 7})
        listed = json.loads((tmp_path / "children.json").read_text())

    assert {"gateway": 7} == listed
    assert not (tmp_path / "children.json").exists()
