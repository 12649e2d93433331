import base64
import re
from dataclasses import FrozenInstanceError, fields
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client import calls
from gateway.config import (
    LOCAL_API_KEY,
    LOCAL_INGEST_SECRET,
    MISSING,
    PREFIX,
    Config,
    database_url,
    describe,
)
from gateway.errors import ConfigError
from gateway.model import Status

SECRET = "s" * 32
WHSEC = "whsec_" + base64.b64encode(b"k" * 24).decode()
REQUIRED = {
    "DATABASE_URL": "postgresql://app:hunter2@db.test/app",
    "BUCKET": "films",
    "PLAYBACK_BASE_URL": "https://cdn.test",
    "INGEST_SECRETS": WHSEC,
    "API_KEYS": "a" * 32,
    "TOKEN_SECRETS": SECRET,
}
NAMES = [one.name.upper() for one in fields(Config)]
NUMBERS = [one.name.upper() for one in fields(Config) if one.type is int]


def environ(**changes: str | None) -> dict[str, str]:
    said = REQUIRED | changes
    return {PREFIX + name: raw for name, raw in said.items() if raw is not None}


def config(**changes: str | None) -> Config:
    return Config.from_env(environ(**changes))


def value(name: str, raw: str) -> object:
    return getattr(config(**{name: raw}), name.lower())


def test_what_the_contract_promises_are_the_defaults():
    plain = config()

    assert ("video/origin/", "video/hls/") == (plain.upload_prefix, plain.output_prefix)
    assert (15, 55, 900) == (
        plain.heartbeat_seconds,
        plain.max_wait_seconds,
        plain.stream_max_age_seconds,
    )
    assert plain.database_url == plain.listen_database_url
    assert ("", "http://127.0.0.1:8080/") == (plain.redis_url, plain.base_url)


GOOD = [
    ("ACCESS_LOG", "on", True),
    ("TRACING", "on", True),
    ("DATABASE_URL", "postgres:///app?host=/run/postgresql", None),
    ("DATABASE_URL", "postgresql://u:a%2Fb@[::1]:5432,db.test:5433,%2Frun/app", None),
    ("LISTEN_DATABASE_URL", "postgresql://direct.test:5433/app", None),
    ("BUCKET", "my.bucket-1", None),
    ("PLAYBACK_BASE_URL", "https://cdn.test/a/", None),
    ("PLAYBACK_BASE_URL", "http://[::1]:9000/films", "http://[::1]:9000/films/"),
    ("PUBLIC_URL", "https://watch.test", "https://watch.test/"),
    ("INGEST_SECRETS", f"{WHSEC}, {WHSEC}", (b"k" * 24, b"k" * 24)),
    ("API_KEYS", f" {'a' * 32} ,, {'b' * 32},", ("a" * 32, "b" * 32)),
    ("API_KEYS", LOCAL_API_KEY, (LOCAL_API_KEY,)),
    ("TOKEN_SECRETS", "키" * 32, ("키" * 32,)),
    ("UPLOAD_PREFIX", "in/", None),
    ("OUTPUT_PREFIX", "a-b_c/(1)/'x'!*./", None),
    (
        "ALLOWED_ORIGINS",
        "https://a.test, http://b.test:81",
        ("https://a.test", "http://b.test:81"),
    ),
    ("HOST", "0.0.0.0", None),
    ("CONVERTER_FUNCTION", "arn:aws:lambda:us-east-1:1:function:f:$LATEST", None),
    ("PORT", "0", 0),
    ("PORT", "65535", 65535),
    ("HEARTBEAT_SECONDS", "007", 7),
    ("MAX_UPLOAD_BYTES", str(5 * 1024**3), 5 * 1024**3),
    ("MAX_SUBSCRIBERS_PER_IP", "0", 0),
    (
        "TRUSTED_PROXIES",
        "10.0.0.0/8, ::1",
        (IPv4Network("10.0.0.0/8"), IPv6Network("::1/128")),
    ),
    ("REDIS_URL", "rediss://cache.test:6380/1", None),
    ("REDIS_URL", "unix:///run/redis.sock", None),
    ("PAGE_API_KEY", "local", None),
    ("HLS_JS", __file__, Path(__file__)),
]


