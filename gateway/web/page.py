"""
The page and what it loads: a fixed table of files, read once at the start.

No path of a request is ever joined to a folder, so there is nothing to
traverse.
"""

import hashlib
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import Payload, web
from aiohttp.abc import AbstractStreamWriter

from gateway.config import Config

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".yaml": "application/yaml; charset=utf-8",
}
_HLS_JS = "hls.js"

_PIECE_BYTES = 16 * 1024


class Page:
    """The routes of the page."""

    def __init__(self, config: Config, upload_origin: str) -> None:
        self._config = config
        self._files = _static_files(config.hls_js)
        self._policy = _policy(upload_origin, _origin(config.playback_base_url))

    async def index(self, request: web.Request) -> web.Response:
        """Show the page."""
        response = self._file(request, "index.html")
        response.headers["Content-Security-Policy"] = self._policy
        return response

    async def static(self, request: web.Request) -> web.Response:
        """Give one file of the page."""
        return self._file(request, request.match_info["name"])

    async def openapi(self, request: web.Request) -> web.Response:
        """Give the description of this API."""
        return self._file(request, "openapi.yaml")

    async def settings(self, _: web.Request) -> web.Response:
        """Give what the page must know of this gateway."""
        hls_js = f"/static/{_HLS_JS}" if _HLS_JS in self._files else None
        return web.json_response(
            {
                "api_key": self._config.page_api_key or None,
                "hls_js": hls_js,
                "max_upload_bytes": self._config.max_upload_bytes,
            },
            headers={"Cache-Control": "no-store"},
        )

    def _file(self, request: web.Request, name: str) -> web.Response:
        if name not in self._files:
            raise web.HTTPNotFound
        body = self._files[name]
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = _TYPES[Path(name).suffix]
        return web.Response(body=_Shared(body), headers=headers)


class _Shared(Payload):
    """Bytes of many answers, of which one that is not taken holds only some."""

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Give it as text."""
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send it, piece by piece, each when there is room for it."""
        view = memoryview(self._value)
        for start in range(0, len(view), _PIECE_BYTES):
            await writer.write(view[start : start + _PIECE_BYTES])


def _static_files(hls_js: Path | None) -> dict[str, bytes]:
    files = {
        file.name: file.read_bytes()
        for file in resources.files("gateway").joinpath("static").iterdir()
        if Path(file.name).suffix in _TYPES
    }
    if hls_js is not None:
        files[_HLS_JS] = hls_js.read_bytes()
    return files


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _policy(upload_origin: str, playback_origin: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            f"media-src 'self' blob: {playback_origin}",
            f"connect-src 'self' {upload_origin} {playback_origin}",
            "worker-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
