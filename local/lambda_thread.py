"""
A Lambda function in a thread of this process, where the child cannot run.

The rule: what comes out is what `local.lambda_child` would say, as far as a
thread can.  It cannot be ended, and it shares the environment of the process.
"""

import asyncio
import contextlib
import importlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from local.lambda_invocation import (
    MEMORY_MB,
    NO_ONE_ELSES_AWS,
    Function,
    FunctionError,
    Invocation,
    timed_out,
)


@dataclass(frozen=True, slots=True)
class _ThreadContext:
    """What a handler in a thread gets for the context of AWS's runtime client."""

    function_name: str
    aws_request_id: str
    invoked_function_arn: str
    deadline_ms: int
    function_version: str = "$LATEST"
    memory_limit_in_mb: str = MEMORY_MB
    log_stream_name: str = "local"
    identity: None = None
    client_context: None = None

    @property
    def log_group_name(self) -> str:
        return f"/aws/lambda/{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self.deadline_ms - int(time.time() * 1000))


class ThreadSandbox:
    """The same for a thread of this process, a fresh one for each event."""

    def __init__(self, function: Function) -> None:
        loop = asyncio.get_running_loop()
        self._function = function
        self._over: asyncio.Future[FunctionError] = loop.create_future()

    @property
    def reusable(self) -> bool:
        """Always, until it is given up."""
        return not self._over.done()

    async def start(self) -> None:
        """Nothing to start: the code is imported by the first event."""

    async def ready(self) -> None:
        """Nothing to wait for."""

    async def run(self, invocation: Invocation) -> bytes:
        """Run the handler; a thread that outlives its time is left behind."""
        loop = asyncio.get_running_loop()
        threading.Thread(
            target=self._work,
            args=(invocation, loop),
            name=f"lambda {self._function.name}",
            daemon=True,
        ).start()
        either: set[asyncio.Future[Any]] = {invocation.outcome, self._over}
        await asyncio.wait(
            either,
            timeout=self._function.timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if invocation.outcome.done():
            return invocation.outcome.result()
        if self._over.done():
            raise self._over.result()
        what = f"RequestId: {invocation.request_id} Error: Task"
        raise timed_out(what, self._function.timeout_s)

    def give_up(self, reason: FunctionError) -> None:
        """End the wait for the thread with this reason."""
        if not self._over.done():
            self._over.set_result(reason)

    async def stop(self) -> None:
        """Nothing to stop: a thread cannot be ended."""

    def _work(self, invocation: Invocation, loop: asyncio.AbstractEventLoop) -> None:
        result: bytes | FunctionError
        try:
            result = self._call(invocation)
        except FunctionError as error:
            result = error
        # The loop is gone when the thread was left behind.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, invocation.outcome, result)

    def _call(self, invocation: Invocation) -> bytes:
        function = self._function
        context = _ThreadContext(
            function.name, invocation.request_id, function.arn, invocation.deadline_ms
        )
        handler = _imported(function.handler)
        with _told_as_lambda_does():
            answer = handler(json.loads(invocation.payload), context)
        try:
            return json.dumps(answer).encode()
        except (TypeError, ValueError) as error:
            message = f"Unable to marshal response: {error}"
            raise FunctionError("Runtime.MarshalError", message) from None


def _settle(outcome: asyncio.Future[bytes], result: bytes | FunctionError) -> None:
    if outcome.done():
        return
    if isinstance(result, FunctionError):
        outcome.set_exception(result)
    else:
        outcome.set_result(result)


def _imported(handler: str) -> Callable[[Any, Any], Any]:
    module, _, name = handler.rpartition(".")
    try:
        with _told_as_lambda_does():
            found: Callable[[Any, Any], Any] = getattr(
                importlib.import_module(module), name
            )
    except FunctionError as error:
        kind, message = error.error_type, error.message
        match error.__cause__:
            case ImportError():
                kind = "Runtime.ImportModuleError"
                message = f"Unable to import module '{module}': {message}"
            case SyntaxError():
                kind = "Runtime.UserCodeSyntaxError"
                message = f"Syntax error in module '{module}': {message}"
            case AttributeError() if module in sys.modules:
                kind = "Runtime.HandlerNotFound"
                message = f"Handler '{name}' missing on module '{module}'"
        raise FunctionError(kind, message, error.stack_trace) from None
    return found


@contextlib.contextmanager
def _told_as_lambda_does() -> Iterator[None]:
    """Turn what the function's code raises into a `FunctionError`."""
    try:
        yield
    except SystemExit as error:
        message = f"Error: Runtime exited with error: exit status {error.code}"
        raise FunctionError("Runtime.ExitError", message) from error
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        trace = [frame for frame in frames if frame.filename != __file__]
        raise FunctionError(
            type(error).__name__, str(error), tuple(traceback.format_list(trace))
        ) from error


_lent: list[Mapping[str, str]] = []


@contextlib.contextmanager
def process_lent_to(function: Function) -> Iterator[None]:
    """
    Set this process up for a function: its variables and where its code is.

    Raises:
        ValueError: Another function has the process now, and wants another value.
    """
    env = {**NO_ONE_ELSES_AWS, **function.env}
    for name, value in env.items():
        if any(other.get(name, value) != value for other in _lent):
            msg = f"function {function.name} needs a {name} of its own"
            raise ValueError(msg)

    before = {name: os.environ.get(name) for name in env}
    code = str(function.code_dir)
    _lent.append(env)
    os.environ.update(env)
    sys.path.insert(0, code)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(code)
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old
        _lent.remove(env)
