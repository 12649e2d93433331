"""The way in for the Lambdas: signed reports and manifests."""

import asyncio
from functools import partial

import msgspec

from gateway.auth import Signatures
from gateway.config import Config
from gateway.errors import GatewayError, InvalidError, UnavailableError
from gateway.ingest import Ingest
from gateway.memory import Memory
from gateway.model import FileId, Report
from gateway.parking import Line
from gateway.protocol import manifest, report
from gateway.protocol.http import Request
from gateway.store.append import Answer, Incoming

_JSON = ("Content-Type", "application/json; charset=utf-8")


class IngestRoutes:
    """The routes of the Lambdas and the reconciler."""

    def __init__(self, config: Config, ingest: Ingest, memory: Memory) -> None:
        self._ingest = ingest
        self._memory = memory
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
        self._ingest.submit(incoming).add_done_callback(partial(_answer, line))


def _answer(line: Line, answered: "asyncio.Future[Answer]") -> None:
    error = answered.exception()
    if error is None:
        line.answer(200, (_JSON,), msgspec.json.encode(answered.result()))
    elif isinstance(error, GatewayError):
        line.fail(error)
    else:
        line.abort()
