"""What a gateway refuses to start with, as one line on standard error."""

import base64
import os
import socket
import subprocess
import sys

import pytest

SETTINGS = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "BUCKET": "films",
    "PLAYBACK_BASE_URL": "https://cdn.example.com",
    "INGEST_SECRETS": "whsec_" + base64.b64encode(b"k" * 24).decode(),
    "API_KEYS": "a" * 32,
    "TOKEN_SECRETS": "t" * 32,
}
WITHOUT_HTTPTOOLS = (
    "import sys; sys.modules['httptools'] = None; "
    "from gateway.cli import main; main(['serve'])"
)


def serve(*command: str, **changes: str) -> tuple[int, str]:
    """Start a gateway that must not start; its exit code and what it said."""
    settings = {
        name if name.startswith("AIO") else f"REELREADY_{name}": value
        for name, value in (SETTINGS | changes).items()
    }
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("REELREADY_")}
    done = subprocess.run(
        [sys.executable, *(command or ("-m", "gateway", "serve"))],
        env=inherited | settings,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "" == done.stdout
    return done.returncode, done.stderr


def test_without_the_c_parser_of_aiohttp():
    """Its fallback in Python has had smuggling faults that llhttp had not."""
    code, said = serve(AIOHTTP_NO_EXTENSIONS="1")

    assert 2 == code
    assert said.startswith("Error: AIOHTTP_NO_EXTENSIONS: is set, or ")
    assert 1 == said.count("\n")


def test_without_httptools():
    code, said = serve("-c", WITHOUT_HTTPTOOLS)

    assert 1 == code
    assert said.startswith("Error: cannot serve: import of httptools ")
    assert 1 == said.count("\n")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("API_KEYS", "local", "local stack"),
        ("API_KEYS", "a" * 31, "fewer than 32"),
        ("TOKEN_SECRETS", "t" * 31, "fewer than 32"),
        ("TOKEN_SECRETS", "-----BEGIN PUBLIC KEY-----" + "A" * 40, "PEM"),
        (
            "INGEST_SECRETS",
            "whsec_cmVlbHJlYWR5LWxvY2FsLW9ubHktc2VjcmV0LTAwMDE=",
            "local stack",
        ),
        ("INGEST_SECRETS", "whsec_" + base64.b64encode(b"k" * 23).decode(), "24 bytes"),
    ],
)
def test_with_a_secret_that_is_none(name, value, problem):
    code, said = serve(**{name: value})

    assert 2 == code
    assert said.startswith(f"Error: REELREADY_{name}: ")
    assert problem in said
    assert value not in said.replace("local stack", "")
    assert 1 == said.count("\n")


@pytest.fixture
def aws(monkeypatch):
    """What uploads are signed with."""
    monkeypatch.setenv("AWS_REGION", "ap-northeast-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")


@pytest.mark.parametrize("processes", [(), ("--processes", "1")])
def test_on_an_address_that_is_in_use(aws, processes):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, said = serve("-m", "gateway", "serve", *processes, PORT=port)

    assert 1 == code
    assert (
        f"Error: REELREADY_HOST, REELREADY_PORT: cannot listen on 127.0.0.1:{port}:"
        " Address already in use"
    ) == said.splitlines()[-1]


@pytest.mark.parametrize("processes", [(), ("--processes", "1")])
def test_on_a_name_that_is_none(aws, processes):
    code, said = serve("-m", "gateway", "serve", *processes, HOST="nowhere.invalid")

    assert 1 == code
    assert said.splitlines()[-1].startswith(
        "Error: REELREADY_HOST, REELREADY_PORT: cannot listen on nowhere.invalid:8080: "
    )
