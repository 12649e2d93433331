import json

import pytest

from gateway import errors
from gateway.errors import (
    GatewayError,
    InvalidError,
    NotFoundError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    WebhookReusedError,
)
from gateway.protocol import problem


def test_a_problem_is_the_document_of_the_rfc():
    document = json.loads(problem.of(InvalidError("size", "is not a number"), 422))

    assert {
        "type": "urn:reelready:problem:invalid",
        "title": "The request is not acceptable",
        "status": 422,
        "detail": "size: is not a number",
        "field": "size",
    } == document


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnauthorizedError("an API key is required"), "unauthorized"),
        (NotFoundError(), "not_found"),
        (TooLargeError(262_144), "too_large"),
        (UnavailableError("the database is away"), "unavailable"),
        (WebhookReusedError(), "webhook_reused"),
    ],
)
def test_every_error_has_a_type_of_its_own_and_a_title(error, code):
    document = json.loads(problem.of(error, 400))

    assert f"urn:reelready:problem:{code}" == document["type"]
    assert "The request failed" != document["title"]
    assert ("field" in document) == isinstance(error, InvalidError)


def test_no_two_errors_share_a_code():
    ours = [
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, GatewayError)
    ]

    assert len(ours) == len({one.code for one in ours})


def test_what_caused_an_error_is_nobodys_business():
    error = UnavailableError("the database is away")
    error.__cause__ = OSError("connect to db.internal:5432 as app:hunter2 failed")
    error.add_note("select * from files")

    written = problem.of(error, 503).decode()

    for internal in ("db.internal", "hunter2", "select", "Traceback", "OSError", ".py"):
        assert internal not in written


def test_not_yours_and_not_there_are_the_same_bytes():
    assert problem.of(NotFoundError(), 404) == problem.of(NotFoundError(), 404)
    assert b"field" not in problem.of(NotFoundError(), 404)


def test_words_of_the_request_cannot_break_out_of_the_document():
    hostile = 'a", "status": 200, "x": "\n\0</script>휴가'

    document = json.loads(problem.of(InvalidError(hostile, hostile), 422))

    assert (422, hostile) == (document["status"], document["field"])


def test_an_unknown_code_is_a_problem_all_the_same():
    assert (
        "The request failed"
        == json.loads(problem.encode("bad_request", 400, "x"))["title"]
    )
