"""
Optional traces by OpenTelemetry: one trace per file, from registration to push.

Trace and span ids are reckoned from the file's id and the event's seq.  So every
gateway knows the parent of a push, also of an event that another one wrote, and
neither the table nor a doorbell carries anything of it.  What the sender said of its
own trace is a link of the span that took its report.

Imported only with `REELREADY_TRACING`; where to is said by the variables of
OpenTelemetry.

Source: OpenTelemetry, "OTLP exporter configuration"; docs/tracing.md.
"""

import asyncio
import hashlib
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from gateway.errors import ConfigError
from gateway.model import Event, FileId, Seq
from gateway.protocol.traceparent import TraceParent

END_LIMIT_S = 1.0
"""What was not sent by then, at the end, is lost: a drain waits for nobody."""

_CREATED = Seq(1)
_HALF = 1 << 64
_SAMPLED = api.TraceFlags(api.TraceFlags.SAMPLED)
_SHARE = "OTEL_TRACES_SAMPLER_ARG"


def trace_id(file_id: FileId) -> int:
    """Of everything that happens to a file: the digits of its id, if it has 32."""
    digits = file_id.replace("-", "")
    try:
        number = int(digits, 16) if len(digits) == 32 else 0  # noqa: PLR2004 - 128 bits
    except ValueError:
        number = 0
    return number or int.from_bytes(hashlib.sha256(file_id.encode()).digest()[:16])


def span_id(file_id: FileId, seq: Seq) -> int:
    """Of what made an event."""
    said = f"{file_id}:{seq}".encode()
    return int.from_bytes(hashlib.sha256(said).digest()[:8]) or 1


class Tracing:
    """
    Makes the spans of this process.

    Args:
        share: Of all files that are traced, 0 to 1; the same ones in every process.
    """

    def __init__(
        self, processor: SpanProcessor, resource: Resource, *, share: float = 1.0
    ) -> None:
        self._processor = processor
        self._resource = resource
        self._limit = round(share * _HALF)

    def registered(self, file_id: FileId, began_ns: int) -> None:
        """Tell that a file was registered: the root of its trace."""
        own = span_id(file_id, _CREATED)
        self._tell("register", file_id, began_ns, own=own, seq=_CREATED)

    def ingested(
        self,
        file_id: FileId,
        began_ns: int,
        *,
        seq: Seq,
        outcome: str,
        sender: TraceParent | None,
    ) -> None:
        """Tell that a report was answered; one that was applied made event `seq`."""
        own = span_id(file_id, seq) if outcome == "applied" else _any_id()
        self._tell(
            "ingest",
            file_id,
            began_ns,
            own=own,
            parent=span_id(file_id, _CREATED),
            link=sender,
            seq=seq,
            outcome=outcome,
        )

    def pushed(
        self,
        file_id: FileId,
        events: Sequence[Event],
        began_ns: int,
        *,
        subscribers: int,
        by: str,
    ) -> None:
        """
        Tell that events were given to those who wait here.

        Args:
            began_ns: When this process learned of them.
            by: How: "commit" (it wrote them) or "doorbell".
        """
        for event in events:
            self._tell(
                "push",
                file_id,
                began_ns,
                own=_any_id(),
                parent=span_id(file_id, event.seq),
                seq=event.seq,
                subscribers=subscribers,
                by=by,
            )

    def _tell(
        self,
        name: str,
        file_id: FileId,
        began_ns: int,
        *,
        own: int,
        parent: int | None = None,
        link: TraceParent | None = None,
        **said: str | int,
    ) -> None:
        trace = trace_id(file_id)
        if trace % _HALF >= self._limit:
            return
        self._processor.on_end(
            ReadableSpan(
                name=f"reelready.{name}",
                context=_context(trace, own, is_remote=False),
                parent=None if parent is None else _context(trace, parent),
                resource=self._resource,
                attributes={"reelready.file_id": file_id}
                | {f"reelready.{key}": value for key, value in said.items()},
                links=[] if link is None else [_link(link)],
                kind=api.SpanKind.PRODUCER if name == "push" else api.SpanKind.SERVER,
                start_time=began_ns,
                end_time=time.time_ns(),
            )
        )


@asynccontextmanager
async def tracing(environ: Mapping[str, str] = os.environ) -> AsyncIterator[Tracing]:
    """
    Trace for the length of the block, to where the variables of OpenTelemetry say.

    A place that is away costs spans and nothing else.

    Raises:
        ConfigError: ``OTEL_TRACES_SAMPLER_ARG`` is no share.
    """
    named = {"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"} & environ.keys()
    resource = Resource.create({} if named else {"service.name": "reelready"})
    processor = BatchSpanProcessor(OTLPSpanExporter())
    try:
        yield Tracing(processor, resource, share=_share(environ))
    finally:
        ending = threading.Thread(target=processor.shutdown, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, END_LIMIT_S)


def _share(environ: Mapping[str, str]) -> float:
    raw = environ.get(_SHARE, "1")
    try:
        share = float(raw)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigError(_SHARE, f"{raw!r} is not a share from 0 to 1")
    return share


def _context(trace: int, span: int, *, is_remote: bool = True) -> api.SpanContext:
    return api.SpanContext(trace, span, is_remote, _SAMPLED)


def _link(sender: TraceParent) -> api.Link:
    flags = api.TraceFlags(sender.flags)
    return api.Link(api.SpanContext(sender.trace_id, sender.span_id, True, flags))  # noqa: FBT003 - not ours


def _any_id() -> int:
    return secrets.randbits(64) or 1
