"""The template says what the code needs, and refuses what the code would refuse."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.config import Config
from lambdas import hls_file_manifest_saver, video_media_converter
from lambdas.settings import (
    LADDER_HEIGHTS,
    STATUS_UPDATE_SECONDS,
    ConverterSettings,
    GatewaySettings,
)
from local.environment import Endpoints, lambda_environment
from local.event_pattern import check_pattern, matches
from tests.stack import NEEDED, Stack, expanded, refused, unused

pytestmark = pytest.mark.config

VECTORS = Path(__file__).parents[2] / "vectors" / "aws"
STATUSES = {
    "PROGRESSING",
    "INPUT_INFORMATION",
    "STATUS_UPDATE",
    "COMPLETE",
    "ERROR",
    "CANCELED",
    "QUEUE_HOP",
    "NEW_WARNING",
}
"""MediaConvert user guide, "EventBridge event messages"."""

ACCOUNT_WIDE = {"mediaconvert:ListJobs", "mediaconvert:SearchJobs"}
"""Our questions name no queue, and so are about the account."""

SECRETS = {
    "REELREADY_DATABASE_URL": "postgresql://reelready@db/reelready",
    "REELREADY_INGEST_SECRETS": NEEDED["IngestSecret"],
    "REELREADY_API_KEYS": "k" * 40,
    "REELREADY_TOKEN_SECRETS": "t" * 40,
}


@pytest.fixture(scope="module")
def stack():
    return Stack()


class Noted(dict):
    """An environment that remembers which names it was asked for."""

    def __init__(self, values):
        super().__init__(values)
        self.names = set()

    def __getitem__(self, name):
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.names.add(name)
        return super().get(name, default)


def given(stack, function):
    return stack.properties(function)["Environment"]["Variables"]


def asked_for(variables, module, build, monkeypatch):
    """Which variables a handler reads when it starts with these."""
    environ = Noted(variables)
    monkeypatch.setattr(module, "os", SimpleNamespace(environ=environ))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-northeast-2")
    build.__wrapped__()
    return environ.names


HANDLERS = [
    ("Converter", video_media_converter, video_media_converter._converter),
    ("Saver", hls_file_manifest_saver, hls_file_manifest_saver._saver),
]


@pytest.mark.parametrize(("function", "module", "build"), HANDLERS)
def test_a_function_is_given_what_its_handler_reads_and_nothing_else(
    stack, function, module, build, monkeypatch
):
    variables = given(stack, function)

    assert set(variables) == asked_for(variables, module, build, monkeypatch)


@pytest.mark.parametrize(("function", "module", "build"), HANDLERS)
def test_each_variable_is_missed_when_it_is_taken_away(
    stack, function, module, build, monkeypatch
):
    for name in given(stack, function):
        left = {key: one for key, one in given(stack, function).items() if key != name}
        try:
            names = asked_for(left, module, build, monkeypatch)
        except Exception as error:  # noqa: BLE001 - whatever a handler says of it
            names = {error.setting}

        assert name in names - set(left)


def test_the_local_cloud_gives_the_functions_no_setting_that_aws_does_not(stack):
    local = lambda_environment(
        Endpoints(gateway_port=1, s3_url="http://s3", mediaconvert_url="http://mc")
    )
    ours = {name for name in local if not name.startswith(("AWS_", "NO_PROXY"))}

    assert ours <= set(given(stack, "Converter"))


def test_a_claim_outlives_every_invocation(stack):
    settings = ConverterSettings.from_env(given(stack, "Converter"))

    assert stack.properties("Converter")["Timeout"] < settings.claim_s


def rule(stack, name):
    pattern = stack.properties(name)["EventPattern"]
    check_pattern(pattern)
    return pattern


def job_event(name, stack, **detail):
    event = json.loads((VECTORS / f"{name}.json").read_text())
    bucket = stack.outputs["Bucket"]
    metadata = {"file_id": "f-1", "attempt": "1", "bucket": bucket}
    return event | {"detail": event["detail"] | {"userMetadata": metadata} | detail}


def lost(pattern, stack):
    """Statuses that a rule would not bring."""
    events = [job_event("mediaconvert-12-canceled", stack, status=s) for s in STATUSES]
    return {e["detail"]["status"] for e in events if not matches(pattern, e)}


def test_every_job_status_is_brought(stack):
    assert set() == lost(rule(stack, "SaverJobChanged"), stack)
    for path in VECTORS.glob("mediaconvert-*.json"):
        event = job_event(path.stem, stack)

        assert event["detail"]["status"] in STATUSES
        assert matches(rule(stack, "SaverJobChanged"), event)


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_each_status_is_missed_when_it_is_taken_away(stack, status):
    pattern = json.loads(json.dumps(rule(stack, "SaverJobChanged")))
    pattern["detail"]["status"].remove(status)

    assert {status} == lost(pattern, stack)


def test_jobs_of_others_wake_nobody(stack):
    pattern = rule(stack, "SaverJobChanged")
    for metadata in ({}, {"file_id": "f-1"}, {"bucket": "another-stack"}):
        event = job_event("mediaconvert-12-canceled", stack, userMetadata=metadata)

        assert not matches(pattern, event)


def test_only_uploads_to_our_bucket_wake_the_converter(stack):
    def made(key, bucket=stack.outputs["Bucket"]):
        detail = {"bucket": {"name": bucket}, "object": {"key": key}}
        return {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}

    pattern = rule(stack, "ConverterUploaded")

    assert matches(pattern, made("video/origin/f-1.mp4"))
    assert not matches(pattern, made("video/origin/f-1.mp4", bucket="other"))
    assert not matches(pattern, made("video/hls/f-1/master.m3u8"))
    assert not matches(pattern, made("video/claims/f-1.json"))


def test_the_bucket_is_closed_and_encrypted_and_tidied(stack):
    bucket = stack.properties("Bucket")

    assert {True} == set(bucket["PublicAccessBlockConfiguration"].values())
    assert 4 == len(bucket["PublicAccessBlockConfiguration"])
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert {"SSEAlgorithm": "AES256"} == encryption["ServerSideEncryptionByDefault"]
    assert "Retain" == stack.resources["Bucket"]["DeletionPolicy"]
    rules = bucket["LifecycleConfiguration"]["Rules"]
    assert {"Enabled"} == {one["Status"] for one in rules}
    assert {("video/origin/", "30"), ("video/claims/", 7)} == {
        (one["Prefix"], one["ExpirationInDays"]) for one in rules if "Prefix" in one
    }


def test_nothing_is_granted_on_everything_but_what_has_no_resource(stack):
    grants = [one for one in stack.grants() if one.allows]

    assert ACCOUNT_WIDE == {one.action for one in grants if one.resource == "*"}
    assert [] == [one for one in grants if "*" in one.action]


@pytest.mark.parametrize("function", ["Converter", "Saver"])
def test_what_fails_is_tried_again_kept_and_rung_for(stack, function):
    queue = stack.arn(f"{function}DeadLetters")
    (config,) = (
        one
        for one in stack.of_type("AWS::Lambda::EventInvokeConfig").values()
        if one["FunctionName"] == stack.outputs[f"{function}Function"]
    )
    (target,) = (
        one
        for made in stack.of_type("AWS::Events::Rule").values()
        for one in made["Targets"]
        if one["Arn"] == stack.arn(function)
    )
    alarms = stack.of_type("AWS::CloudWatch::Alarm").values()
    watched = {one["Dimensions"][0]["Value"] for one in alarms}

    assert 2 == config["MaximumRetryAttempts"]
    assert queue == config["DestinationConfig"]["OnFailure"]["Destination"]
    assert queue == target["DeadLetterConfig"]["Arn"]
    assert 86_400 == target["RetryPolicy"]["MaximumEventAgeInSeconds"]
    assert {queue.rpartition(":")[2], stack.outputs[f"{function}Function"]} <= watched
    assert {(stack.arn("Alarms"),)} == {tuple(one["AlarmActions"]) for one in alarms}
    logs = stack.properties(f"{function}Logs")
    assert "30" == logs["RetentionInDays"]


def test_the_output_is_an_environment_that_the_gateway_takes(stack):
    lines = stack.outputs["GatewaySettings"].splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    config = Config.from_env(settings | SECRETS)

    assert stack.outputs["Bucket"] == config.bucket
    assert stack.outputs["PlaybackBaseUrl"] == config.playback_base_url
    assert stack.outputs["ConverterFunction"] == config.converter_function
    assert tuple(NEEDED["AllowedOrigins"].split(",")) == config.allowed_origins
    known = {f"REELREADY_{name.upper()}" for name in Config.__dataclass_fields__}
    assert set(settings) - known == {"AWS_REGION"}
    assert (config.upload_prefix, config.output_prefix) == (
        given(stack, "Converter")["UPLOAD_PREFIX"],
        given(stack, "Converter")["OUTPUT_PREFIX"],
    )


@pytest.mark.parametrize("identity", ["ec2", "user", "none"])
def test_the_gateway_gets_its_policy_as_it_is_asked_for(identity):
    stack = Stack(GatewayIdentity=identity)
    policy = stack.properties("GatewayPolicy")

    assert (
        (identity == "ec2")
        is ("Roles" in policy)
        is ("GatewayProfile" in stack.outputs)
    )
    assert (
        (identity == "user") is ("Users" in policy) is ("GatewayUser" in stack.outputs)
    )


def test_alarms_go_to_an_address_only_if_there_is_one():
    assert {} == Stack().of_type("AWS::SNS::Subscription")
    (one,) = Stack(AlarmEmail="a@b.c").of_type("AWS::SNS::Subscription").values()
    assert "a@b.c" == one["Endpoint"]


@pytest.mark.parametrize(
    ("tracing", "mode"), [("off", "PassThrough"), ("on", "Active")]
)
def test_traces_begin_at_the_functions_if_they_are_asked_for(tracing, mode):
    stack = Stack(Tracing=tracing)
    functions = stack.of_type("AWS::Lambda::Function").values()
    traced = [one for one in stack.grants() if one.action.startswith("xray:")]
    done = [one for one in stack.implied() if one.action.startswith("xray:")]

    assert [mode] * 2 == [one["TracingConfig"]["Mode"] for one in functions]
    assert (tracing == "on") is bool(traced)
    assert ([], []) == (refused(done, traced), unused(done, traced))
    roles = {stack.named(one["Role"]) for one in functions}
    assert {one.principal for one in traced} <= roles


PARAMETERS = expanded()["Parameters"]


def takes(parameter, value):
    """Whether CloudFormation takes it; of a list, each item."""
    rules = PARAMETERS[parameter]
    if "AllowedValues" in rules:
        return value in map(str, rules["AllowedValues"])
    return re.fullmatch(rules["AllowedPattern"], value, re.ASCII) is not None


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        (
            "GatewayUrl",
            ["https://a.example.com", "https://a.example.com:8443/reelready/"],
            [
                "",
                "a.example.com",
                "http://a.example.com",
                "https://a.example.com?x=1",
                "https://user:pass@a.example.com",
                "https://a.example.com ",
                "https://a.example.com:0",
            ],
        ),
        (
            "IngestSecret",
            [
                "whsec_" + "A" * 32,
                "whsec_" + "A" * 43 + "=",
                "whsec_" + "A" * 34 + "==",
            ],
            [
                "",
                "secret",
                "A" * 32,
                "whsec_" + "A" * 28,
                "whsec_" + "A" * 33,
                "whsec_" + "-" * 32,
            ],
        ),
        (
            "AllowedOrigins",
            ["https://app.example.com", "http://localhost:3000", "http://127.0.0.1"],
            [
                "*",
                "https://*.example.com",
                "https://app.example.com/",
                "http://app.example.com",
                " https://app.example.com",
                "app.example.com",
            ],
        ),
        (
            "AlarmEmail",
            ["", "ops@example.com"],
            ["ops", "a@b", "a b@c.de", "a@b.c,d@e.f"],
        ),
        (
            "LadderHeights",
            ["1080,720,480", "240"],
            ["", "1440", "1080, 720", "1080,", "auto"],
        ),
        ("GatewayIdentity", ["ec2", "user", "none"], ["", "root"]),
        ("StatusUpdateSeconds", ["10", "600"], ["5", "61", ""]),
        ("LogRetentionDays", ["30", "731"], ["0", "31"]),
        ("PriceClass", ["PriceClass_200"], ["200"]),
        ("Tracing", ["off", "on"], ["", "Active"]),
    ],
)
def test_a_wrong_parameter_is_refused_by_a_line_that_names_it(parameter, good, bad):
    assert [True] * len(good) == [takes(parameter, value) for value in good]
    assert [False] * len(bad) == [takes(parameter, value) for value in bad]
    assert PARAMETERS[parameter]["ConstraintDescription"].startswith(
        f"{parameter} must"
    )


def test_every_parameter_says_what_it_must_be():
    for name, rules in PARAMETERS.items():
        assert rules["ConstraintDescription"].startswith(f"{name} must")
        assert rules["Description"]
        assert {"AllowedPattern", "AllowedValues", "MinValue"} & set(rules)


@pytest.mark.parametrize("address", ["https://a.example.com", "https://a.b:1/c/d/"])
@pytest.mark.parametrize("secret", ["A" * 32, "A" * 43 + "="])
def test_what_cloudformation_takes_the_functions_and_the_gateway_take(address, secret):
    stack = Stack(GatewayUrl=address, IngestSecret=f"whsec_{secret}")
    settings = GatewaySettings.from_env(given(stack, "Saver"))
    lines = stack.outputs["GatewaySettings"].splitlines()
    environ = dict(line.split("=", 1) for line in lines) | SECRETS
    environ["REELREADY_INGEST_SECRETS"] = f"whsec_{secret}"
    config = Config.from_env(environ)

    assert f"{settings.url}/" == config.public_url
    assert (settings.secret,) == config.ingest_secrets


def test_the_numbers_that_may_be_chosen_are_those_that_the_code_knows():
    assert (
        list(STATUS_UPDATE_SECONDS)
        == PARAMETERS["StatusUpdateSeconds"]["AllowedValues"]
    )
    named = set(re.findall(r"\d+", PARAMETERS["LadderHeights"]["AllowedPattern"]))
    assert set(map(str, LADDER_HEIGHTS)) == named
