import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from lambdas.errors import JobRefusedError
from lambdas.jobs import create_job, find_job, job_request
from lambdas.settings import LADDER_HEIGHTS, STATUS_UPDATE_SECONDS, ConverterSettings
from lambdas.uploads import uploads_in
from tests.unit.lambdas.standins import (
    BUCKET,
    FILE_ID,
    JOB_ID,
    SETTINGS,
    put_event,
    vector,
)

UPLOAD = uploads_in(put_event())[0][0]


def request(**env):
    settings = ConverterSettings.from_env({**SETTINGS, **env})
    return job_request(UPLOAD, FILE_ID, 1, settings)


def model():
    return boto3.client("mediaconvert").meta.service_model


def job(job_id=JOB_ID, **metadata):
    return {
        "Id": job_id,
        "Role": "role",
        "Settings": {},
        "UserMetadata": {"file_id": FILE_ID, "attempt": "1", **metadata},
    }


def test_the_default_job_is_the_fixed_ladder_of_the_sample():
    assert vector("create-job-fixed-ladder")["Settings"] == request()["Settings"]


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"LADDER_HEIGHTS": ",".join(map(str, LADDER_HEIGHTS))},
        {"MEDIACONVERT_QUEUE_ARN": "arn:aws:mediaconvert:::queues/Default"},
    ],
)
def test_a_job_is_valid_in_aws_own_model(env):
    shape = model().operation_model("CreateJob").input_shape

    assert "" == ParamValidator().validate(request(**env), shape).generate_report()


def enums_of(shape, value, path=""):
    """Every place of a request where AWS allows certain words only."""
    if shape.type_name == "structure":
        for name, part in value.items():
            yield from enums_of(shape.members[name], part, f"{path}.{name}")
    elif shape.type_name == "list":
        for part in value:
            yield from enums_of(shape.member, part, path)
    elif shape.type_name == "map":
        for part in value.values():
            yield from enums_of(shape.value, part, path)
    elif getattr(shape, "enum", []):
        yield path, value, shape.enum


def test_every_word_in_a_job_is_one_aws_knows():
    shape = model().operation_model("CreateJob").input_shape
    words = list(enums_of(shape, request()))

    assert 20 < len(words)
    assert [] == [word for word in words if word[1] not in word[2]]


def test_every_status_update_interval_that_may_be_set_is_one_aws_knows():
    known = model().shape_for("StatusUpdateInterval").enum

    assert set(known) == {f"SECONDS_{seconds}" for seconds in STATUS_UPDATE_SECONDS}
    assert "SECONDS_30" == request(STATUS_UPDATE_SECONDS="30")["StatusUpdateInterval"]


def test_the_job_carries_what_its_events_must_bring_back():
    assert {"file_id": FILE_ID, "attempt": "1", "bucket": BUCKET} == request()[
        "UserMetadata"
    ]


def test_the_master_playlist_has_a_name_that_is_known_beforehand():
    (group,) = request(OUTPUT_PREFIX="out/")["Settings"]["OutputGroups"]
    settings = group["OutputGroupSettings"]["HlsGroupSettings"]

    assert f"s3://{BUCKET}/out/{FILE_ID}/master" == settings["Destination"]


def test_the_request_token_fits_and_is_another_for_another_attempt():
    settings = ConverterSettings.from_env(SETTINGS)
    tokens = [
        job_request(UPLOAD, file_id, attempt, settings)["ClientRequestToken"]
        for file_id, attempt in [("a" * 64, 1), ("a" * 64, 1), ("a" * 64, 2), ("b", 1)]
    ]

    assert 3 == len(set(tokens))
    assert all(len(token) <= 64 and token.isascii() for token in tokens)


def test_audio_is_taken_if_there_is_any_and_not_asked_for():
    """A selector that names a track or language would fail a silent video."""
    (source,) = request()["Settings"]["Inputs"]

    assert {"Audio Selector 1": {"DefaultSelection": "DEFAULT"}} == source[
        "AudioSelectors"
    ]


def test_a_made_job_is_known_by_its_id(mediaconvert):
    mediaconvert.script.add_response("create_job", {"Job": job()}, request())

    assert JOB_ID == create_job(mediaconvert, request())


@pytest.mark.parametrize(
    ("code", "status"),
    [("BadRequestException", 400), ("NotFoundException", 404)],
)
def test_a_refusal_for_good_is_told_apart(mediaconvert, code, status):
    mediaconvert.script.add_client_error(
        "create_job", code, "Invalid selector", http_status_code=status
    )

    with pytest.raises(JobRefusedError, match="Invalid selector"):
        create_job(mediaconvert, request())


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("TooManyRequestsException", 429),
        ("InternalServerErrorException", 500),
        ("ForbiddenException", 403),
        ("ServiceQuotaExceededException", 402),
        ("ConflictException", 409),
    ],
)
def test_what_may_pass_is_raised_as_it_is(mediaconvert, code, status):
    mediaconvert.script.add_client_error("create_job", code, http_status_code=status)

    with pytest.raises(ClientError, match=code):
        create_job(mediaconvert, request())


def test_the_oldest_job_of_the_same_upload_and_attempt_is_found(mediaconvert):
    others = [
        {"Id": "1", "Role": "role", "Settings": {}},
        job("2", file_id="another"),
        job("3", attempt="2"),
    ]
    query = {"InputFile": UPLOAD.uri, "Order": "ASCENDING", "MaxResults": 20}
    mediaconvert.script.add_response(
        "search_jobs", {"Jobs": others, "NextToken": "more"}, query
    )
    mediaconvert.script.add_response(
        "search_jobs",
        {"Jobs": [job("4"), job("5")], "NextToken": "yet more"},
        {**query, "NextToken": "more"},
    )

    assert "4" == find_job(mediaconvert, UPLOAD, FILE_ID, 1)


def test_no_job_is_found_where_there_is_none(mediaconvert):
    mediaconvert.script.add_response("search_jobs", {})

    assert find_job(mediaconvert, UPLOAD, FILE_ID, 1) is None


def test_the_search_for_a_job_ends(mediaconvert):
    for _ in range(5):
        mediaconvert.script.add_response("search_jobs", {"NextToken": "more"})

    assert find_job(mediaconvert, UPLOAD, FILE_ID, 1) is None
