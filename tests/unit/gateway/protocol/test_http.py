"""Heads in and out, and where a body ends."""

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidError
from gateway.protocol import http
from gateway.protocol.http import BadRequestError, ChunkedBody, Request, parse_head

ONE_HEAD = "^this is not the head of one HTTP/1 request$"
ONE_HOST = "^exactly one Host is required$"
HEAD = b"GET /v1/files/x?wait=1 HTTP/1.1\r\nHost: h\r\n"


def head_with(*lines):
    return parse_head(HEAD + b"".join(b"%b\r\n" % line for line in lines) + b"\r\n")


def test_a_head_is_taken_apart():
    request = head_with(b"X-A: b", b"x-a:c \t", b"Cookie: a=b", b"Cookie: c=d")

    assert ("GET", "/v1/files/x") == (request.method, request.path)
    assert "b,c" == request.headers["x-a"]
    assert ("b", "d") == (request.cookie("a"), request.cookie("c"))
    assert "1" == request.argument("wait")
    assert request.argument("after") is None
    assert request.keep_alive


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a%20b", "/a b"),
        ("/%61", "/a"),
        ("/a%2Fb%2fc", "/a%2Fb%2Fc"),
        ("/a%252fb", "/a%2fb"),
        ("/%ff", "/\N{REPLACEMENT CHARACTER}"),
        ("/%zz%", "/%zz%"),
        ("http://h/a?b", "/a"),
        ("HTTPS://h:1/a", "/a"),
        ("http://h?b", ""),
        ("*", "*"),
        ("//a", "//a"),
        ("/http://h/a", "/http://h/a"),
        ("http://h/http://i/a", "/http://i/a"),
    ],
)
def test_paths_are_decoded_but_for_slashes(target, path):
    raw = f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode()

    assert path == parse_head(raw).path


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Foo , CLOSE", False),
        ("1.1", "keep-alive,close", False),
        ("1.1", "closed", True),
        ("1.1", "Upgrade", True),
        ("1.0", None, False),
        ("1.0", "keep-alive", False),
    ],
)
@pytest.mark.parametrize("length", [None, 0, 5])
def test_who_may_go_on(version, connection, keeps, length):
    lines = [f"GET / HTTP/{version}", "Host: h", "Upgrade: h2c"]
    lines += [] if connection is None else [f"Connection: {connection}"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    raw = "\r\n".join([*lines, "", ""]).encode()

    assert keeps == parse_head(raw).keep_alive


@pytest.mark.parametrize(("version", "kept"), [("1.0", None), ("1.1", "100-continue")])
def test_an_old_client_expects_nothing(version, kept):
    raw = f"POST / HTTP/{version}\r\nHost: h\r\nExpect: 100-continue\r\n\r\n"

    assert kept == parse_head(raw.encode()).headers.get("expect")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\r\n\r\n", ONE_HEAD),
        (b"GET / HTTP/1.1\r\n\r\n", ONE_HOST),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", ONE_HOST),
        (b"GET /\r\n\r\n", ".* HTTP"),
        (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", ONE_HEAD),
        (b"PRI * HTTP/2.0\r\n\r\n", ".*"),
        (b"GET / HTTP/1.1\nHost: h\n\n\r\n\r\n", ".*"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", ONE_HEAD),
        (2 * b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", ONE_HEAD),
        (b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", ".*"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: \0\r\n\r\n", "Invalid header value"),
    ],
)
def test_what_is_not_the_head_of_one_request_is_refused(raw, why):
    with pytest.raises(BadRequestError, match=why):
        parse_head(raw)


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_a_head_or_refused(raw):
    for head in (raw + b"\r\n\r\n", HEAD + raw + b"\r\n\r\n"):
        try:
            request = parse_head(head)
        except BadRequestError:
            continue
        request.arguments("a")
        request.cookie("a")
        assert request.method
        assert "host" in request.headers or not request.keep_alive


@given(cookie=st.text(), query=st.text())
def test_any_cookie_and_query_can_be_asked(cookie, query):
    request = Request("GET", f"/?{query}", {"cookie": cookie})

    request.cookie("reelready")
    request.arguments("file")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("a=b", "b"),
        ('a="b"', "b"),
        ("x=1; a=b; y=2", "b"),
        ("x=1;a=b;a=c", "b"),
        (" a = b ", "b"),
        ("a=b=c==", "b=c=="),
        ('a="', '"'),
        ('a="b', '"b'),
        ("a=", ""),
        ("aa=b; xa=c; A=d", None),
        ("a", None),
        ("a;a=b", "b"),
        ("[]=x; a=b", "b"),
        ("", None),
    ],
)
def test_a_cookie_is_what_stands_behind_its_name(header, value):
    assert value == Request("GET", "/", {"cookie": header}).cookie("a")


