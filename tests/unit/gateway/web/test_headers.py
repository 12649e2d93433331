"""Who is granted what across origins (Fetch standard, "CORS protocol")."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.headers import CommonHeaders

ORIGIN = "https://app.example.com"
LISTED = (ORIGIN, "http://localhost:3000", "https://app.example.com:8443")
CORS = "Access-Control-"

STRANGERS = [
    None,
    "",
    "null",
    "*",
    "https://app.example.com.evil.example",
    "https://evil-app.example.com",
    "https://evilapp.example.com",
    "https://a.app.example.com",
    "https://example.com",
    "https://app.example.co",
    "https://app.example.comm",
    "https://app.example.com.",
    "http://app.example.com",
    "https://app.example.com:443",
    "https://app.example.com:80",
    "https://app.example.com:84433",
    "https://app.example.com:8443/",
    "https://app.example.com/",
    "https://app.example.com/a",
    "https://app.example.com?a",
    "https://app.example.com#a",
    "https://user@app.example.com",
    "https://evil.example@app.example.com",
    "https://app.example.com@evil.example",
    "https://APP.example.com",
    "HTTPS://app.example.com",
    "https://app.example.com https://evil.example",
    "https://evil.example https://app.example.com",
    "https://app.example.com, https://evil.example",
    "https://app.example.com\x00",
    " https://app.example.com",
    "https://app.example.com ",
    "https://app\u3002example.com",
    "https://\u0430pp.example.com",
    "app.example.com",
    "//app.example.com",
    "file://",
    "http://localhost",
    "http://localhost:30000",
    "http://127.0.0.1:3000",
    "chrome-extension://app.example.com",
]


def granted(origin: str | None) -> dict[str, str]:
    headers = CommonHeaders(LISTED)
    given_out = headers.for_origin(origin)
    lines = "".join(f"{name}: {value}\r\n" for name, value in given_out.items())
    assert lines == headers.lines_for_origin(origin)
    return {
        name: value for name, value in given_out.items() if name.startswith(CORS)
    } | headers.preflight(origin)


@pytest.mark.parametrize("origin", LISTED)
def test_a_listed_origin_may_read_with_credentials(origin):
    found = granted(origin)

    assert origin == found["Access-Control-Allow-Origin"]
    assert "true" == found["Access-Control-Allow-Credentials"]
    assert "Last-Event-ID" in found["Access-Control-Allow-Headers"]
    assert "ETag" in found["Access-Control-Expose-Headers"]
    assert "Origin" == CommonHeaders(LISTED).for_origin(origin)["Vary"]


@pytest.mark.parametrize("origin", STRANGERS)
def test_nobody_else_is_granted_anything(origin):
    assert {} == granted(origin)
    assert "Origin" == CommonHeaders(LISTED).for_origin(origin)["Vary"]


@given(
    st.text()
    | st.sampled_from(LISTED).flatmap(
        lambda one: st.builds(str.__add__, st.just(one), st.text(min_size=1))
    )
)
def test_nothing_is_reflected_that_is_not_listed(origin):
    assert (origin in LISTED) == bool(granted(origin))


@pytest.mark.parametrize("origin", [None, "null", ORIGIN])
def test_without_a_list_nobody_is(origin):
    headers = CommonHeaders(())

    assert {} == headers.preflight(origin)
    assert not [one for one in headers.for_origin(origin) if one.startswith(CORS)]


def test_every_answer_says_what_browsers_must_not_do():
    plain = CommonHeaders(()).for_origin(None)

    assert "nosniff" == plain["X-Content-Type-Options"]
    assert "no-referrer" == plain["Referrer-Policy"]
