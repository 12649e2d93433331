"""The way in for the Lambdas: signed reports and manifests."""

import msgspec
from aiohttp import web

from gateway.auth import Signatures
from gateway.config import Config
from gateway.ingest import Ingest
from gateway.model import FileId, Report
from gateway.protocol import manifest, report
from gateway.store.append import Incoming
from gateway.web.body import read_body


class IngestRoutes:
    """The routes of the Lambdas and the reconciler."""

    def __init__(self, config: Config, ingest: Ingest) -> None:
        self._ingest = ingest
        self._signatures = Signatures(config.ingest_secrets)
        self._outputs = manifest.Outputs(
            config.bucket, config.output_prefix, config.playback_base_url
        )

    async def report(self, request: web.Request) -> web.Response:
        """
        Take anything but completion.

        Raises:
            UnauthorizedError: Signature or clock.
            InvalidError: naming the field.
            NotFoundError: There is no such file.
            UnavailableError: It cannot be stored now.
        """
        webhook_id, body = await self._signed(request)
        return await self._submit(request, webhook_id, body, report.decode(body))

    async def manifest(self, request: web.Request) -> web.Response:
        """Take the report that completes a file; raises as `report`."""
        webhook_id, body = await self._signed(request)
        file_id = FileId(request.match_info["file_id"])
        said = manifest.decode(body, file_id, self._outputs)
        return await self._submit(request, webhook_id, body, said)

    async def _signed(self, request: web.Request) -> tuple[str, bytes]:
        body = await read_body(request)
        return self._signatures.verify(request.headers, body), body

    async def _submit(
        self, request: web.Request, webhook_id: str, body: bytes, said: Report
    ) -> web.Response:
        file_id = FileId(request.match_info["file_id"])
        incoming = Incoming(file_id, said, webhook_id=webhook_id, body=body)
        answer = await self._ingest.submit(incoming)
        return web.Response(
            body=msgspec.json.encode(answer),
            content_type="application/json",
            charset="utf-8",
        )
