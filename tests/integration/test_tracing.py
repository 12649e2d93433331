"""From a Lambda's post to the push by another gateway: one trace, really sent."""

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from bench.ours import Secrets, environment
from bench.server import Terms
from gateway.app import gateway
from gateway.errors import ConfigError
from lambdas.trace import VARIABLE, traceparent
from tests.integration.conftest import config_for

XRAY = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


class Receiver:
    """An OTLP receiver over HTTP; it keeps every span it is sent."""

    def __init__(self):
        self.spans = []
        self.services = set()
        self.more = asyncio.Event()

    async def take(self, request):
        said = ExportTraceServiceRequest.FromString(await request.read())
        for resource in said.resource_spans:
            for one in resource.resource.attributes:
                if one.key == "service.name":
                    self.services.add(one.value.string_value)
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        self.more.set()
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )

    async def until(self, names):
        """Wait for spans of these names, whatever their order."""
        async with asyncio.timeout(10):
            while sorted(names) != sorted(map(name_of, self.spans)):
                self.more.clear()
                await self.more.wait()


@asynccontextmanager
async def receiving():
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/v1/traces", receiver.take)
    async with TestServer(app) as server:
        receiver.url = f"http://127.0.0.1:{server.port}"
        yield receiver


def name_of(span):
    return span.name.removeprefix("reelready.")


def attributes(span):
    return {
        one.key.removeprefix("reelready."): one.value.string_value
        or one.value.int_value
        for one in span.attributes
    }


async def test_the_trace_of_a_file_goes_from_the_lambda_to_the_push_elsewhere(
    database_url, make_gateway, monkeypatch
):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    settings = {"tracing": True, "safety_read_seconds": 3600}
    async with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        async with (
            make_gateway(database_url, **settings) as one,
            make_gateway(database_url, **settings) as other,
        ):
            file_id = await one.new_file()
            path = f"/v1/files/{file_id}/events"
            async with one.open_stream(path) as here, other.open_stream(path) as there:
                await anext(here)
                await anext(there)
                one.http.headers["traceparent"] = traceparent({VARIABLE: XRAY})
                await one.report(file_id, "uploaded")
                await anext(here)
                await anext(there)
            await receiver.until(["register", "ingest", "push", "push"])

    by_name = {name_of(span): span for span in receiver.spans}
    pushes = [one for one in receiver.spans if name_of(one) == "push"]
    assert {"reelready"} == receiver.services
    assert {file_id.replace("-", "")} == {one.trace_id.hex() for one in receiver.spans}
    assert by_name["register"].span_id == by_name["ingest"].parent_span_id
    assert {by_name["ingest"].span_id} == {one.parent_span_id for one in pushes}
    assert {("commit", 1), ("doorbell", 1)} == {
        (attributes(one)["by"], attributes(one)["subscribers"]) for one in pushes
    }
    ((link,)) = by_name["ingest"].links
    assert "5759e988bd862e3fe1be46a994272793" == link.trace_id.hex()
    assert "53995c3f42cd8ad8" == link.span_id.hex()
    assert "applied" == attributes(by_name["ingest"])["outcome"]


async def test_a_receiver_that_is_away_costs_spans_and_nothing_else(
    database_url, make_gateway, monkeypatch
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    async with make_gateway(database_url, tracing=True) as gateway:
        file_id = await gateway.new_file()
        gateway.http.headers["traceparent"] = "00-no-trace"

        await gateway.complete(file_id)

        frames = await gateway.stream(f"/v1/files/{file_id}/events?after=0")
    assert ["1", "2"] == [frame.id for frame in frames if frame.id]


LOADED = """
import asyncio, sys
from gateway.app import gateway
from gateway.config import Config

async def main():
    async with gateway(Config.from_env()):
        print(any(name.startswith("opentelemetry") for name in sys.modules))

asyncio.run(main())
"""


@pytest.mark.parametrize("tracing", ["off", "on"])
async def test_it_is_only_loaded_where_it_is_on(database_url, tracing):
    env = environment(Secrets.made(), database_url, 0, Terms(files=1))

    said = await asyncio.to_thread(
        subprocess.check_output,
        [sys.executable, "-c", LOADED],
        env=env | {"REELREADY_TRACING": tracing},
        text=True,
    )

    assert str(tracing == "on") == said.strip()


async def test_without_the_extra_the_start_names_the_setting(monkeypatch, database_url):
    monkeypatch.setitem(sys.modules, "gateway.tracing", None)

    with pytest.raises(ConfigError, match=r"REELREADY_TRACING: .*docs/tracing.md"):
        async with gateway(config_for(database_url, tracing=True)):
            pass
