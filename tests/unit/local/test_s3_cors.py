"""CORS rules, as a browser meets them."""

import pytest

from local.s3 import cors
from local.s3.errors import S3Error

APP = "https://app.example.com"


def rules(*inner: str) -> tuple[cors.Rule, ...]:
    body = "".join(f"<CORSRule>{one}</CORSRule>" for one in inner)
    return cors.from_document(f"<CORSConfiguration>{body}</CORSConfiguration>".encode())


UPLOAD = (
    f"<AllowedOrigin>{APP}</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>"
    "<AllowedHeader>Content-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>"
)
PLAY = "<AllowedOrigin>https://*.example.com</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"


def test_the_first_rule_that_fits_answers():
    answer = cors.preflight(rules(UPLOAD, PLAY), APP, "GET", None)

    assert APP == answer["Access-Control-Allow-Origin"]
    assert "Access-Control-Expose-Headers" not in answer


def test_headers_are_compared_without_case_and_with_wildcards():
    answer = cors.preflight(rules(UPLOAD), APP, "PUT", "CONTENT-TYPE, content-md5")

    assert "content-type, content-md5" == answer["Access-Control-Allow-Headers"]


@pytest.mark.parametrize(
    ("origin", "method", "headers", "code"),
    [
        (None, "PUT", None, "BadRequest"),
        (APP, None, None, "BadRequest"),
        (APP, "PATCH", None, "BadRequest"),
        (APP, "DELETE", None, "AccessForbidden"),
        (APP, "PUT", "range", "AccessForbidden"),
        (APP.replace("https", "http"), "PUT", None, "AccessForbidden"),
        ("https://example.com", "GET", None, "AccessForbidden"),
        ("null", "PUT", None, "AccessForbidden"),
    ],
)
def test_what_no_rule_names_is_refused(origin, method, headers, code):
    with pytest.raises(S3Error, match=code):
        cors.preflight(rules(UPLOAD, PLAY), origin, method, headers)


def test_a_bucket_without_rules_says_nothing():
    assert {} == cors.actual((), APP, "GET")
    with pytest.raises(S3Error, match="AccessForbidden"):
        cors.preflight((), APP, "PUT", None)


def test_an_answer_that_depends_on_the_origin_says_so_to_caches():
    for origin in (APP, "https://evil.example.org", None):
        assert "Origin" in cors.actual(rules(UPLOAD), origin, "PUT")["Vary"]


def test_rules_survive_writing_and_reading():
    before = rules(UPLOAD, PLAY)

    assert before == cors.from_document(cors.to_document(before))


@pytest.mark.parametrize(
    ("inner", "code"),
    [
        ("", "MalformedXML"),
        ("<AllowedOrigin>*</AllowedOrigin>", "MalformedXML"),
        (UPLOAD + "<MaxAgeSeconds>x</MaxAgeSeconds>", "MalformedXML"),
        (UPLOAD.replace("PUT", "PATCH"), "InvalidRequest"),
        (UPLOAD.replace(APP, "https://*.*.com"), "InvalidRequest"),
    ],
)
def test_rules_that_mean_nothing_are_refused(inner, code):
    with pytest.raises(S3Error, match=code):
        rules(inner)
