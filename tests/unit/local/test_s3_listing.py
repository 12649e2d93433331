"""Pages of keys: every key once, in order, whatever the page size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.s3 import listing
from local.s3.errors import S3Error

KEYS = st.sets(st.text("ab/\u1100\uac00\U0001f600", min_size=1, max_size=6))


def all_pages(keys: set[str], **asked: object) -> list[listing.Page]:
    pages = [listing.page(keys, **asked)]  # type: ignore[arg-type]
    for _ in keys:
        token = pages[-1].next_token
        if token is None:
            break
        after = listing.after_token(token)
        pages.append(listing.page(keys, **asked | {"after": after}))  # type: ignore[arg-type]
    return pages


@given(KEYS, st.integers(1, 4))
def test_pages_together_are_the_keys_in_utf8_order(keys, max_keys):
    pages = all_pages(keys, max_keys=max_keys)

    assert sorted(keys, key=str.encode) == [key for one in pages for key in one.keys]
    assert all(len(one) <= max_keys for one in pages)


@given(KEYS, st.integers(1, 4))
def test_a_common_prefix_comes_once_over_all_pages(keys, max_keys):
    pages = all_pages(keys, max_keys=max_keys, delimiter="/")
    prefixes = [prefix for one in pages for prefix in one.prefixes]

    assert sorted({key[: key.index("/") + 1] for key in keys if "/" in key}) == prefixes
    listed = [key for one in pages for key in one.keys]
    assert sorted(key for key in keys if "/" not in key) == listed


def test_the_prefix_is_not_searched_for_the_delimiter():
    page = listing.page({"a/b/c", "a/d"}, prefix="a/", delimiter="/")

    assert (["a/d"], ["a/b/"]) == (page.keys, page.prefixes)


def test_no_keys_asked_for_is_a_last_page():
    page = listing.page({"a"}, max_keys=0)

    assert (0, None) == (len(page), page.next_token)


@pytest.mark.parametrize("token", ["!", "a", "_w=="])
def test_a_token_that_was_not_given_out_is_refused(token):
    with pytest.raises(S3Error, match="InvalidArgument"):
        listing.after_token(token)
