"""A database URL: what is one, and that no piece of a password is shown."""

import pytest

from local.database_url import is_database_url, where


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:pw@db.example/video", "db.example:5432/video"),
        ("postgres://me:p%40w@db.example:6000/video", "db.example:6000/video"),
        ("postgres://db.example", "db.example:5432"),
        ("postgres://me@[::1]/video", "[::1]:5432/video"),
        ("postgres://me@[::1]:6000/video", "[::1]:6000/video"),
        ("postgres://a:5432,b:5433/video", "a:5432,b:5433/video"),
        ("postgres:///video?host=/sock", "/sock:5432/video"),
        ("postgres:///video?host=/sock&port=6000", "/sock:6000/video"),
        ("postgres:///video?user=me@here&password=pw", "localhost:5432/video"),
        ("postgres://h/video?sslmode=require&password=pw", "h:5432/video"),
    ],
)
def test_host_port_and_database_are_shown(url, shown):
    assert is_database_url(url)
    assert shown == where(url)


@pytest.mark.parametrize(
    "text",
    [
        "mysql://db.example/video",
        "postgres",
        "postgres://me:pw@127.0.0.1:99999/video",
        "postgres://me:pw@127.0.0.1:http/video",
        "postgres://a:5432,b:65536/video",
        "postgres://[::1/video",
    ],
)
def test_what_is_no_url_of_a_database_is_refused(text):
    assert not is_database_url(text)


@pytest.mark.parametrize("password", ["a[b", "a@b", "a/b", "1/b", "a?b", "1?b", "1#b"])
def test_a_password_that_was_not_encoded_is_refused(password):
    assert not is_database_url(f"postgres://me:{password}@db.example/video")
    assert not is_database_url(f"postgres://me:p@w{password}@db.example/video")
