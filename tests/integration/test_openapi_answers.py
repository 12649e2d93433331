"""Answers that take some doing, each as the description of the API has it."""

import asyncio
from typing import Any

import pytest
import requests
import schemathesis
from schemathesis.config import SchemathesisConfig

from gateway.web import body as web_body
from tests.integration.description import DOCUMENT, Signed, with_key


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
