import json
import shlex
import time

import jwt
import pytest

from gateway.auth import WatchTokens
from gateway.model import FileId

FIRST = "a" * 32
SECOND = "b" * 32
SECRETS = {"REELREADY_TOKEN_SECRETS": f"{FIRST},{SECOND}"}


def _claims(token):
    return jwt.decode(token, FIRST, algorithms=["HS256"], audience="reelready")


async def test_the_gateway_accepts_a_token_for_files(reelready):
    result = await reelready("token", "--file", "f-1", "--file", "f-2", **SECRETS)

    viewer = WatchTokens((SECOND, FIRST)).read(json.loads(result.stdout)["token"])
    assert {"f-1", "f-2"} == viewer.files
    assert viewer.may_see(FileId("f-1"), None)
    assert not viewer.may_see(FileId("f-3"), "u-17")


async def test_the_gateway_accepts_a_token_for_an_owner(reelready):
    result = await reelready("token", "--owner", "u-17", **SECRETS)

    viewer = WatchTokens((FIRST,)).read(json.loads(result.stdout)["token"])
    assert viewer.may_see(FileId("f-3"), "u-17")
    assert not viewer.may_see(FileId("f-3"), None)


@pytest.mark.parametrize(
    ("ttl", "life_s"), [("90", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800)]
)
async def test_a_token_lasts_as_long_as_told(reelready, ttl, life_s):
    result = await reelready("token", "--owner", "u", "--ttl", ttl, **SECRETS)

    claims = _claims(json.loads(result.stdout)["token"])
    assert life_s == claims["exp"] - claims["iat"]
    assert abs(time.time() - claims["iat"]) < 60


async def test_plain_is_the_token_alone(reelready):
    result = await reelready("token", "--file", "f-1", "--plain", **SECRETS)

    assert ["f-1"] == _claims(result.stdout.strip())["files"]


async def test_the_secret_may_come_from_a_file(reelready, tmp_path):
    path = tmp_path / "secrets"
    path.write_text(f"{FIRST}\n")

    result = await reelready(
        "token", "--owner", "u", "--plain", REELREADY_TOKEN_SECRETS_FILE=str(path)
    )

    assert "u" == _claims(result.stdout.strip())["owner"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "say for whom: --file ID or --owner NAME"),
        (("--file", "../x"), "'../x' is not a file id"),
        (("--owner", "u", "--ttl", "0"), "'0' is not like 90, 15m, 12h or 7d"),
        (("--owner", "u", "--ttl", "soon"), "'soon' is not like 90, 15m, 12h or 7d"),
        (("--owner", "u", "--ttl", "366d"), "'366d' is not like 90, 15m, 12h or 7d"),
    ],
)
async def test_what_makes_no_sense_is_a_usage_error(reelready, args, said):
    result = await reelready("token", *args, **SECRETS)

    assert 2 == result.exit_code
    assert said in result.stderr


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        (
            {},
            "REELREADY_TOKEN_SECRETS: is not set (sign watch tokens; first is newest)",
        ),
        (
            {"REELREADY_TOKEN_SECRETS": "short"},
            "REELREADY_TOKEN_SECRETS: holds a secret of fewer than 32 characters",
        ),
    ],
)
async def test_a_bad_secret_is_named_and_not_shown(reelready, secrets, said):
    result = await reelready("token", "--owner", "u", **secrets)

    assert 2 == result.exit_code
    assert f"Error: {said}\n" == result.stderr


async def test_the_example_can_be_copied_from_a_narrow_terminal(reelready):
    result = await reelready("token", "--help", COLUMNS="80")

    script = result.stdout.partition("Example:")[2]
    first, command = script.replace("\\\n", "").strip().splitlines()
    assert 'TOKEN=$(reelready token --file "$ID" --plain)' == first
    headers = ["-H", "Authorization: Bearer $TOKEN", "-H", "Accept: text/event-stream"]
    asked = ["curl", "-N", *headers, "$URL/v1/files/$ID/events"]
    assert asked == shlex.split(command)
    assert max(map(len, result.stdout.splitlines())) <= 80
