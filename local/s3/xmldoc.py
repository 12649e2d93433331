"""
S3's XML, out and in: text in, bytes out, no I/O.

Text is always escaped here, so a key may hold any character; what arrives is
refused when it carries a DOCTYPE, because nothing S3 defines has one and
entities are how small documents become large ones.
"""

import re
from collections.abc import Iterable
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from local.s3.errors import S3Error

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
CONTENT_TYPE = "application/xml"

_HEADER = '<?xml version="1.0" encoding="UTF-8"?>\n'
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0d\x0e-\x1f\ufffe\uffff]")


def leaf(tag: str, value: object) -> str:
    """Render one element with text; booleans as S3 writes them."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    shown = _CONTROL.sub(lambda found: f"&#x{ord(found[0]):X};", escape(text))
    return f"<{tag}>{shown}</{tag}>"


def leaves(tag: str, values: Iterable[object]) -> str:
    """Render one element per value."""
    return "".join(leaf(tag, value) for value in values)


def optional(tag: str, value: object | None) -> str:
    """Render the element, or nothing for None."""
    return "" if value is None else leaf(tag, value)


def node(tag: str, *content: str) -> str:
    """Render one element around content that is already XML."""
    return f"<{tag}>{''.join(content)}</{tag}>"


def document(tag: str, *content: str, namespace: str | None = NAMESPACE) -> bytes:
    """Render a whole document; `content` is already XML."""
    declared = f' xmlns="{namespace}"' if namespace else ""
    return f"{_HEADER}<{tag}{declared}>{''.join(content)}</{tag}>".encode()


def parse(body: bytes, root: str) -> ET.Element:
    """
    Read a document and drop its namespaces.

    Raises:
        S3Error: MalformedXML, when it is not XML, has a DOCTYPE, or its root is
            not `root`.
    """
    try:
        text = body.decode()
        if "<!DOCTYPE" in text:
            raise S3Error("MalformedXML")
        tree = ET.fromstring(text)  # noqa: S314  no DOCTYPE, so no entities
    except (UnicodeDecodeError, ValueError, ET.ParseError) as error:
        raise S3Error("MalformedXML") from error

    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]

    if tree.tag != root:
        raise S3Error("MalformedXML")
    return tree


def only(element: ET.Element, *allowed: str) -> ET.Element:
    """
    Return the element after checking that it has no other children.

    Raises:
        S3Error: MalformedXML.
    """
    if any(child.tag not in allowed for child in element):
        raise S3Error("MalformedXML")
    return element


def text_of(element: ET.Element, tag: str) -> str:
    """
    Return the text of a child that has to be there, once.

    Raises:
        S3Error: MalformedXML.
    """
    found = element.findall(tag)
    if len(found) != 1:
        raise S3Error("MalformedXML")
    return found[0].text or ""


def texts_of(element: ET.Element, tag: str) -> tuple[str, ...]:
    """Return the texts of all children of that name."""
    return tuple(child.text or "" for child in element.findall(tag))
