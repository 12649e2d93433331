"""What every answer carries, whichever way it goes out."""

from collections.abc import Mapping

from gateway.protocol import http

_ALLOW_HEADERS = "Authorization, Content-Type, If-None-Match, Last-Event-ID, Prefer"
_ALLOW_METHODS = "GET, HEAD, POST, OPTIONS"
_EXPOSE_HEADERS = "ETag, Location, Preference-Applied, Retry-After"
_PREFLIGHT_MAX_AGE_S = 600


class CommonHeaders:
    """
    Security headers and CORS (Fetch standard, "CORS protocol").

    Origins are compared whole with a list; nothing is reflected.
    """

    def __init__(self, origins: tuple[str, ...]) -> None:
        plain = {
            "Server": "reelready",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        if origins:
            plain["Vary"] = "Origin"
        self._plain = plain
        self._granted = {
            origin: plain
            | {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Credentials": "true",
                "Access-Control-Expose-Headers": _EXPOSE_HEADERS,
            }
            for origin in origins
        }
        self._plain_lines = http.field_lines(plain.items())
        self._lines = {
            origin: http.field_lines(granted.items())
            for origin, granted in self._granted.items()
        }

    def lines_for_origin(self, origin: str | None) -> str:
        """Give the same as `for_origin`, as it is sent."""
        return self._lines.get(origin or "", self._plain_lines)

    def for_origin(self, origin: str | None) -> Mapping[str, str]:
        """Choose the headers for a request that says where it is from."""
        return self._granted.get(origin or "", self._plain)

    def preflight(self, origin: str | None) -> dict[str, str]:
        """Choose what a preflight is told; nothing for strangers."""
        if (origin or "") not in self._granted:
            return {}
        return {
            "Access-Control-Allow-Methods": _ALLOW_METHODS,
            "Access-Control-Allow-Headers": _ALLOW_HEADERS,
            "Access-Control-Max-Age": str(_PREFLIGHT_MAX_AGE_S),
        }
