import json
from dataclasses import fields

from gateway.config import Config

SECRET = "0123456789abcdef0123456789abcdef"
SETTINGS = {
    "REELREADY_DATABASE_URL": "postgresql://user:hunter2@127.0.0.1/db",
    "REELREADY_BUCKET": "videos",
    "REELREADY_PLAYBACK_BASE_URL": "https://cdn.example.com/",
    "REELREADY_INGEST_SECRETS": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "REELREADY_API_KEYS": SECRET,
    "REELREADY_TOKEN_SECRETS": SECRET,
}


def _lines(result):
    return {line["name"]: line for line in map(json.loads, result.stdout.splitlines())}


async def test_every_setting_is_a_line_and_secrets_are_masked(reelready):
    result = await reelready("config", **SETTINGS)

    assert (0, "") == (result.exit_code, result.stderr)
    lines = _lines(result)
    assert {f"REELREADY_{one.name.upper()}" for one in fields(Config)} == lines.keys()
    assert "videos" == lines["REELREADY_BUCKET"]["value"]
    assert "environment" == lines["REELREADY_BUCKET"]["origin"]
    assert ("8080", "default") == (
        lines["REELREADY_PORT"]["value"],
        lines["REELREADY_PORT"]["origin"],
    )
    assert "***" == lines["REELREADY_API_KEYS"]["value"]
    assert not [word for word in (SECRET, "hunter2") if word in result.stdout]


async def test_all_that_is_missing_or_wrong_is_said(reelready, tmp_path):
    wrong = SETTINGS | {
        "REELREADY_BUCKET": "Not A Bucket",
        "REELREADY_PORT": "many",
        "REELREADY_API_KEYS_FILE": str(tmp_path / "none"),
    }
    del wrong["REELREADY_API_KEYS"], wrong["REELREADY_DATABASE_URL"]

    result = await reelready("config", **wrong)

    assert 1 == result.exit_code
    assert [
        "REELREADY_API_KEYS_FILE",
        "REELREADY_BUCKET",
        "REELREADY_DATABASE_URL",
        "REELREADY_PORT",
    ] == sorted(line.split(": ")[1] for line in result.stderr.splitlines())


async def test_settings_at_odds_are_said_once_beside_what_is_missing(reelready):
    wrong = SETTINGS | {
        "REELREADY_UPLOAD_URL_SECONDS": "7200",
        "REELREADY_UPLOAD_DEADLINE_SECONDS": "3600",
    }
    del wrong["REELREADY_BUCKET"]

    result = await reelready("config", **wrong)

    assert 1 == result.exit_code
    odds, missing = result.stderr.splitlines()
    assert "7200 s (REELREADY_UPLOAD_URL_SECONDS)" in odds
    assert "3600 s (REELREADY_UPLOAD_DEADLINE_SECONDS)" in odds
    assert "REELREADY_BUCKET: is not set" in missing


async def test_on_a_terminal_it_is_a_table(on_terminal):
    terminal = await on_terminal("config", **SETTINGS)

    code, written = await terminal.end()

    assert 0 == code
    assert "REELREADY_DATABASE_URL" in written
    assert "hunter2" not in written
    assert "{" not in written
