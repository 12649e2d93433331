"""
Every error raised on purpose.  `gateway.web.middleware` maps them to HTTP.

    GatewayError
    +-- ConfigError             a setting is missing or wrong
    +-- InvalidError            the request names something unacceptable
    |   `-- WebhookReusedError  the same webhook-id came with another body
    +-- UnauthorizedError       no credential, or one that is not accepted
    +-- NotFoundError           not there, or not yours: never told apart
    +-- TooLargeError           the body is over the limit
    +-- RejectedError           the database will not take it, now or later
    +-- UnavailableError        cannot be done now; the same request can later
"""

from typing import ClassVar


class GatewayError(Exception):
    """Base class; caught at the edges only."""

    code: ClassVar[str] = "internal"
    """Stable, lower_snake_case.  Clients and dashboards match on it."""

    retryable: ClassVar[bool] = False
    """Whether the same request can succeed later without being changed."""


class ConfigError(GatewayError):
    """
    A setting stops the start.

    Attributes:
        setting: The environment variable to look at.
    """

    code = "config"

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting


class InvalidError(GatewayError):
    """
    The request is understood and refused.

    Attributes:
        field: Which part of it, as a dotted path; ``body`` for all of it.
    """

    code = "invalid"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class WebhookReusedError(InvalidError):
    """The same ``webhook-id`` was used before with another body or file."""

    code = "webhook_reused"

    def __init__(self) -> None:
        super().__init__("webhook-id", "was used before with another body")


class UnauthorizedError(GatewayError):
    """No credential, or one that is not accepted; the text names which."""

    code = "unauthorized"


class NotFoundError(GatewayError):
    """There is no such file, or the caller may not know that there is."""

    code = "not_found"

    def __init__(self) -> None:
        super().__init__("there is no such file")


class TooLargeError(GatewayError):
    """The body is larger than the limit that the text names."""

    code = "too_large"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the body is over {max_bytes} bytes")


class RejectedError(GatewayError):
    """The database will not take this write; nothing was stored."""

    code = "rejected"


class UnavailableError(GatewayError):
    """
    Something this request needs is away, or nobody knows what became of it.

    Attributes:
        retry_after_s: Seconds after which trying again makes sense, at the least.
    """

    code = "unavailable"
    retryable = True

    def __init__(self, problem: str, *, retry_after_s: int = 2) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s
