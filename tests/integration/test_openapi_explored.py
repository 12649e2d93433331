"""
No request finds an answer that the description of the API does not allow.

schemathesis makes requests from the description, good and bad ones.  It calls over
HTTP from a thread of its own, as anybody would.
"""

import asyncio
import contextlib
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.hooks import GLOBAL_HOOK_DISPATCHER

from tests.integration.description import (
    DOCUMENT,
    OPERATIONS,
    STREAMS,
    Signed,
    with_key,
)

OPEN = {label for label, one in OPERATIONS.items() if one["security"] == []}

CURSORS = {"after", "lastEventId", "last_event_id", "Last-Event-ID", "If-None-Match"}
UNKNOWN = "0199a3c4-5b6d-7e8f-9a0b-1c2d3e4f5a6b"
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
