import base64

import pytest

from lambdas import jobs
from lambdas.errors import SettingError
from lambdas.settings import (
    LADDER_HEIGHTS,
    ConverterSettings,
    GatewaySettings,
    output_prefix,
)
from tests.unit.lambdas.standins import SECRET, SETTINGS


def test_what_is_not_set_has_the_documented_default():
    settings = ConverterSettings.from_env(SETTINGS)

    assert "video/origin/" == settings.upload_prefix
    assert "video/hls/" == settings.output_prefix
    assert "video/claims/" == settings.claim_prefix
    assert 120 == settings.claim_s
    assert 10 == settings.status_update_s
    assert (1080, 720, 480) == settings.heights
    assert settings.queue_arn is None


def test_an_empty_variable_counts_as_not_set():
    settings = ConverterSettings.from_env({**SETTINGS, "LADDER_HEIGHTS": ""})

    assert (1080, 720, 480) == settings.heights


def test_the_ladder_is_sorted_and_has_no_doubles():
    settings = ConverterSettings.from_env(
        {**SETTINGS, "LADDER_HEIGHTS": "240, 1080,240"}
    )

    assert (1080, 240) == settings.heights


def test_every_height_that_may_be_set_has_settings():
    assert set(LADDER_HEIGHTS) == set(jobs._LADDER)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEDIACONVERT_ROLE_ARN", " "),
        ("STATUS_UPDATE_SECONDS", "11"),
        ("STATUS_UPDATE_SECONDS", "ten"),
        ("CLAIM_SECONDS", "0"),
        ("CLAIM_SECONDS", "-1"),
        ("LADDER_HEIGHTS", "1080,999"),
        ("LADDER_HEIGHTS", "1080,"),
        ("UPLOAD_PREFIX", "video/origin"),
        ("OUTPUT_PREFIX", "/video/hls/"),
        ("OUTPUT_PREFIX", "video/origin/hls/"),
        ("CLAIM_PREFIX", "video/origin/"),
    ],
)
def test_a_wrong_converter_setting_is_named(name, value):
    with pytest.raises(SettingError, match=name) as caught:
        ConverterSettings.from_env({**SETTINGS, name: value})

    assert name == caught.value.setting


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_URL", ""),
        ("GATEWAY_URL", "gateway:8080"),
        ("GATEWAY_URL", "file:///etc/passwd"),
        ("GATEWAY_URL", "http://"),
        ("GATEWAY_URL", "http://host:port"),
        ("GATEWAY_URL", "http://user:word@host"),
        ("GATEWAY_URL", "http://host/?a=b"),
        ("INGEST_SECRET", ""),
        ("INGEST_SECRET", "whsec_c2hvcnQ="),
        ("INGEST_SECRET", SECRET.removeprefix("whsec_")),
        ("INGEST_SECRET", "whsec_" + "!" * 40),
    ],
)
def test_a_wrong_gateway_setting_is_named(name, value):
    with pytest.raises(SettingError, match=name):
        GatewaySettings.from_env({**SETTINGS, name: value})


def test_the_url_may_have_a_path_and_loses_its_last_slash():
    url = "https://video.example.com/gateway/"

    settings = GatewaySettings.from_env({**SETTINGS, "GATEWAY_URL": url})

    assert "https://video.example.com/gateway" == settings.url


def test_the_secret_is_decoded_and_never_shown():
    settings = GatewaySettings.from_env(SETTINGS)

    assert base64.b64decode(SECRET.removeprefix("whsec_")) == settings.secret
    assert "secret" not in repr(settings)


def test_a_secret_that_is_no_base64_does_not_show_up_in_the_error():
    broken = SECRET[:-3] + "!!!"

    with pytest.raises(SettingError) as caught:
        GatewaySettings.from_env({**SETTINGS, "INGEST_SECRET": broken})

    assert caught.value.__cause__ is None
    assert broken not in str(caught.value)


def test_the_output_prefix_can_be_moved():
    assert "out/" == output_prefix({"OUTPUT_PREFIX": "out/"})
