"""The description of the API is that of the code, and the protocol's examples run."""

import asyncio
import re
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway import config, model, uploads
from gateway.protocol import body, manifest, problem, registration, report
from gateway.store import history
from gateway.web import body as web_body
from gateway.web import files, waiting
from gateway.web.connection import HOT_ROUTES
from tests.integration.description import DOCUMENT, OPERATIONS, SCHEMAS, STREAMS, TEXT

CODES = {*problem._TITLES, "bad_request"}
PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")


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
