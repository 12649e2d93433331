import re

import pytest

from workers.migrate import Migration, MigrationError, _check, migrations

ONE = Migration("0001_create_a.sql", "create table a ()")
TWO = Migration("0002_create_b.sql", "create table b ()")
THREE = Migration("0003_create_c.sql", "create table c ()")


def applied(*those: Migration) -> dict[str, str]:
    return {one.name: one.sha256 for one in those}


def test_files_are_numbered_without_gaps_and_say_what_they_do():
    names = [one.name for one in migrations()]

    assert names
    for number, name in enumerate(names, 1):
        assert re.fullmatch(rf"{number:04}_[a-z]+(_[a-z]+)+\.sql", name)


def test_each_file_says_what_it_locks_how_long_and_how_to_back_out():
    for one in migrations():
        head = one.sql.partition("\n\n")[0]
        assert all(word in head for word in ("Locks:", "Duration:", "Back out:"))


@pytest.mark.parametrize("done", [(), (ONE,), (ONE, TWO), (ONE, TWO, THREE)])
def test_a_database_of_this_version_or_any_other_is_fine(done):
    _check([ONE, TWO], applied(*done))


def test_a_file_that_was_edited_after_it_was_applied_stops_the_start():
    edited = Migration(ONE.name, ONE.sql + " ")

    with pytest.raises(
        MigrationError,
        match=f"^REELREADY_DATABASE_URL: {ONE.name} was edited .*; install the release",
    ):
        _check([edited, TWO], applied(ONE))


def test_a_database_of_another_branch_stops_the_start():
    """Files of two branches: nobody knows what the one makes of the other."""
    with pytest.raises(MigrationError, match=f"{TWO.name} was .* without {ONE.name};"):
        _check([ONE], applied(TWO))


def test_a_checksum_tells_texts_apart():
    assert ONE.sha256 == Migration("other.sql", ONE.sql).sha256
    assert ONE.sha256 != TWO.sha256
