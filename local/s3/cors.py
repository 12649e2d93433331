"""
A bucket's CORS rules: read, written, and really applied.

The first rule that fits decides.  Nothing is said about origins that no rule
names, so a browser blocks exactly what it would block on AWS.

Source: Amazon S3 User Guide, "Elements of a CORS configuration".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from local.s3 import xmldoc
from local.s3.errors import S3Error

MAX_RULES = 100
VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"

_METHODS = frozenset({"GET", "PUT", "POST", "DELETE", "HEAD"})
_ELEMENTS = (
    "ID",
    "AllowedOrigin",
    "AllowedMethod",
    "AllowedHeader",
    "ExposeHeader",
    "MaxAgeSeconds",
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may send what; origins and headers may hold one ``*`` each."""

    rule_id: str | None
    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    exposed: tuple[str, ...]
    max_age_s: int | None

    def fits(self, origin: str, method: str, headers: Sequence[str]) -> bool:
        return (
            method in self.methods
            and any(_like(pattern, origin) for pattern in self.origins)
            and all(self._allows_header(header) for header in headers)
        )

    def answer(self, origin: str) -> dict[str, str]:
        """Return the response headers that let the origin read the response."""
        public = "*" in self.origins
        headers = {
            "Access-Control-Allow-Origin": "*" if public else origin,
            "Access-Control-Allow-Methods": ", ".join(self.methods),
            "Vary": VARY,
        }
        if not public:
            headers["Access-Control-Allow-Credentials"] = "true"
        if self.exposed:
            headers["Access-Control-Expose-Headers"] = ", ".join(self.exposed)
        if self.max_age_s is not None:
            headers["Access-Control-Max-Age"] = str(self.max_age_s)
        return headers

    def _allows_header(self, header: str) -> bool:
        return any(_like(allowed.lower(), header) for allowed in self.headers)


def from_document(body: bytes) -> tuple[Rule, ...]:
    """
    Read a ``CORSConfiguration``.

    Raises:
        S3Error: MalformedXML, or InvalidRequest for a method or pattern that
            CORS rules cannot hold.
    """
    root = xmldoc.only(xmldoc.parse(body, "CORSConfiguration"), "CORSRule")
    if not 1 <= len(root) <= MAX_RULES:
        raise S3Error("MalformedXML")
    return tuple(_rule(element) for element in root)


def to_document(rules: Sequence[Rule]) -> bytes:
    """Write a ``CORSConfiguration``."""
    return xmldoc.document(
        "CORSConfiguration",
        *(
            xmldoc.node(
                "CORSRule",
                xmldoc.optional("ID", rule.rule_id),
                xmldoc.leaves("AllowedOrigin", rule.origins),
                xmldoc.leaves("AllowedMethod", rule.methods),
                xmldoc.leaves("AllowedHeader", rule.headers),
                xmldoc.leaves("ExposeHeader", rule.exposed),
                xmldoc.optional("MaxAgeSeconds", rule.max_age_s),
            )
            for rule in rules
        ),
    )


def preflight(
    rules: Sequence[Rule], origin: str | None, method: str | None, headers: str | None
) -> dict[str, str]:
    """
    Answer an OPTIONS request.

    Args:
        method: ``Access-Control-Request-Method``.
        headers: ``Access-Control-Request-Headers``.

    Raises:
        S3Error: BadRequest for no preflight at all, AccessForbidden when no
            rule fits.
    """
    if not origin or not method:
        raise S3Error(
            "BadRequest",
            "Insufficient information. Origin and Access-Control-Request-Method "
            "request headers needed.",
        )
    if method not in _METHODS:
        raise S3Error("BadRequest", f"Invalid Access-Control-Request-Method: {method}")
    if not rules:
        raise S3Error(
            "AccessForbidden", "CORSResponse: CORS is not enabled for this bucket."
        )
    asked = [name.strip().lower() for name in (headers or "").split(",")]
    asked = [name for name in asked if name]
    for rule in rules:
        if rule.fits(origin, method, asked):
            allowed = (
                {"Access-Control-Allow-Headers": ", ".join(asked)} if asked else {}
            )
            return rule.answer(origin) | allowed
    raise S3Error(
        "AccessForbidden",
        "CORSResponse: This CORS request is not allowed. This is usually because the "
        "evalution of Origin, request method / Access-Control-Request-Method or "
        "Access-Control-Request-Headers are not whitelisted by the resource's CORS "
        "spec.",
    )


def actual(rules: Sequence[Rule], origin: str | None, method: str) -> dict[str, str]:
    """Return the headers for the response to a request that is no preflight."""
    if not rules:
        return {}
    if origin:
        for rule in rules:
            if rule.fits(origin, method, ()):
                return rule.answer(origin)
    return {"Vary": VARY}


def _rule(element: ET.Element) -> Rule:
    xmldoc.only(element, *_ELEMENTS)
    if element.tag != "CORSRule":
        raise S3Error("MalformedXML")
    max_age = next(iter(xmldoc.texts_of(element, "MaxAgeSeconds")), None)
    if max_age is not None and not re.fullmatch(r"\d{1,9}", max_age, re.ASCII):
        raise S3Error("MalformedXML")
    rule = Rule(
        rule_id=next(iter(xmldoc.texts_of(element, "ID")), None),
        origins=xmldoc.texts_of(element, "AllowedOrigin"),
        methods=xmldoc.texts_of(element, "AllowedMethod"),
        headers=xmldoc.texts_of(element, "AllowedHeader"),
        exposed=xmldoc.texts_of(element, "ExposeHeader"),
        max_age_s=None if max_age is None else int(max_age),
    )
    _check(rule)
    return rule


def _check(rule: Rule) -> None:
    if not rule.origins or not rule.methods:
        raise S3Error("MalformedXML")
    for method in rule.methods:
        if method not in _METHODS:
            raise S3Error(
                "InvalidRequest",
                f"Found unsupported HTTP method in CORS config. Unsupported method is "
                f"{method}",
            )
    for pattern in rule.origins + rule.headers:
        if pattern.count("*") > 1:
            raise S3Error(
                "InvalidRequest", f'"{pattern}" can not have more than one wildcard.'
            )


def _like(pattern: str, text: str) -> bool:
    head, star, tail = pattern.partition("*")
    if not star:
        return pattern == text
    return (
        len(text) >= len(head) + len(tail)
        and text.startswith(head)
        and text.endswith(tail)
    )
