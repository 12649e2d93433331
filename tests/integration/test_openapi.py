"""
The description of the API is true.

schemathesis makes requests from the description, good and bad ones, and finds
any answer that the description does not allow.  It calls over HTTP from a
thread of its own, as anybody would.
"""

import asyncio
import base64
import contextlib
import hmac
import itertools
import re
import secrets
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
import schemathesis
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.hooks import GLOBAL_HOOK_DISPATCHER

from gateway import config, model, uploads
from gateway.protocol import body, manifest, problem, registration, report
from gateway.store import history
from gateway.web import body as web_body
from gateway.web import files, waiting
from gateway.web.connection import HOT_ROUTES

TEXT = (resources.files("gateway") / "static" / "openapi.yaml").read_text("utf-8")
DOCUMENT: dict[str, Any] = yaml.safe_load(TEXT)
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method in {"get", "post"}
}
CODES = {*problem._TITLES, "bad_request"}
OPEN = {label for label, one in OPERATIONS.items() if one["security"] == []}
STREAMS = ["/v1/files/{file_id}/events", "/v1/events"]

CURSORS = {"after", "lastEventId", "last_event_id", "Last-Event-ID", "If-None-Match"}
UNKNOWN = "0199a3c4-5b6d-7e8f-9a0b-1c2d3e4f5a6b"
PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
SEED = 20260102

OWN_WORDS = {"GET /", "GET /static/{name}", "GET /openapi.yaml"}
"""They show files of ours, which may hold any word."""

_INTERNAL = re.compile(
    rb"Traceback|File \\?\"|\.py\b|asyncpg|psycopg|postgres|aiohttp|msgspec|site-packages"
    rb"|\bselect\b.+\bfrom\b|\binsert into\b|\brelation\b|\bcolumn\b"
    rb"| at 0x[0-9a-f]{6,}|[a-z]+Error\(",
    re.IGNORECASE,
)
"""What no stranger is to read: H11."""