@pytest.mark.parametrize(("name", "raw", "expected"), GOOD)
def test_a_good_setting_is_taken(name, raw, expected):
    assert (raw if expected is None else expected) == value(name, raw)


BAD = [
    ("ACCESS_LOG", "yes"),
    ("TRACING", "1"),
    *[("TRUSTED_PROXIES", raw) for raw in ("", "nginx", "10.0.0.1/8", "10.0.0")],
    *[("OUTPUT_PREFIX", raw) for raw in ("", "video/hls")],
    *[("DATABASE_URL", raw) for raw in ("", "db.test/app", "mysql://db.test/app")],
    *[("DATABASE_URL", raw) for raw in ("postgresql://", "postgresql://[::1/app")],
    ("LISTEN_DATABASE_URL", ""),
    *[
        ("BUCKET", raw)
        for raw in ("", "ab", "My-Bucket", "a" * 64, "-ab", "a/b", "영상")
    ],
    *[("PLAYBACK_BASE_URL", raw) for raw in ("", "cdn.test", "ftp://a", "https:///a")],
    *[("PLAYBACK_BASE_URL", f"https://a/{end}") for end in ("?a=1", "#a", "?", "b#")],
    *[("PUBLIC_URL", raw) for raw in ("//a", "http://", "http://?a", "http://u:p@a")],
    *[
        ("INGEST_SECRETS", raw)
        for raw in ("", ",", "x", WHSEC[6:], "whsec_", "whsec_é")
    ],
    ("INGEST_SECRETS", "whsec_" + base64.b64encode(b"k" * 23).decode()),
    ("INGEST_SECRETS", f"{WHSEC},whsec_!!!"),
    *[("API_KEYS", raw) for raw in ("", " , ", "a" * 31, f"{SECRET},short")],
    *[("TOKEN_SECRETS", raw) for raw in ("", "local", "s" * 31, f"{SECRET},local")],
    *[
        ("TOKEN_SECRETS", f"{start}-----BEGIN {kind} KEY-----\n{SECRET}\n")
        for start in ("", f"{SECRET},")
        for kind in ("PUBLIC", "RSA PRIVATE", "EC PRIVATE")
    ],
    *[("UPLOAD_PREFIX", raw) for raw in ("", "/", "a", "/a/", "a//b/", "a b/", "영/")],
    *[
        ("ALLOWED_ORIGINS", raw)
        for raw in ("", "*", "a.test", "https://a.test/", "null")
    ],
    ("HOST", ""),
    ("CONVERTER_FUNCTION", "a b"),
    *[("PORT", raw) for raw in ("", "-1", "65536", "8080.0", "0x50", "http", " 80")],
    *[("HEARTBEAT_SECONDS", raw) for raw in ("0", "301", "15s", "9" * 30)],
    *[("REDIS_URL", raw) for raw in ("cache.test", "http://cache.test", "redis://")],
    *[
        ("REDIS_URL", f"redis://{rest}")
        for rest in (":pa/ss@h/0", ":pa#ss@h/0", "h:0/0", "h/0?socket_timeout=abc")
    ],
    ("PAGE_API_KEY", ""),
    *[("HLS_JS", raw) for raw in ("", "/no/such/file", "/", "a" * 5000)],
]


@pytest.mark.parametrize(("name", "raw"), BAD)
def test_a_wrong_setting_stops_the_start_with_one_line_that_names_it(name, raw):
    with pytest.raises(ConfigError) as raised:
        value(name, raw)

    assert PREFIX + name == raised.value.setting
    assert str(raised.value).startswith(f"{PREFIX}{name}: ")
    assert "\n" not in str(raised.value)


def test_every_setting_has_a_good_and_a_bad_example_or_is_a_number():
    good, bad = ({name for name, *_ in examples} for examples in (GOOD, BAD))

    assert set(NAMES) == (good & bad) | set(NUMBERS)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("raw", ["", "-1", "1.5", "many", "9" * 19, "1\n"])
