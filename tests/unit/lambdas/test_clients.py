import pytest

from lambdas import clients


@pytest.fixture(autouse=True)
def fresh_clients():
    clients.s3.cache_clear()
    clients.mediaconvert.cache_clear()
    yield
    clients.s3.cache_clear()
    clients.mediaconvert.cache_clear()


def test_a_process_makes_each_client_once():
    assert clients.s3() is clients.s3()
    assert clients.mediaconvert() is clients.mediaconvert()


def test_the_endpoints_of_the_environment_are_used(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")
    monkeypatch.setenv("AWS_ENDPOINT_URL_MEDIACONVERT", "http://127.0.0.1:9001")

    assert "http://127.0.0.1:9000" == clients.s3().meta.endpoint_url
    assert "http://127.0.0.1:9001" == clients.mediaconvert().meta.endpoint_url


def test_no_client_waits_longer_than_an_invocation_may():
    config = clients.s3().meta.config

    assert 10 >= config.read_timeout
    assert 3 >= config.connect_timeout
