import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from tests.unit.lambdas.standins import AWS, BUCKET, FILE_ID, KEY


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch):
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def aws():
    """One session: reading AWS's models is what makes clients slow."""
    return boto3.Session("made-up", "made-up", region_name="us-east-1")


@pytest.fixture(scope="session")
def s3_client(aws):
    return aws.client("s3")


@pytest.fixture(scope="session")
def mediaconvert_client(aws):
    return aws.client("mediaconvert")


@pytest.fixture
def s3(s3_client):
    with mock_aws():
        s3_client.create_bucket(Bucket=BUCKET)
        yield s3_client


@pytest.fixture
def uploaded(s3):
    """The video, uploaded and tagged."""
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"v", Tagging=f"file_id={FILE_ID}")


@pytest.fixture
def mediaconvert(mediaconvert_client):
    """Answers what a test has scripted, checked against AWS's own model."""
    with Stubber(mediaconvert_client) as script:
        mediaconvert_client.script = script
        yield mediaconvert_client
        script.assert_no_pending_responses()
