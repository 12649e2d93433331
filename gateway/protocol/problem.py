"""
Problem documents: how every refusal looks (RFC 9457).

``type`` is stable; nothing internal gets in, because only errors raised on
purpose are ever written out.
"""

import msgspec

from gateway.errors import GatewayError, InvalidError

CONTENT_TYPE = "application/problem+json"

_TITLES = {
    "internal": "Something went wrong",
    "invalid": "The request is not acceptable",
    "method_not_allowed": "This method is not served here",
    "not_found": "Not found",
    "too_large": "The body is too large",
    "unauthorized": "No acceptable credential",
    "unavailable": "Not possible right now",
    "webhook_reused": "The webhook-id was used before",
}


def encode(code: str, status: int, detail: str, field: str | None = None) -> bytes:
    """
    Write a problem document.

    Args:
        code: Stable word; becomes ``urn:reelready:problem:<code>``.
        detail: One sentence for a person.
        field: The part of the request at fault, if one is.
    """
    document: dict[str, object] = {
        "type": f"urn:reelready:problem:{code}",
        "title": _TITLES.get(code, "The request failed"),
        "status": status,
        "detail": detail,
    }
    if field is not None:
        document["field"] = field
    return msgspec.json.encode(document)


def of(error: GatewayError, status: int) -> bytes:
    """Write the problem document of an error."""
    field = error.field if isinstance(error, InvalidError) else None
    return encode(error.code, status, str(error), field)