_GIVEN_OUT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Signed(requests.auth.AuthBase):
    """Signs whatever bytes are sent, text or not, as a Lambda does."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._ids = (f"{secrets.token_hex(4)}-{n}" for n in itertools.count())

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        said = request.body or b""
        raw = said.encode() if isinstance(said, str) else said
        request.headers.update(
            signed(self._key, next(self._ids), int(time.time()), raw)
        )
        return request


def signed(key: bytes, webhook_id: str, timestamp: int, raw: bytes) -> dict[str, str]:
    """Sign as docs/protocol.md says, word for word."""
    content = f"{webhook_id}.{timestamp}.".encode() + raw
    signature = base64.b64encode(hmac.digest(key, content, "sha256")).decode()
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }


@dataclass
class Found:
    """
    What came of an exploration.

    Attributes:
        faults: Answers that the description does not allow.
        statuses: Of each operation, those that came.
    """

    faults: list[str] = field(default_factory=list)
    statuses: defaultdict[str, set[int]] = field(
        default_factory=lambda: defaultdict(set)
    )

    def answered(self, statuses: Container[int]) -> set[str]:
        """Name the operations that were answered with one of these."""
        return {
            label
            for label, seen in self.statuses.items()
            if any(status in statuses for status in seen)
        }

    def take(self, recorder: ScenarioRecorder) -> None:
        """Collect from one scenario."""
        for case_id, interaction in recorder.interactions.items():
            if interaction.response is not None:
                label = recorder.cases[case_id].value.operation.label
                self.statuses[label].add(interaction.response.status_code)
                inside = _INTERNAL.search(interaction.response.content)
                if inside is not None and label not in OWN_WORDS:
                    self.faults.append(f"{label} shows {inside[0]!r}")
        self.faults += [
            f"{check.failure_info.failure}\n{check.failure_info.code_sample}"
            for checks in recorder.checks.values()
            for check in checks
            if check.failure_info is not None
        ]


def only(paths: list[str]) -> dict[str, Any]:
    """Leave every other operation alone."""
    others = {"exclude-path": paths, "enabled": False}
    return {"operations": [others]} | without("stateful")


def without(*phases: str) -> dict[str, Any]:
    """Leave out phases that have nothing to find."""
    return {"phases": {phase: {"enabled": False} for phase in phases}}


def with_key(gateway) -> dict[str, str]:
    return {"Authorization": f"Bearer {gateway.config.api_keys[0]}"}


def explore(
    url: str,
    aim: Callable[..., None],
    auth: requests.auth.AuthBase | None = None,
    **settings: Any,
) -> Found:
    """Let schemathesis loose on a gateway; blocks."""
    base = {
        "base-url": url,
        "seed": SEED,
        "continue-on-failure": True,
        "request-timeout": 20,
        "checks": {"enabled": True},
        "generation": {
            "max-examples": 10,
            "database": "none",
            "with-security-parameters": False,
        },
    }
    schema = schemathesis.openapi.from_dict(
        DOCUMENT, config=SchemathesisConfig.from_dict(base | settings)
    )
    if auth is not None:
        schema.auth.set_from_requests(auth).apply_to(path_regex="/(reports|manifest)$")
    found = Found()
    with _before_call(aim):
        for event in from_schema(schema).execute():
            if isinstance(event, events.ScenarioFinished):
                found.take(event.recorder)
            elif isinstance(event, events.NonFatalError):
                found.faults.append(f"{event.label}: {event.value!r}")
            elif isinstance(event, events.FatalError):
                found.faults.append(repr(event.exception))
    return found


@contextlib.contextmanager
def _before_call(aim: Callable[..., None]) -> Iterator[None]:
    GLOBAL_HOOK_DISPATCHER.hook("before_call")(aim)
    try:
        yield
    finally:
        GLOBAL_HOOK_DISPATCHER.unregister(aim)


def aimed_at(
    file_ids: list[str], bucket: str, *, streams_only: bool = False
) -> Callable[..., None]:
    """Turn good requests about any file into requests about one of these."""

    def aim(_: Any, case: Any, __: Any) -> None:
        if streams_only:
            case.query.pop("wait", None)
        bad = case.meta.is_negative_at if case.meta else lambda _: False
        if "file_id" in case.path_parameters and not bad(ParameterLocation.PATH):
            case.path_parameters["file_id"] = _one_of(
                file_ids, case.path_parameters["file_id"]
            )
        if not bad(ParameterLocation.QUERY):
            if "file" in case.query:
                case.query["file"] = sorted(
                    {_one_of(file_ids, one) for one in case.query["file"]}
                )
            for name in CURSORS & case.query.keys():
                case.query[name] = _cursor(case.query[name])
        if not bad(ParameterLocation.HEADER):
            for name in CURSORS & set(case.headers):
                case.headers[name] = _cursor(case.headers[name])
        if isinstance(case.body, dict) and not bad(ParameterLocation.BODY):
            case.body = _as_clients_write(case.body, case, bucket)

    return aim


def _one_of(file_ids: list[str], generated: str) -> str:
    if _GIVEN_OUT.fullmatch(generated):
        return generated
    return file_ids[zlib.crc32(generated.encode()) % len(file_ids)]


def _cursor(generated: Any) -> str:
    """Half of all cursors as they are, half as they are given out."""
    number = zlib.crc32(str(generated).encode())
    tag = '"%d"' if str(generated).startswith('"') else "%d"
    return str(generated) if number % 2 else tag % (number % 8 // 2)


def _as_clients_write(value: Any, case: Any, bucket: str) -> Any:
    """Write what a JSON Schema cannot ask for: own objects, 5 and not 5.0, no NUL."""
    if isinstance(value, dict):
        return {
            name.replace("\0", " "): _as_clients_write(one, case, bucket)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_as_clients_write(one, case, bucket) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.startswith("s3://"):
        return f"s3://{bucket}/video/hls/{case.path_parameters['file_id']}/a.m3u8"
    return value.replace("\0", " ") if isinstance(value, str) else value


async def files_in_every_state(gateway) -> list[str]:
    """Make one file each that waits, converts, plays and has failed."""
    waits, converts, plays, failed = [await gateway.new_file() for _ in range(4)]
    await gateway.report(converts, "progress", phase="transcoding", percent=42)
    await gateway.complete(plays)
    await gateway.report(failed, "failed", job_id="j-1")
    return [waits, converts, plays, failed]


async def ask(gateway, label: str, **case: Any) -> requests.Response:
    """Send one request that must be answered as it is described."""
    method, path = label.split(" ")
    allowed = {"expected-statuses": ["2xx", "3xx", "4xx", "503"]}
    schema = schemathesis.openapi.from_dict(
        DOCUMENT,
        config=SchemathesisConfig.from_dict(
            {"checks": {"not_a_server_error": allowed}}
        ),
    )
    auth = Signed(gateway.config.ingest_secrets[0]) if "POST" in label else None
    headers = with_key(gateway) | case.pop("headers", {})
    return await asyncio.to_thread(
        schema[path][method].Case(headers=headers, **case).call_and_validate,
        base_url=gateway.url,
        auth=auth,
    )


@pytest.mark.parametrize(
    "shown",
    [
        b"Traceback (most recent call last):",
        b'{"detail":"File \\"/srv/gateway/app.py\\", line 4"}',
        b"asyncpg.exceptions.UndefinedTableError",
        b'relation "files" does not exist',
        b"SELECT seq FROM files",
        b"<FileId object at 0x7f2469dcffd0>",
        b"ValueError('no')",
    ],
)
def test_internals_would_be_seen(shown):
    assert _INTERNAL.search(shown)


def test_the_description_is_openapi_3_1():
    assert [] == list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors())


def test_the_documentation_shows_the_description_that_is_served():
    link = Path(__file__).parents[2] / "docs" / "openapi.yaml"

    assert "../gateway/static/openapi.yaml" == str(link.readlink())
    assert TEXT == link.read_text("utf-8")


async def test_every_route_is_described_and_no_other(gateway):
    served = {
        f"{route.method} {route.resource.canonical}"
        for route in gateway.built.app.router.routes()
    } | {f"{method} {path}" for method, path in HOT_ROUTES.values()}
    served.add("HEAD /v1/files/{file_id}")
    heads = {one.replace("HEAD", "GET") for one in served if one.startswith("HEAD")}

    assert set(OPERATIONS) == {one for one in served if not one.startswith("HEAD")}
    assert {f"GET {path}" for path in STREAMS} == {
        label for label in OPERATIONS if label.startswith("GET")
    } - heads


@pytest.mark.timeout(240)
async def test_no_request_of_the_back_end_or_a_lambda_finds_a_fault(gateway_with):
    async with gateway_with(max_wait_seconds=1, stream_max_age_seconds=1) as gateway:
        existing = await files_in_every_state(gateway)
        found = await asyncio.to_thread(
            explore,
            gateway.url,
            aimed_at([*existing, UNKNOWN], gateway.config.bucket),
            Signed(gateway.config.ingest_secrets[0]),
            headers=with_key(gateway),
        )

    assert [] == found.faults
    assert set(OPERATIONS) == found.answered({200, 201})
    assert OPERATIONS.keys() - OPEN <= found.answered({404, 422})


@pytest.mark.timeout(240)
async def test_no_stream_finds_a_fault(gateway_with):
    async with gateway_with(max_wait_seconds=1, stream_max_age_seconds=1) as gateway:
        existing = await files_in_every_state(gateway)
        found = await asyncio.to_thread(
            explore,
            gateway.url,
            aimed_at([*existing, UNKNOWN], gateway.config.bucket, streams_only=True),
            headers=with_key(gateway) | {"Accept": "text/event-stream"},
            **only(STREAMS),
        )

    assert [] == found.faults
    assert {f"GET {path}" for path in STREAMS} == found.answered({200})


@pytest.mark.timeout(240)
async def test_no_request_without_a_credential_finds_a_fault_or_a_file(gateway_with):
    async with gateway_with(max_wait_seconds=1, stream_max_age_seconds=1) as gateway:
        existing = await files_in_every_state(gateway)
        found = await asyncio.to_thread(
            explore,
            gateway.url,
            aimed_at([*existing, UNKNOWN], gateway.config.bucket),
            **without("fuzzing", "stateful"),
        )

    assert [] == found.faults
    assert OPEN == found.answered(range(200, 400))
    assert OPERATIONS.keys() - OPEN == found.answered({401})


async def test_what_a_draining_gateway_answers_is_described(gateway):
    where = {"file_id": await gateway.new_file()}
    gateway.built.hub.drain()

    ready = await ask(gateway, "GET /readyz")
    read = await ask(
        gateway, "GET /v1/files/{file_id}", path_parameters=where, query={"wait": 1}
    )
    polled = await ask(gateway, "GET /v1/files/{file_id}/events", path_parameters=where)
    stream = await ask(
        gateway,
        "GET /v1/events",
        query={"file": [where["file_id"]]},
        headers={"Accept": "text/event-stream"},
    )

    assert [503, 503, 503] == [one.status_code for one in (ready, read, polled)]
    assert (200, True) == (stream.status_code, b'"refused"' in stream.content)


@pytest.mark.parametrize("kind", ["reports", "manifest"])
async def test_the_refusal_of_a_large_body_is_described(gateway, kind):
    answer = await ask(
        gateway,
        f"POST /v1/files/{{file_id}}/{kind}",
        path_parameters={"file_id": await gateway.new_file()},
        media_type="application/json",
        body={"job_id": "a" * web_body.MAX_BODY_BYTES},
    )

    assert 413 == answer.status_code


async def test_what_is_unchanged_is_described(gateway):
    file_id = await gateway.new_file()
    asks = [
        ("GET /", {}),
        ("GET /openapi.yaml", {}),
        ("GET /v1/files/{file_id}", {"path_parameters": {"file_id": file_id}}),
    ]
    for label, case in asks:
        first = await ask(gateway, label, **case)
        tag = {"If-None-Match": first.headers["etag"][0]}
        again = await ask(gateway, label, headers=tag, **case)

        assert (200, 304) == (first.status_code, again.status_code)


async def test_a_stream_after_the_end_is_described(gateway):
    file_id = await gateway.new_file()
    done = await gateway.complete(file_id)

    ended = await ask(
        gateway,
        "GET /v1/files/{file_id}/events",
        path_parameters={"file_id": file_id},
        query={"after": str(done["seq"])},
        headers={"Accept": "text/event-stream"},
    )

    assert 204 == ended.status_code


@pytest.mark.parametrize(
    ("name", "struct"),
    [
        ("Registration", registration.Registration),
        ("Registered", files._Registered),
        ("Watch", files._Watch),
        ("Upload", uploads.Upload),
        ("File", model.FileState),
        ("Playback", model.Playback),
        ("Rendition", model.Rendition),
        ("FileError", model.FileError),
        ("Report", report._Body),
        ("Manifest", manifest._Body),
        ("Story", history.Story),
    ],
)
def test_a_schema_has_the_fields_of_the_code(name, struct):
    known = {one.name: one for one in msgspec.structs.fields(struct)}
    sent = name not in {"Registration", "Report", "Manifest"}
    required = {
        one.name
        for one in known.values()
        if (one.default is not msgspec.UNSET if sent else one.required)
    }

    assert set(known) == set(SCHEMAS[name]["properties"])
    assert required == set(SCHEMAS[name]["required"])


@pytest.mark.parametrize(
    ("described", "known"),
    [
        (SCHEMAS["Status"]["enum"], model.Status),
        (SCHEMAS["Answer"]["properties"]["outcome"]["enum"], model.Outcome),
        (SCHEMAS["File"]["properties"]["phase"]["enum"], [*model.Phase, None]),
        (SCHEMAS["Report"]["properties"]["phase"]["enum"], [*model.Phase, None]),
    ],
)
def test_an_enumeration_has_the_values_of_the_code(described, known):
    assert list(known) == described


def test_every_problem_of_the_code_is_described():
    types = SCHEMAS["Problem"]["properties"]["type"]["enum"]

    assert sorted(f"urn:reelready:problem:{code}" for code in CODES) == types


def test_limits_are_those_of_the_code():
    name, size = (
        SCHEMAS["Registration"]["properties"][one] for one in ("name", "size")
    )
    fields = SCHEMAS["Report"]["properties"]
    error = fields["error"]["anyOf"][0]["properties"]
    file = OPERATIONS["GET /v1/events"]["parameters"][0]["schema"]
    most = next(
        one.default
        for one in fields_of(config.Config)
        if one.name == "max_upload_bytes"
    )

    assert registration.MAX_NAME_CHARS == name["maxLength"]
    assert most == size["maximum"]
    assert body.MAX_LABEL_CHARS == SCHEMAS["Label"]["maxLength"]
    assert report.MAX_ERROR_CHARS == error["message"]["maxLength"]
    assert manifest.MAX_URL_CHARS == SCHEMAS["OwnObject"]["maxLength"]
    assert (
        manifest.MAX_RENDITIONS
        == SCHEMAS["Manifest"]["properties"]["renditions"]["maxItems"]
    )
    for page in ("Events", "Story"):
        events = SCHEMAS[page]["properties"]["events"]
        assert history.MAX_PAGE_EVENTS == events["maxItems"]
    assert waiting.MAX_FILES == file["maxItems"]
    assert f"{web_body.MAX_BODY_BYTES:,} bytes" in TEXT
    assert model.FILE_ID.pattern == SCHEMAS["FileId"]["pattern"].strip("^$")


async def test_the_python_examples_of_the_protocol_wait_for_a_file(gateway, capsys):
    examples = re.findall(r"```python\n(.*?)```", PROTOCOL, re.DOTALL)
    wait = next(one for one in examples if "urlopen" in one)
    mint = next(one for one in examples if "jwt.encode" in one)
    created = await gateway.create(owner="u-17")
    await gateway.complete(created["file"]["id"])
    path = f"/v1/files/{created['file']['id']}/events"
    minted: dict[str, Any] = {"token_secret": gateway.config.token_secrets[0]}
    exec(mint, minted)
    watch = {"events_url": gateway.url + path, "token": minted["token"], "after": 1}

    await asyncio.to_thread(exec, wait, {"watch": watch})

    assert "playable 100\n" == capsys.readouterr().out
