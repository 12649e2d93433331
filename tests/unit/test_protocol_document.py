"""What docs/protocol.md says is what the code does."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import auth, errors, model
from gateway.config import Config
from gateway.errors import UnauthorizedError
from gateway.protocol import body, longpoll, manifest, problem, registration, report
from gateway.store import append, history
from gateway.web import answers, waiting
from gateway.web import body as web_body

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")


def section(title: str) -> str:
    """Everything under one heading, up to the next."""
    found = re.search(rf"^#+ {title}\n(.*?)(?=^#|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def rows(text: str) -> dict[str, list[str]]:
    """First cell of each table row, without its quotes, to the other cells."""
    lines = re.findall(r"^\| (.+) \|$", text, re.MULTILINE)
    cells = [line.split(" | ") for line in lines]
    return {
        first.strip("`"): [cell.strip("`") for cell in rest] for first, *rest in cells
    }


def values(text: str) -> dict[str, str]:
    return {name: rest[0] for name, rest in rows(text).items() if rest}


def test_the_worked_signature_is_right():
    said = values(section("Signatures"))
    names: dict[str, Any] = {
        "secret": said["secret"],
        "webhook_id": said["webhook-id"],
        "timestamp": said["webhook-timestamp"],
        "body": said["body"].encode(),
    }
    code = re.search(r"```python\n(.*?)```", section("Signatures"), re.DOTALL)
    assert code

    exec(code[1], names)

    assert said["webhook-signature"] == names["signature"]


@pytest.mark.parametrize("off_s", [-300, 0, 300])
def test_the_gateway_accepts_the_worked_signature_within_its_time(off_s):
    said = values(section("Signatures"))
    (key,) = Config.from_env(settings(said["secret"])).ingest_secrets
    sent_at = int(said["webhook-timestamp"])
    signatures = auth.Signatures((key,), clock=lambda: sent_at + off_s)

    assert said["webhook-id"] == signatures.verify(said, said["body"].encode())
    late = auth.Signatures((key,), clock=lambda: sent_at + 301)
    with pytest.raises(UnauthorizedError, match="5 minutes"):
        late.verify(said, said["body"].encode())


def settings(ingest_secret: str) -> dict[str, str]:
    return {
        "REELREADY_DATABASE_URL": "postgresql://localhost/x",
        "REELREADY_BUCKET": "bucket",
        "REELREADY_PLAYBACK_BASE_URL": "https://play.example.com/",
        "REELREADY_INGEST_SECRETS": ingest_secret,
        "REELREADY_API_KEYS": "k" * 32,
        "REELREADY_TOKEN_SECRETS": "t" * 32,
    }


def test_the_worked_body_is_a_report():
    said = report.decode(values(section("Signatures"))["body"].encode())

    assert (42, model.Phase.TRANSCODING) == (said.percent, said.phase)


def test_the_table_of_problems_is_that_of_the_code():
    told = {
        code: cells[0]
        for code, cells in rows(section("Problems")).items()
        if not code.startswith(("type", "---"))
    }
    sent = {
        **{code: str(status) for status, code in answers._CODES.items()},
        **{kind.code: str(status) for kind, status in answers._STATUS.items()},
        errors.WebhookReusedError.code: "422",
        errors.GatewayError.code: "500",
        "bad_request": "other 4xx",
    }

    assert sent == told
    assert problem._TITLES.keys() == told.keys() - {"bad_request"}


def test_the_example_of_a_problem_is_what_the_code_writes():
    shown = re.search(r"```json\n(.*?)```", section("Problems"), re.DOTALL)
    assert shown
    error = errors.InvalidError("size", "is not from 1 to 5368709120 bytes")

    assert msgspec.json.decode(problem.of(error, 422)) == msgspec.json.decode(shown[1])


def test_the_table_of_limits_is_that_of_the_code():
    told = {
        name: [int(number) for number in re.findall(r"\b\d+\b", limit)]
        for name, limit in values(section("Limits")).items()
    }

    assert [web_body.MAX_BODY_BYTES, web_body.BODY_DEADLINE_S] == told[
        "body of a request"
    ]
    assert [registration.MAX_NAME_CHARS] == told["name"]
    assert [body.MAX_LABEL_CHARS] == told["owner`, `job_id`, `sender`, `error.code"]
    assert [report.MAX_ERROR_CHARS] == told["error.message"]
    assert [
        registration.MAX_METADATA_BYTES,
        registration.MAX_METADATA_DEPTH,
    ] == told["metadata"]
    assert [1, Config.__dataclass_fields__["max_upload_bytes"].default] == told["size"]
    assert [manifest.MAX_RENDITIONS] == told["renditions` of a manifest"]
    assert [manifest.MAX_URL_CHARS] == told["an `s3://` name in a manifest"]
    assert [auth.MAX_WEBHOOK_ID_CHARS] == told["webhook-id"]
    assert [Config.__dataclass_fields__["max_wait_seconds"].default] == told["wait"]
    assert [history.MAX_PAGE_EVENTS, history.MAX_PAGE_BYTES] == told[
        "events of one long-poll answer, or page of history"
    ]
    assert [waiting.MAX_FILES] == told["files on one stream"]


def test_the_outcomes_are_those_of_the_code():
    told = values(section("Reporting")).keys() - {"outcome", "---"}

    assert set(model.Outcome) == told


def test_webhook_ids_are_remembered_as_long_as_is_said():
    assert 3 == append.INGEST_ID_LIFE.days
    assert "for three days" in section("Idempotency")


def test_a_long_poll_waits_as_long_as_is_said():
    assert f"({longpoll.DEFAULT_WAIT_S} s unless" in section("Long-poll")
