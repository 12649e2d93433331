from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from gateway.errors import InvalidError
from gateway.protocol import body


class Inner(Struct):
    n: int


class Shape(Struct):
    name: str
    inner: Inner | None = None
    many: list[Inner] = []


class Kind(Struct):
    kind: Literal["one"]


def test_a_body_is_read_and_unknown_fields_are_ignored():
    read = body.decode(b'{"name": "\xec\x98\x81", "other": 1}', Shape)

    assert Shape(name="영") == read


@pytest.mark.parametrize(
    "raw",
    [
        *[
            b"",
            b" ",
            b"{",
            b'{"name": "a"}{}',
            b"nul",
            b"{'name': 1}",
            b'{"name": "a",}',
        ],
        *[b"\xff", b'{"name": "\xff"}', b'{"name": "\\ud800"}', b"\xef\xbb\xbf{}"],
        *[b'{"name": NaN}', b"name=a", b"\0", b'{"name": "a\nb"}'],
    ],
)
def test_what_is_not_json_is_said_to_be_so(raw):
    with pytest.raises(InvalidError, match="is not valid JSON") as raised:
        body.decode(raw, Shape)

    assert "body" == raised.value.field


@pytest.mark.parametrize(
    ("raw", "field", "problem"),
    [
        (b"[]", "body", "Expected `object`, got `array`"),
        (b"null", "body", "Expected `object`, got `null`"),
        (b'"text"', "body", "Expected `object`, got `str`"),
        (b"{}", "name", "is required"),
        (b'{"name": 1}', "name", "Expected `str`, got `int`"),
        (
            b'{"name": "a", "inner": {}}',
            "inner",
            "Object missing required field `n`",
        ),
        (
            b'{"name": "a", "inner": {"n": "1"}}',
            "inner.n",
            "Expected `int`, got `str`",
        ),
        (
            b'{"name": "a", "many": [{"n": 1}, {"n": null}]}',
            "many[1].n",
            "Expected `int`, got `null`",
        ),
    ],
)
def test_the_field_at_fault_is_named(raw, field, problem):
    with pytest.raises(InvalidError) as raised:
        body.decode(raw, Shape)

    assert field == raised.value.field
    assert f"{field}: {problem}" == str(raised.value)


@pytest.mark.parametrize("over", [0, 1, 100_000])
def test_a_problem_that_quotes_the_body_is_cut(over):
    value = "a" * (200 - len("Invalid enum value ''") + over)
    quoted = f"Invalid enum value '{value}'"
    with pytest.raises(InvalidError) as raised:
        body.decode(f'{{"kind": "{value}"}}'.encode(), Kind)

    shown = f"{quoted[:200]} ..." if over else quoted
    assert f"kind: {shown}" == str(raised.value)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"name":"a","x":['])
def test_nesting_without_end_is_refused(opening):
    with pytest.raises(InvalidError):
        body.decode(opening * 100_000, dict)


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_a_body_or_refused(raw):
    try:
        body.decode(raw, Shape)
    except InvalidError as error:
        assert error.field  # noqa: PT017 - both ways are right


@pytest.mark.parametrize("text", ["a", "휴가 1", " a ", "a" * 200, "\u202e", "'\"<>&"])
def test_clean_text_is_returned_as_it_is(text):
    assert text == body.clean("name", text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        (" \t", "is empty"),
        ("\u3000", "is empty"),
        ("a" * 201, "is longer than 200 characters"),
        *[(f"a{c}b", "holds control characters") for c in "\0\t\n\r\x1b\x7f\x85\x9b"],
        *[(f"a{c}b", "holds control characters") for c in "\u2028\u2029"],
    ],
)
def test_text_that_would_garble_a_line_is_refused(text, problem):
    with pytest.raises(InvalidError, match=f"^name: {problem}$"):
        body.clean("name", text)


def test_absent_text_is_clean():
    assert body.clean_or_none("name", None) is None
    with pytest.raises(InvalidError):
        body.clean_or_none("name", "")
