"""
The stand-in's answers against botocore's own service model.

`undeclared` walks the raw XML along the output shape: an element that the model
does not know, or text where it wants a structure, is a failure.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import botocore.session
import pytest
from botocore import xform_name
from botocore.model import ListShape, Shape, StructureShape

from tests import s3_server

FUNCTION = {
    "Id": "uploads",
    "LambdaFunctionArn": "arn:aws:lambda:ap-northeast-2:1:function:convert",
    "Events": ["s3:ObjectCreated:*"],
    "Filter": {"Key": {"FilterRules": [{"Name": "Prefix", "Value": "in/"}]}},
}
CORS_RULE = {
    "ID": "upload",
    "AllowedOrigins": ["https://app.example.com"],
    "AllowedMethods": ["PUT"],
    "AllowedHeaders": ["content-type"],
    "ExposeHeaders": ["ETag"],
    "MaxAgeSeconds": 60,
}
POLICY = (
    '{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",'
    ' "Resource": "arn:aws:s3:::media/hls/*"}]}'
)

# Operation, arguments, and the members that have to be in the answer.
CALLS: list[tuple[str, dict[str, Any], set[str]]] = [
    ("ListBuckets", {}, {"Buckets", "Owner"}),
    ("GetBucketLocation", {"Bucket": "media"}, {"LocationConstraint"}),
    ("HeadBucket", {"Bucket": "media"}, {"BucketRegion"}),
    (
        "CreateBucket",
        {
            "Bucket": "another",
            "CreateBucketConfiguration": {"LocationConstraint": s3_server.REGION},
        },
        {"Location"},
    ),
    ("GetBucketCors", {"Bucket": "media"}, {"CORSRules"}),
    ("GetBucketPolicy", {"Bucket": "media"}, {"Policy"}),
    (
        "GetBucketNotificationConfiguration",
        {"Bucket": "media"},
        {"LambdaFunctionConfigurations", "EventBridgeConfiguration"},
    ),
    (
        "ListObjectsV2",
        {
            "Bucket": "media",
            "Delimiter": "/",
            "MaxKeys": 2,
            "FetchOwner": True,
            "StartAfter": "0",
        },
        {
            "IsTruncated",
            "Contents",
            "CommonPrefixes",
            "Name",
            "Prefix",
            "Delimiter",
            "MaxKeys",
            "KeyCount",
            "EncodingType",
            "NextContinuationToken",
            "StartAfter",
        },
    ),
    (
        "PutObject",
        {"Bucket": "media", "Key": "new", "Body": b"x"},
        {"ETag", "ChecksumCRC32"},
    ),
    (
        "GetObject",
        {"Bucket": "media", "Key": "object"},
        {"Body", "ETag", "ContentLength", "ContentType", "LastModified", "TagCount"},
    ),
    (
        "HeadObject",
        {"Bucket": "media", "Key": "object"},
        {"ETag", "ContentLength", "ContentType", "LastModified", "Metadata"},
    ),
    ("GetObjectTagging", {"Bucket": "media", "Key": "object"}, {"TagSet"}),
    (
        "CopyObject",
        {"Bucket": "media", "Key": "copy", "CopySource": "media/object"},
        {"CopyObjectResult"},
    ),
    (
        "CreateMultipartUpload",
        {"Bucket": "media", "Key": "parts"},
        {"Bucket", "Key", "UploadId"},
    ),
    (
        "UploadPart",
        {"Bucket": "media", "Key": "parts", "PartNumber": 2, "Body": b"x"},
        {"ETag"},
    ),
    (
        "ListParts",
        {"Bucket": "media", "Key": "parts"},
        {
            "Bucket",
            "Key",
            "UploadId",
            "Parts",
            "PartNumberMarker",
            "NextPartNumberMarker",
            "MaxParts",
            "IsTruncated",
            "Initiator",
            "Owner",
            "StorageClass",
        },
    ),
    (
        "CompleteMultipartUpload",
        {"Bucket": "media", "Key": "parts"},
        {"Location", "Bucket", "Key", "ETag"},
    ),
]


def undeclared(element: ET.Element, shape: Shape, path: str = "") -> Iterator[str]:
    """Yield the paths of what the shape does not have."""
    path = f"{path}/{element.tag.rpartition('}')[2]}"
    if not isinstance(shape, StructureShape):
        if len(element):
            yield f"{path}: structure where the model has {shape.type_name}"
        return
    if (element.text or "").strip():
        yield f"{path}: text where the model has a structure"
    members = dict(_elements(shape))
    for child in element:
        tag = child.tag.rpartition("}")[2]
        if tag not in members:
            yield f"{path}/{tag}: not in the model"
            continue
        member = members[tag]
        if not isinstance(member, ListShape):
            yield from undeclared(child, member, path)
        elif member.serialization.get("flattened"):
            yield from undeclared(child, member.member, path)
        else:
            item = member.member.serialization.get("name", "member")
            for row in child:
                if row.tag.rpartition("}")[2] == item:
                    yield from undeclared(row, member.member, f"{path}/{tag}")
                else:
                    yield f"{path}/{tag}/{row.tag}: not in the model"


def _elements(shape: StructureShape) -> Iterator[tuple[str, Shape]]:
    for name, member in shape.members.items():
        if "location" in member.serialization:
            continue
        flat = isinstance(member, ListShape) and member.serialization.get("flattened")
        own = member.serialization.get("name")
        item = member.member.serialization.get("name") if flat else None
        yield own or item or name, member


def output_of(operation: str) -> StructureShape | None:
    """Return the structure that the body of an answer has to be."""
    model = botocore.session.get_session().get_service_model("s3")
    shape = model.operation_model(operation).output_shape
    payload = shape and shape.serialization.get("payload")
    if payload:
        shape = shape.members[payload]
    return shape if isinstance(shape, StructureShape) else None


@pytest.fixture(scope="module")
def s3(tmp_path_factory: Any) -> Iterator[Any]:
    """A client of a stand-in with something of everything, keeping raw answers."""
    root: Path = tmp_path_factory.mktemp("s3")
    with s3_server.serve(root) as server:
        client = server.client()
        client.create_bucket(
            Bucket="media",
            CreateBucketConfiguration={"LocationConstraint": s3_server.REGION},
        )
        client.put_bucket_cors(
            Bucket="media", CORSConfiguration={"CORSRules": [CORS_RULE]}
        )
        client.put_bucket_policy(Bucket="media", Policy=POLICY)
        client.put_bucket_notification_configuration(
            Bucket="media",
            NotificationConfiguration={
                "LambdaFunctionConfigurations": [FUNCTION],
                "EventBridgeConfiguration": {},
            },
        )
        for key in ("folder/1", "object", "z"):
            client.put_object(Bucket="media", Key=key, Body=b"x", Tagging="a=b")
        yield client


@pytest.fixture
def upload(s3: Any) -> dict[str, Any]:
    """Arguments that name an upload with one part."""
    names = {"Bucket": "media", "Key": "parts"}
    names["UploadId"] = s3.create_multipart_upload(**names)["UploadId"]
    etag = s3.upload_part(**names, PartNumber=1, Body=b"x")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    return names | {"MultipartUpload": parts}


@pytest.mark.parametrize(
    ("operation", "arguments", "members"), CALLS, ids=[call[0] for call in CALLS]
)
def test_an_answer_is_what_the_model_says(s3, upload, operation, arguments, members):
    raw: list[bytes] = []
    model = s3.meta.service_model.operation_model(operation)
    wanted = {"UploadId", "MultipartUpload"} & set(model.input_shape.members)
    if operation != "CreateMultipartUpload":
        arguments = arguments | {name: upload[name] for name in wanted}

    def keep(response_dict: Any, **_: Any) -> None:
        raw.append(response_dict["body"])

    hook = f"before-parse.s3.{operation}"
    s3.meta.events.register(hook, keep)
    try:
        answer = getattr(s3, xform_name(operation))(**arguments)
    finally:
        s3.meta.events.unregister(hook, keep)

    assert members <= set(answer)
    shape = output_of(operation)
    # The model does not describe this root element; botocore has code for it.
    described = shape is not None and operation != "GetBucketLocation"
    if described and raw and raw[0] and raw[0].startswith(b"<?xml"):
        assert [] == list(undeclared(ET.fromstring(raw[0]), shape))


def test_settings_come_back_as_they_were_put(s3):
    """On the stand-in alone: moto answers 500 for a function it does not run."""
    cors = s3.get_bucket_cors(Bucket="media")
    notification = s3.get_bucket_notification_configuration(Bucket="media")

    assert [CORS_RULE] == cors["CORSRules"]
    assert [FUNCTION] == notification["LambdaFunctionConfigurations"]
    assert {} == notification["EventBridgeConfiguration"]
    assert POLICY == s3.get_bucket_policy(Bucket="media")["Policy"]


def test_the_check_finds_what_the_model_does_not_have():
    shape = output_of("ListObjectsV2")
    assert shape is not None
    document = ET.fromstring(
        "<ListBucketResult><Name>b</Name><Owner/>"
        "<Contents><Key>k</Key><Tag>t</Tag></Contents><Prefix><a/></Prefix>"
        "</ListBucketResult>"
    )

    assert [
        "/ListBucketResult/Owner: not in the model",
        "/ListBucketResult/Contents/Tag: not in the model",
        "/ListBucketResult/Prefix: structure where the model has string",
    ] == list(undeclared(document, shape))
