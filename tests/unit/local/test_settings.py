"""Settings of the local cloud: defaults, and one line for each wrong value."""

from pathlib import Path

import pytest

from local.faults import Faults
from local.settings import Settings, UsageError


def test_nothing_set_is_port_8080_and_nothing_kept():
    assert Settings(port=8080, database_url="", data_dir=None) == Settings.from_env({})


def test_an_empty_variable_is_the_same_as_none():
    names = ("PORT", "DATABASE_URL", "DATA_DIR", "REELREADY_LOCAL_FAULTS")

    assert Settings() == Settings.from_env(dict.fromkeys(names, ""))


def test_what_is_set_is_taken():
    settings = Settings.from_env(
        {
            "PORT": "0",
            "DATABASE_URL": "postgresql://me@db.example/video",
            "DATA_DIR": "/data/reelready",
            "REELREADY_LOCAL_FAULTS": "duplicate,lose=0.5",
            "REELREADY_LOCAL_STATUS_SECONDS": "0.25",
        }
    )

    assert 0 == settings.port
    assert "postgresql://me@db.example/video" == settings.database_url
    assert Path("/data/reelready") == settings.data_dir
    assert Faults(duplicate=True, lose=0.5) == settings.faults
    assert 0.25 == settings.status_interval_s


def test_a_relative_folder_is_where_make_was_typed():
    assert Path.cwd() / "kept" == Settings.from_env({"DATA_DIR": "kept"}).data_dir


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "٨٠"),
        ("DATABASE_URL", "mysql://db.example/video"),
        ("DATABASE_URL", "postgres://me:pw@127.0.0.1:99999/video"),
        ("DATABASE_URL", "postgres://me:p[w@db.example/video"),
        ("REELREADY_LOCAL_FAULTS", "gremlins"),
        ("REELREADY_LOCAL_STATUS_SECONDS", "0"),
        ("REELREADY_LOCAL_STATUS_SECONDS", "soon"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name, value):
    with pytest.raises(UsageError, match=f"^{name}.*") as refusal:
        Settings.from_env({name: value})

    assert 1 == len(str(refusal.value).splitlines())