def test_a_number_is_a_whole_number_in_its_range(name, raw):
    with pytest.raises(ConfigError, match=f"^{PREFIX}{name}: .* is not a whole number"):
        value(name, raw)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_one_is_named_and_explained(name):
    with pytest.raises(ConfigError, match=rf"^{PREFIX}{name}: is not set \(.+\)$"):
        config(**{name: None})


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("DATABASE_URL", "postgresql://u:tell-nobody@["),
        ("DATABASE_URL", "postgresql://u:tell-nobody/x@db.test/app"),
        ("DATABASE_URL", "postgresql://u:tell-nobody@db.test:54x2/app"),
        ("DATABASE_URL", "postgresql://u:tell-nobody@ho\u2100st/"),
        ("LISTEN_DATABASE_URL", "http://u:tell-nobody@db.test/"),
        ("REDIS_URL", "redis://u:tell-nobody@ho\u2100st/"),
        ("REDIS_URL", "redis://:tell-nobody/x@h/0"),
        ("INGEST_SECRETS", "whsec_tell-nobody!"),
        ("API_KEYS", f"{SECRET},tell-nobody"),
        ("TOKEN_SECRETS", f"{SECRET},tell-nobody"),
    ],
)
def test_no_error_tells_a_secret(name, raw):
    with pytest.raises(ConfigError) as raised:
        value(name, raw)

    assert "tell-nobody" not in str(raised.value)


def test_a_secret_may_come_from_a_file(tmp_path):
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n", encoding="utf-8")

    assert (SECRET,) == config(
        TOKEN_SECRETS=None, TOKEN_SECRETS_FILE=str(path)
    ).token_secrets


def test_the_variable_wins_over_the_file(tmp_path):
    assert (SECRET,) == config(TOKEN_SECRETS_FILE=str(tmp_path / "none")).token_secrets


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError) as raised:
        config(API_KEYS=None, API_KEYS_FILE=str(path))

    assert f"{PREFIX}API_KEYS_FILE" == raised.value.setting


def test_what_is_in_a_file_is_checked_too(tmp_path):
    path = tmp_path / "secret"
    path.write_text("short")

    with pytest.raises(ConfigError, match="fewer than 32"):
        config(API_KEYS=None, API_KEYS_FILE=str(path))


def test_the_listener_may_have_a_database_url_of_its_own():
    other = "postgresql://direct.test/app"

    own = config(LISTEN_DATABASE_URL=other)

    assert other == own.listen_database_url
    assert "REELREADY_LISTEN_DATABASE_URL" == own.listen_setting
    assert "REELREADY_DATABASE_URL" == config().listen_setting


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"API_KEYS": f"{SECRET},{LOCAL_API_KEY}"}, "API_KEYS"),
        ({"INGEST_SECRETS": f"{WHSEC},{LOCAL_INGEST_SECRET}"}, "INGEST_SECRETS"),
    ],
)
def test_what_everybody_knows_is_refused_where_it_matters(changes, named):
    local = config(**changes)

    with pytest.raises(ConfigError, match=f"{PREFIX}{named}: .* of the local stack"):
        local.refuse_local_secrets()


def test_secrets_of_ones_own_are_not_refused():
    config().refuse_local_secrets()


def test_deadlines_are_those_of_the_stages_that_wait():
    assert {
        Status.AWAITING_UPLOAD: timedelta(seconds=1),
        Status.UPLOADED: timedelta(seconds=2),
        Status.CONVERTING: timedelta(seconds=3),
    } == config(
        UPLOAD_URL_SECONDS="1",
        UPLOAD_DEADLINE_SECONDS="1",
        START_DEADLINE_SECONDS="2",
        CONVERSION_DEADLINE_SECONDS="3",
    ).deadlines