def test_no_cookie_is_none():
    assert Request("GET", "/", {}).cookie("a") is None
    assert Request("GET", "/", {"cookie": "b=c"}).cookie("a") is None


def test_a_query_has_a_bound():
    full = Request("GET", "/?" + "&".join(["a=1"] * http.MAX_QUERY_FIELDS), {})
    over = Request("GET", "/?" + "&".join(["a=1"] * (http.MAX_QUERY_FIELDS + 1)), {})

    assert http.MAX_QUERY_FIELDS == len(full.arguments("a"))
    with pytest.raises(InvalidError, match=r"^query: has over 200 fields$"):
        over.arguments("a")


def test_an_argument_may_be_empty_or_absent():
    request = Request("GET", "/?a=&b=1&a=2&c", {})

    assert (["", "2"], ["1"], [""], []) == tuple(map(request.arguments, "abcd"))
    assert ("", None) == (request.argument("a"), request.argument("d"))


def test_a_request_is_bare_until_more_is_said_of_it():
    request = Request("GET", "/", {})

    assert (b"", "") == (request.body, request.remote)
    assert request.keep_alive is True
    assert request.in_reserve is False


def test_lengths_are_plain_numbers():
    assert 0 == http.content_length({})
    assert 12 == http.content_length({"content-length": "12"})
    for wrong in ("", "-1", "+1", "1_0", "\N{SUPERSCRIPT TWO}", "9" * 19, "1,1", "0x1"):
        with pytest.raises(BadRequestError, match=r"^Content-Length is not a number$"):
            http.content_length({"content-length": wrong})


def test_chunked_is_the_only_coding():
    assert not http.is_chunked({})
    assert http.is_chunked({"transfer-encoding": "Chunked"})
    for wrong in ("", "gzip, chunked", "identity", "chunked,chunked"):
        with pytest.raises(
            BadRequestError, match=r"^the only Transfer-Encoding taken is chunked$"
        ):
            http.is_chunked({"transfer-encoding": wrong})


CHUNKED = b'5\r\nhello\r\n6;a="b"\r\n world\r\n0\r\nT: railer\r\n\r\n'


@pytest.mark.parametrize("at", range(len(CHUNKED) + 1))
def test_chunks_may_be_split_anywhere(at):
    body = ChunkedBody()
    body.feed(CHUNKED[:at])
    body.feed(CHUNKED[at:])

    assert (b"hello world", True) == (bytes(body.received), body.complete)


@given(behind=st.binary(), at=st.integers(0, 100))
def test_whatever_is_behind_the_last_chunk_changes_nothing(behind, at):
    whole = CHUNKED + behind
    body = ChunkedBody()
    body.feed(whole[:at])
    body.feed(whole[at:])
    body.feed(behind)

    assert (b"hello world", True) == (bytes(body.received), body.complete)


@given(raw=st.binary(max_size=60))
def test_any_bytes_are_chunks_or_refused(raw):
    body = ChunkedBody()
    try:
        body.feed(raw)
    except BadRequestError:
        assert not body.complete


def test_what_is_wrong_with_chunks_is_said():
    with pytest.raises(BadRequestError, match="Invalid character in chunk size"):
        ChunkedBody().feed(b"x\r\n")


def test_a_date_is_that_of_its_second(monkeypatch):
    def date_at(now_s: float) -> bytes:
        monkeypatch.setattr(http, "time", SimpleNamespace(time=lambda: now_s))
        return http.encode_head(200, "").split(b"\r\n")[1]

    assert b"Date: Sun, 06 Nov 1994 08:49:37 GMT" == date_at(784_111_777.9)
    assert b"Date: Sun, 06 Nov 1994 08:49:38 GMT" == date_at(784_111_778.0)
    assert b"Date: Sun, 06 Nov 1994 08:49:37 GMT" == date_at(784_111_777.0)


def test_a_response_head_has_a_date_and_its_reason():
    head = http.encode_head(404, http.field_lines([("A", "b"), ("C", "\xe9")]))

    assert re.fullmatch(
        rb"HTTP/1\.1 404 Not Found\r\nDate: .{25} GMT\r\nA: b\r\nC: \xe9\r\n\r\n", head
    )
    assert http.encode_head(599, "").startswith(b"HTTP/1.1 599 \r\n")
