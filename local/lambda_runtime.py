"""
One Lambda function on this machine: events in, what its handler returned out.

On Linux the handler runs in a child process under AWS's own runtime client;
elsewhere, where that client has no wheel, in a thread of this process.  The
rule: whatever a handler does - raise, crash, hang, fail to import - is an error
of that one invocation, and the next one finds a function that works.

Source: AWS Lambda, "Understanding the Lambda execution environment lifecycle".
"""

import asyncio
import contextlib
import json
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local.lambda_child import ChildSandbox
from local.lambda_invocation import Function, FunctionError, Invocation
from local.lambda_thread import ThreadSandbox, process_lent_to

__all__ = ["FunctionError", "LambdaFunction"]


class LambdaFunction:
    """
    A function that can be invoked while the context is open.

    One invocation runs at a time, as in one execution environment of Lambda;
    further ones wait their turn.

    In process, handlers of all functions share one environment: functions that
    disagree about a variable are refused, a handler that hangs is abandoned
    rather than ended, and one that ends the process ends all of it.

    Args:
        name: Name of the function, also in its logger.
        handler: ``package.module.callable``, found from `code_dir`.
        env: The function's variables.  A child sees these and Lambda's own,
            nothing of this process.
        code_dir: The working directory, ``LAMBDA_TASK_ROOT``.
        timeout_s: Seconds for one invocation, starting not counted.
        in_process: Use a thread instead of a child.
    """

    def __init__(
        self,
        name: str,
        handler: str,
        *,
        env: Mapping[str, str],
        code_dir: Path,
        timeout_s: float = 30,
        in_process: bool = sys.platform != "linux",
    ) -> None:
        self._function = Function(
            name, handler, dict(env), code_dir.absolute(), timeout_s
        )
        self._sandbox_type = ThreadSandbox if in_process else ChildSandbox
        self._sandbox: ThreadSandbox | ChildSandbox | None = None
        self._turn = asyncio.Lock()
        self._open = False
        self._lent = contextlib.ExitStack()

    async def __aenter__(self) -> Self:
        if self._sandbox_type is ThreadSandbox:
            self._lent.enter_context(process_lent_to(self._function))
        self._open = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False
        if self._sandbox is not None:
            self._sandbox.give_up(FunctionError("Sandbox.Stopped", "function stopped"))
        async with self._turn:
            await self._discard()
        self._lent.close()

    async def invoke(self, event: object) -> Any:
        """
        Run the handler with one event.

        Args:
            event: Anything JSON can say.

        Returns:
            What the handler returned, through JSON.

        Raises:
            FunctionError: The handler raised, crashed, hung or did not start.
            RuntimeError: The context is not open.
        """
        payload = json.dumps(event).encode()
        async with self._turn:
            sandbox = await self._ready_sandbox()
            try:
                answer = await sandbox.run(self._invocation(payload))
            finally:
                if not sandbox.reusable:
                    await self._discard()

        return json.loads(answer)

    def _invocation(self, payload: bytes) -> Invocation:
        return Invocation(
            request_id=str(uuid.uuid4()),
            payload=payload,
            deadline_ms=int((time.time() + self._function.timeout_s) * 1000),
            outcome=asyncio.get_running_loop().create_future(),
        )

    async def _ready_sandbox(self) -> "ThreadSandbox | ChildSandbox":
        if not self._open:
            msg = f"function {self._function.name} is not open"
            raise RuntimeError(msg)

        # One that ended between two events is not the fault of the next event.
        with contextlib.suppress(FunctionError):
            if self._sandbox is not None:
                await self._sandbox.ready()
                return self._sandbox
        await self._discard()
        self._sandbox = self._sandbox_type(self._function)
        try:
            await self._sandbox.start()
            await self._sandbox.ready()
        except BaseException:
            await self._discard()
            raise
        return self._sandbox

    async def _discard(self) -> None:
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            await sandbox.stop()