@pytest.mark.parametrize(
    ("named", "life_s", "deadline_s"),
    [
        ("UPLOAD_URL_SECONDS", "604800", None),
        ("UPLOAD_URL_SECONDS", "86401", None),
        ("UPLOAD_DEADLINE_SECONDS", None, "899"),
        ("UPLOAD_DEADLINE_SECONDS", "61", "60"),
    ],
)
def test_an_upload_that_s3_takes_is_not_too_late_for_us(named, life_s, deadline_s):
    """Who has set one of the two is told of that one; either may be the default."""
    with pytest.raises(ConfigError) as caught:
        config(UPLOAD_URL_SECONDS=life_s, UPLOAD_DEADLINE_SECONDS=deadline_s)

    assert PREFIX + named == caught.value.setting
    assert f"{life_s or 900} s ({PREFIX}UPLOAD_URL_SECONDS)" in str(caught.value)
    assert f"{deadline_s or 86400} s ({PREFIX}UPLOAD_DEADLINE_SECONDS)" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("life_s", "deadline_s"),
    [("60", "60"), (None, "900"), ("86400", None), ("604800", "604800")],
)
def test_an_upload_may_come_until_its_file_expires(life_s, deadline_s):
    settings = config(UPLOAD_URL_SECONDS=life_s, UPLOAD_DEADLINE_SECONDS=deadline_s)

    assert settings.upload_url_seconds <= settings.upload_deadline_seconds


def test_silence_is_looked_into_before_it_is_an_answer():
    silences = config(SILENCE_SECONDS="60", START_DEADLINE_SECONDS="2").silences

    assert {
        Status.AWAITING_UPLOAD: timedelta(seconds=60),
        Status.UPLOADED: timedelta(seconds=2),
        Status.CONVERTING: timedelta(seconds=60),
    } == silences


def test_a_config_does_not_change():
    with pytest.raises(FrozenInstanceError):
        config().port = 1


def test_migrating_needs_the_database_only():
    url = REQUIRED["DATABASE_URL"]

    assert url == database_url({PREFIX + "DATABASE_URL": url})
    with pytest.raises(ConfigError, match="is not set"):
        database_url({})
    with pytest.raises(ConfigError, match="is not a URL"):
        database_url({PREFIX + "DATABASE_URL": "db"})


def test_every_setting_is_described_with_its_origin(tmp_path):
    (tmp_path / "keys").write_text(SECRET)
    lines = describe(
        environ(
            PORT="81", API_KEYS=None, API_KEYS_FILE=str(tmp_path / "keys"), BUCKET=None
        )
    )
    by_name = {line.name.removeprefix(PREFIX): line for line in lines}

    assert NAMES == list(by_name)
    assert ("81", "environment") == (by_name["PORT"].value, by_name["PORT"].origin)
    assert ("***", "file") == (by_name["API_KEYS"].value, by_name["API_KEYS"].origin)
    assert ("", "missing") == (by_name["BUCKET"].value, by_name["BUCKET"].origin)
    assert ("15", "default") == (
        by_name["HEARTBEAT_SECONDS"].value,
        by_name["HEARTBEAT_SECONDS"].origin,
    )
    assert all(line.about for line in lines)


def test_how_rare_heartbeats_may_be_is_said():
    """A client takes a stream for mute that lacks them, a proxy ends it after 75 s."""
    [about] = (one.about for one in describe(environ()) if "HEARTBEAT" in one.name)
    [most_s] = map(int, re.findall(r"\d+", about))

    assert calls.HEARTBEAT_S < most_s < calls._STREAM_TIMEOUT.sock_read < 75


def test_a_description_masks_every_secret():
    said = {
        one.name.upper(): "tell-nobody"
        for one in fields(Config)
        if one.metadata["secret"]
    }

    shown = repr(describe(environ(**said)))

    assert "tell-nobody" not in shown
    assert len(said) == shown.count("'***'")


@given(
    st.dictionaries(
        st.sampled_from([*NAMES, *[f"{name}_FILE" for name in NAMES]]),
        st.text(st.characters(exclude_characters="\0")),
    )
)
def test_any_environment_is_described_and_is_good_or_refused_by_name(said):
    hostile = {PREFIX + name: raw for name, raw in said.items()}

    assert NAMES == [line.name.removeprefix(PREFIX) for line in describe(hostile)]
    try:
        Config.from_env(hostile)
    except ConfigError as error:
        assert error.setting.startswith(PREFIX)  # noqa: PT017 - both ways are right


def test_required_settings_are_those_without_a_default():
    assert set(REQUIRED) == {
        one.name.upper() for one in fields(Config) if one.default is MISSING
    }
