"""
The AWS clients, one each per process.

Nothing here knows where it runs: boto3 reads the region, the credentials and
``AWS_ENDPOINT_URL_*`` from the environment by itself.
"""

import functools
from typing import Any

import boto3
from botocore.config import Config

_CONFIG = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"mode": "standard", "max_attempts": 3},
)
"""Seconds.  botocore's own minute would outlive the invocation."""


@functools.cache
def s3() -> Any:
    """The S3 client."""
    return boto3.client("s3", config=_CONFIG)


@functools.cache
def mediaconvert() -> Any:
    """The MediaConvert client."""
    return boto3.client("mediaconvert", config=_CONFIG)
