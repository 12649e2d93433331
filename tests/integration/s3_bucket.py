"""
A bucket of the S3 stand-in as the local cloud sets it up, and who uploads to it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiobotocore.session import get_session
from botocore.config import Config

from tests import s3_server
from tests.s3_server import REGION, Server

ORIGIN = "https://app.example.com"
KEY = "video/origin/1.mp4"
SESSION = get_session()


def set_up(server: Server) -> None:
    client = server.client()
    client.create_bucket(
        Bucket="media", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    client.put_bucket_cors(
        Bucket="media",
        CORSConfiguration={
            "CORSRules": [
                {
                    "AllowedOrigins": [ORIGIN],
                    "AllowedMethods": ["PUT", "POST"],
                    "AllowedHeaders": [
                        "content-type",
                        "x-amz-tagging",
                        "if-none-match",
                    ],
                    "ExposeHeaders": ["ETag"],
                    "MaxAgeSeconds": 3000,
                },
                {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]},
            ]
        },
    )
    client.put_bucket_notification_configuration(
        Bucket="media",
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [
                {
                    "Id": "origin-uploads",
                    "LambdaFunctionArn": "arn:aws:lambda:x:1:function:f",
                    "Events": ["s3:ObjectCreated:*"],
                    "Filter": {
                        "Key": {
                            "FilterRules": [
                                {"Name": "prefix", "Value": "video/origin/"}
                            ]
                        }
                    },
                }
            ]
        },
    )


@contextmanager
def served_bucket(folder: Path) -> Iterator[Server]:
    """A stand-in set up as the local cloud sets it up."""
    with s3_server.serve(folder) as running:
        set_up(running)
        yield running


@asynccontextmanager
async def signing(server: Server) -> AsyncIterator[Any]:
    """The aiobotocore client of the gateway."""
    async with SESSION.create_client(
        "s3",
        endpoint_url=server.url,
        region_name=REGION,
        aws_access_key_id=s3_server.ACCESS_KEY,
        aws_secret_access_key=s3_server.SECRET_KEY,
        config=Config(signature_version="s3v4"),
    ) as client:
        yield client


@asynccontextmanager
async def browsing() -> AsyncIterator[aiohttp.ClientSession]:
    """Something that sends what it is told to, with an Origin."""
    async with aiohttp.ClientSession(headers={"Origin": ORIGIN}) as session:
        yield session


async def nothing_was_stored(server: Server, signer: Any) -> bool:
    """Whether there is no object, no temporary file and no event."""
    listed = await signer.list_objects_v2(Bucket="media")
    files = [name for name in server.files() if not name.endswith("bucket.json")]
    await signer.put_object(Bucket="media", Key="video/origin/later", Body=b"x")
    events = await asyncio.to_thread(server.events.names_and_keys, 1)
    expected = [("ObjectCreated:Put", "video/origin/later")]
    return (0, [], expected) == (listed["KeyCount"], files, events)
