"""
ListObjectsV2 over the keys of a bucket: pure.

Keys are in UTF-8 order, which for Python strings is their own.

Source: Amazon S3 API Reference, "ListObjectsV2".
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from local.s3.errors import S3Error

MAX_KEYS = 1000


@dataclass(slots=True)
class Page:
    """
    One answer.

    Attributes:
        next_token: Where the next page begins; None on the last page.
    """

    keys: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    next_token: str | None = None

    def __len__(self) -> int:
        return len(self.keys) + len(self.prefixes)


def page(
    keys: Iterable[str],
    *,
    prefix: str = "",
    delimiter: str = "",
    after: str = "",
    max_keys: int = MAX_KEYS,
) -> Page:
    """
    Return keys, and what they share up to the delimiter, after a position.

    Args:
        after: A key, or a common prefix: then none of its keys follow.
        max_keys: 0 returns an empty page that is the last one.
    """
    result = Page()
    last = ""
    for name, is_prefix in _entries(keys, prefix, delimiter, after):
        if len(result) == max_keys:
            result.next_token = _token(last) if max_keys else None
            break
        (result.prefixes if is_prefix else result.keys).append(name)
        last = name
    return result


def after_token(token: str) -> str:
    """
    Return the position a token stands for.

    Raises:
        S3Error: InvalidArgument, for one that was not given out.
    """
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error) as error:
        raise S3Error(
            "InvalidArgument", "The continuation token provided is incorrect"
        ) from error


def _token(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode()


def _entries(
    keys: Iterable[str], prefix: str, delimiter: str, after: str
) -> Iterator[tuple[str, bool]]:
    seen = None
    for key in sorted(key for key in keys if key.startswith(prefix) and key > after):
        rest = key.removeprefix(prefix)
        if not delimiter or delimiter not in rest:
            yield key, False
            continue
        common = prefix + rest.partition(delimiter)[0] + delimiter
        if common not in {seen, after}:
            seen = common
            yield common, True
