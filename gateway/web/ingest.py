"""The way in for the Lambdas: signed reports and manifests."""

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from gateway.auth import Signatures
from gateway.config import Config
from gateway.errors import GatewayError, InvalidError, UnavailableError
from gateway.ingest import Ingest
from gateway.memory import Memory
from gateway.model import FileId, Report
from gateway.parking import Line
from gateway.protocol import manifest, report, traceparent
from gateway.protocol.http import Request
from gateway.protocol.traceparent import TraceParent
from gateway.store.append import Answer, Incoming

if TYPE_CHECKING:
    from gateway.tracing import Tracing

_JSON = ("Content-Type", "application/json; charset=utf-8")


class IngestRoutes:
    """The routes of the Lambdas and the reconciler."""

    def __init__(
        self,
        config: Config,
        ingest: Ingest,
        memory: Memory,
        tracing: "Tracing | None" = None,
    ) -> None:
        self._ingest = ingest
        self._memory = memory
        self._tracing = tracing
        self._signatures = Signatures(config.ingest_secrets)
        self._outputs = manifest.Outputs(
            config.bucket, config.output_prefix, config.playback_base_url
        )

    def report(self, line: Line, request: Request, file_id: FileId) -> None:
        """
        Take anything but completion.

        Raises:
            UnauthorizedError: Signature or clock.
            InvalidError: naming the field.
            UnavailableError: It cannot be stored now.
        """
        webhook_id = self._signed(request)
        said = report.decode(request.body)
        self._submit(line, request, file_id, webhook_id, said)

    def manifest(self, line: Line, request: Request, file_id: FileId) -> None:
        """Take the report that completes a file; raises as `report`."""
        webhook_id = self._signed(request)
        said = manifest.decode(request.body, file_id, self._outputs)
        self._submit(line, request, file_id, webhook_id, said)

    def _signed(self, request: Request) -> str:
        if self._memory.short:
            raise UnavailableError("there is too little memory left")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise InvalidError("content-encoding", "is not accepted here")
        return self._signatures.verify(request.headers, request.body)

    def _submit(
        self,
        line: Line,
        request: Request,
        file_id: FileId,
        webhook_id: str,
        said: Report,
    ) -> None:
        incoming = Incoming(file_id, said, webhook_id=webhook_id, body=request.body)
        answered = self._ingest.submit(incoming)
        answered.add_done_callback(partial(_answer, line))
        if self._tracing is not None:
            sender = traceparent.decode(request.headers.get("traceparent"))
            told = partial(_tell, self._tracing, file_id, time.time_ns(), sender)
            answered.add_done_callback(told)


def _tell(
    tracing: "Tracing",
    file_id: FileId,
    began_ns: int,
    sender: TraceParent | None,
    answered: "asyncio.Future[Answer]",
) -> None:
    if answered.exception() is None:
        said = answered.result()
        tracing.ingested(
            file_id, began_ns, seq=said.seq, outcome=said.outcome, sender=sender
        )


def _answer(line: Line, answered: "asyncio.Future[Answer]") -> None:
    error = answered.exception()
    if error is None:
        line.answer(200, (_JSON,), msgspec.json.encode(answered.result()))
    elif isinstance(error, GatewayError):
        line.fail(error)
    else:
        line.abort()
