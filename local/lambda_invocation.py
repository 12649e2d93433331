"""
What a Lambda function is, one call of it, and how that can fail.

The names of errors are Lambda's own where Lambda has one.

Source: AWS Lambda, "Using the Lambda runtime API for custom runtimes".
"""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ACCOUNT = "111122223333"

MEMORY_MB = "512"
"""What functions are told; nothing holds them to it."""

NO_ONE_ELSES_AWS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""The files of the person at the keyboard are not there in Lambda either."""


class FunctionError(Exception):
    """
    An invocation failed.  The stack trace is a note of the exception as well.

    Attributes:
        error_type: The class the handler raised, or a name of Lambda's own:
            ``Runtime.ImportModuleError``, ``Runtime.ExitError`` (crashed),
            ``Sandbox.Timedout`` and others.
        message: What the handler said.
        stack_trace: The function's, outermost call first; may be empty.
    """

    def __init__(
        self, error_type: str, message: str, stack_trace: tuple[str, ...] = ()
    ) -> None:
        super().__init__(f"{error_type}: {message}")
        self.error_type = error_type
        self.message = message
        self.stack_trace = stack_trace
        if stack_trace:
            self.add_note("In the function:\n" + "".join(stack_trace).rstrip())


@dataclass(frozen=True, slots=True)
class Function:
    """What makes a function: its name, code and limits."""

    name: str
    handler: str
    env: Mapping[str, str]
    code_dir: Path
    timeout_s: float

    @property
    def region(self) -> str:
        return self.env.get("AWS_REGION", "us-east-1")

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{self.region}:{_ACCOUNT}:function:{self.name}"


@dataclass(frozen=True, slots=True)
class Invocation:
    """One event for the handler, and the place for what comes of it."""

    request_id: str
    payload: bytes
    deadline_ms: int
    outcome: asyncio.Future[bytes]


def timed_out(what: str, limit_s: float) -> FunctionError:
    return FunctionError(
        "Sandbox.Timedout", f"{what} timed out after {limit_s:.2f} seconds"
    )
