"""
Object tags: the header's syntax, the document's, and the limits of both.

Source: Amazon S3 User Guide, "Categorizing your objects using tags".
"""

from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from local.s3 import xmldoc
from local.s3.errors import S3Error

MAX_TAGS = 10
MAX_KEY_CHARS = 128
MAX_VALUE_CHARS = 256


def from_header(value: str | None) -> dict[str, str]:
    """
    Read ``x-amz-tagging``: a URL-encoded query.

    Raises:
        S3Error: InvalidArgument when it is none, InvalidTag over a limit.
    """
    try:
        pairs = parse_qsl(
            value or "",
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_TAGS + 1,
        )
    except ValueError as error:
        raise S3Error(
            "InvalidArgument", "The header 'x-amz-tagging' is not a query string"
        ) from error
    return _checked(pairs)


def from_document(body: bytes) -> dict[str, str]:
    """
    Read a ``Tagging`` document.

    Raises:
        S3Error: MalformedXML or InvalidTag.
    """
    tagging = xmldoc.only(xmldoc.parse(body, "Tagging"), "TagSet")
    tag_sets = tagging.findall("TagSet")
    if len(tag_sets) != 1:
        raise S3Error("MalformedXML")
    tags = [xmldoc.only(tag, "Key", "Value") for tag in xmldoc.only(tag_sets[0], "Tag")]
    return _checked(
        (xmldoc.text_of(tag, "Key"), xmldoc.text_of(tag, "Value")) for tag in tags
    )


def to_document(tags: Mapping[str, str]) -> bytes:
    """Write a ``Tagging`` document."""
    rows = (
        xmldoc.node("Tag", xmldoc.leaf("Key", key), xmldoc.leaf("Value", value))
        for key, value in tags.items()
    )
    return xmldoc.document("Tagging", xmldoc.node("TagSet", *rows))


def _checked(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    listed = list(pairs)
    tags = dict(listed)
    if len(listed) > MAX_TAGS:
        raise S3Error("BadRequest", f"Object tags cannot be greater than {MAX_TAGS}")
    if len(tags) < len(listed):
        raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key")
    for key, value in listed:
        if not 1 <= len(key) <= MAX_KEY_CHARS:
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid")
        if len(value) > MAX_VALUE_CHARS:
            raise S3Error("InvalidTag", "The TagValue you have provided is invalid")
    return tags
