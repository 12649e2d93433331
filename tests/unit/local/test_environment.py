"""What the children are told, and what of this machine they are not."""

from gateway.config import LOCAL_API_KEY, Config
from local.environment import (
    Endpoints,
    gateway_environment,
    lambda_environment,
    without_aws,
)

ENDPOINTS = Endpoints(
    gateway_port=8080,
    s3_url="http://127.0.0.1:9000",
    mediaconvert_url="http://127.0.0.1:9001",
)


def gateway_env(**environ: str) -> dict[str, str]:
    return gateway_environment(
        environ,
        ENDPOINTS,
        database_url="postgresql://me@127.0.0.1/reelready",
        token_secret="t" * 64,
    )


def test_the_gateway_accepts_what_it_is_told():
    config = Config.from_env(gateway_env())

    assert "http://127.0.0.1:8080/" == config.base_url
    assert "http://127.0.0.1:9000/reelready-local/" == config.playback_base_url
    assert (LOCAL_API_KEY,) == config.api_keys
    assert "127.0.0.1" == config.host


def test_a_person_may_set_what_the_local_cloud_does_not():
    env = gateway_env(REELREADY_HEARTBEAT_SECONDS="1", REELREADY_BUCKET="mine")

    assert 1 == Config.from_env(env).heartbeat_seconds
    assert "reelready-local" == Config.from_env(env).bucket


def test_a_conversion_that_the_local_cloud_forgot_does_not_last_for_hours():
    theirs = gateway_env(REELREADY_CONVERSION_DEADLINE_SECONDS="7200")

    assert 600 == Config.from_env(gateway_env()).conversion_deadline_seconds
    assert 7200 == Config.from_env(theirs).conversion_deadline_seconds


def test_nobodys_aws_account_is_used():
    env = without_aws({"AWS_PROFILE": "prod", "AWS_SESSION_TOKEN": "x", "HOME": "/h"})

    assert "/h" == env["HOME"]
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN"} & env.keys()
    assert "/dev/null" == env["AWS_CONFIG_FILE"]
    assert "local" == gateway_env(AWS_ACCESS_KEY_ID="AKIA")["AWS_ACCESS_KEY_ID"]


def test_loopback_never_goes_through_a_proxy():
    assert "*" == without_aws({"HTTP_PROXY": "http://proxy"})["NO_PROXY"]
    assert "*" == lambda_environment(ENDPOINTS)["NO_PROXY"]


def test_the_functions_find_the_gateway_and_both_services():
    env = lambda_environment(ENDPOINTS)

    assert "http://127.0.0.1:8080" == env["GATEWAY_URL"]
    assert ENDPOINTS.s3_url == env["AWS_ENDPOINT_URL_S3"]
    assert ENDPOINTS.mediaconvert_url == env["AWS_ENDPOINT_URL_MEDIACONVERT"]
    assert "10" == env["STATUS_UPDATE_SECONDS"]
