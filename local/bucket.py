"""
The bucket, made and set up through S3's own API as a deploy script would.

Uploads are private; renditions may be read by anybody who knows the id, as they
may through a content delivery network in production.
"""

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import aiobotocore.session

from local.environment import BUCKET, OUTPUT_PREFIX, REGION, UPLOAD_PREFIX, s3_client

_FUNCTION = f"arn:aws:lambda:{REGION}:111122223333:function:VideoMediaConverter"


async def deploy_bucket(s3_url: str, *, origins: Sequence[str]) -> None:
    """
    Make it and set it up; on a kept folder it is there already.

    Args:
        s3_url: Endpoint.
        origins: Of the pages that upload and play.
    """
    session = aiobotocore.session.get_session()
    async with session.create_client("s3", **s3_client(s3_url)) as s3:
        with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            await s3.create_bucket(
                Bucket=BUCKET,
                CreateBucketConfiguration={"LocationConstraint": REGION},
            )
        await s3.put_bucket_cors(Bucket=BUCKET, CORSConfiguration=_cors(origins))
        await s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(_policy()))
        await s3.put_bucket_notification_configuration(
            Bucket=BUCKET, NotificationConfiguration=_notifications()
        )


def _cors(origins: Sequence[str]) -> dict[str, Any]:
    rule = {
        "AllowedOrigins": list(origins),
        "AllowedMethods": ["GET", "HEAD", "PUT", "POST"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 3000,
    }
    return {"CORSRules": [rule]}


def _policy() -> dict[str, Any]:
    statement = {
        "Sid": "ReadRenditions",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{BUCKET}/{OUTPUT_PREFIX}*",
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def _notifications() -> dict[str, Any]:
    rule = {"Name": "prefix", "Value": UPLOAD_PREFIX}
    configuration = {
        "LambdaFunctionArn": _FUNCTION,
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [rule]}},
    }
    return {"LambdaFunctionConfigurations": [configuration]}
