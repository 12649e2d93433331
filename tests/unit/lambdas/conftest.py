import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from tests.unit.lambdas.standins import AWS, BUCKET, FILE_ID, KEY


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch):
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def s3():
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client


@pytest.fixture
def uploaded(s3):
    """The video, uploaded and tagged."""
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"v", Tagging=f"file_id={FILE_ID}")


@pytest.fixture
def mediaconvert():
    """Answers what a test has scripted, checked against AWS's own model."""
    client = boto3.client("mediaconvert")
    with Stubber(client) as script:
        client.script = script
        yield client
        script.assert_no_pending_responses()
