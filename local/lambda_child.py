"""
A Lambda function in a child process, under AWS's own runtime client.

The client asks a Runtime API, served here on a free loopback port, for the next
event, and posts what came of it.  The rule: one child, one API.  A child that
was ended cannot take an event meant for the next one.

Source: AWS Lambda, "Using the Lambda runtime API for custom runtimes" (version
2018-06-01).
"""

import asyncio
import contextlib
import io
import json
import logging
import os
import signal
import sys
import time
from typing import Any, TypeVar

from aiohttp import web

from local.lambda_invocation import (
    MEMORY_MB,
    NO_ONE_ELSES_AWS,
    Function,
    FunctionError,
    Invocation,
    timed_out,
)

_T = TypeVar("_T")

_log = logging.getLogger("local.lambda_runtime")

_INIT_LIMIT_S = 10.0
"""What Lambda gives a function to start, before the time of the first event."""

_MAX_ANSWER_BYTES = 6_291_556
_MAX_HEADER_BYTES = 2 * 1024 * 1024
"""The runtime client puts the stack trace of an error, up to 1 MiB, in a header."""

_MAX_LOG_LINE_BYTES = 256 * 1024
_END_S = 5.0
"""Ample for a killed child to be gone and its last line to be read."""

# Dying with the parent is asked for in the child itself: a `preexec_fn` forks a
# process that may have threads, which Python 3.12 and later warn about.
_LAUNCH = """\
import ctypes, os, runpy, signal, sys
parent, handler = sys.argv[1:]
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(parent):
    sys.exit("the parent ended first")
sys.argv = ["awslambdaric", handler]
runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)
"""


class ChildSandbox:
    """
    One child process and the Runtime API that it alone talks to.

    `_over` says that nothing will come from the child any more, and why.  Every
    wait for the child is a wait for that as well.
    """

    def __init__(self, function: Function) -> None:
        loop = asyncio.get_running_loop()
        self._function = function
        self._log = _log.getChild(function.name)
        self._over: asyncio.Future[FunctionError] = loop.create_future()
        self._polled: asyncio.Future[None] = loop.create_future()
        self._next: asyncio.Queue[Invocation] = asyncio.Queue()
        self._current: Invocation | None = None
        self._init_error: FunctionError | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._api = web.AppRunner(
            self._routes(),
            access_log=None,
            handler_cancellation=True,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
        )

    def _routes(self) -> web.Application:
        app = web.Application(client_max_size=_MAX_ANSWER_BYTES)
        invocation = "/2018-06-01/runtime/invocation"
        app.router.add_get(f"{invocation}/next", self._serve_next)
        app.router.add_post(f"{invocation}/{{id}}/response", self._serve_response)
        app.router.add_post(f"{invocation}/{{id}}/error", self._serve_error)
        app.router.add_post("/2018-06-01/runtime/init/error", self._serve_init_error)
        return app

    @property
    def reusable(self) -> bool:
        """Whether the child lives and has nothing more to say about its last event."""
        current = self._current

        return not self._over.done() and (current is None or current.outcome.done())

    async def start(self) -> None:
        """Serve the API and start the child; `ready` says whether it came up."""
        await self._api.setup()
        site = web.TCPSite(self._api, "127.0.0.1", 0)
        await site.start()
        host, port = self._api.addresses[0][:2]
        reading, writing = os.pipe()
        log = io.FileIO(reading)
        self._tasks = [asyncio.create_task(self._copy_log(log))]
        try:
            self._process = await self._launch(f"{host}:{port}", writing)
        finally:
            os.close(writing)
        self._tasks.append(asyncio.create_task(self._watch(self._process)))

    async def _launch(self, api: str, log: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _LAUNCH, str(os.getpid()), self._function.handler),
            stdin=asyncio.subprocess.DEVNULL,
            # A pipe of our own: asyncio would take the child for alive while
            # something it started still holds a pipe of asyncio's.
            stdout=log,
            stderr=log,
            cwd=self._function.code_dir,
            env=_child_environment(self._function, api),
            # Ctrl-C in a terminal is for this process; it ends the child.
            start_new_session=True,
        )

    async def ready(self) -> None:
        """
        Wait until the child asks for an event.

        Raises:
            FunctionError: It ended, could not import its handler or took too long.
        """
        if self._over.done():
            raise self._over.result()
        try:
            async with asyncio.timeout(_INIT_LIMIT_S):
                await self._unless_over(self._polled)
        except TimeoutError:
            raise timed_out("Init", _INIT_LIMIT_S) from None

    async def run(self, invocation: Invocation) -> bytes:
        """Hand the event to the child that asked for it and wait for the answer."""
        self._polled = asyncio.get_running_loop().create_future()
        self._current = invocation
        self._next.put_nowait(invocation)
        try:
            async with asyncio.timeout(self._function.timeout_s):
                return await self._unless_over(invocation.outcome)
        except TimeoutError:
            what = f"RequestId: {invocation.request_id} Error: Task"
            raise timed_out(what, self._function.timeout_s) from None

    def give_up(self, reason: FunctionError) -> None:
        """End every wait for the child with this reason."""
        if not self._over.done():
            self._over.set_result(reason)

    async def stop(self) -> None:
        """End the child, as Lambda does, without asking it, and close the port."""
        self.give_up(FunctionError("Sandbox.Stopped", "function stopped"))
        if self._process is not None and self._process.returncode is None:
            _end_group(self._process.pid)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_END_S)
        for task in self._tasks:
            task.cancel()
        await self._api.cleanup()

    async def _unless_over(self, future: asyncio.Future[_T]) -> _T:
        either: set[asyncio.Future[Any]] = {future, self._over}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        raise self._over.result()

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        _end_group(process.pid)
        self.give_up(self._init_error or _exited(self._current, code))

    async def _copy_log(self, pipe: io.FileIO) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        with contextlib.closing(transport):
            await self._copy_lines(reader)

    async def _copy_lines(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await reader.read(_MAX_LOG_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) >= _MAX_LOG_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._log_line(line)
        self._log_line(rest)

    def _log_line(self, line: bytes) -> None:
        # The runtime client parts the lines of one stack trace by CR.
        text = line.decode(errors="replace").replace("\r", "\n").rstrip()
        if text:
            self._log.info("%s", text)

    async def _serve_next(self, _request: web.Request) -> web.Response:
        if not self._polled.done():
            self._polled.set_result(None)
        invocation = await self._next.get()
        root = f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()}"
        return web.Response(
            body=invocation.payload,
            content_type="application/json",
            headers={
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": self._function.arn,
                "Lambda-Runtime-Trace-Id": f"{root};Parent={os.urandom(8).hex()};Sampled=0",
            },
        )

    async def _serve_response(self, request: web.Request) -> web.Response:
        answer = await request.read()
        self._awaited(request).outcome.set_result(answer)
        return web.json_response({"status": "OK"}, status=202)

    async def _serve_error(self, request: web.Request) -> web.Response:
        error = _reported(await request.read())
        self._awaited(request).outcome.set_exception(error)
        return web.json_response({"status": "OK"}, status=202)

    async def _serve_init_error(self, request: web.Request) -> web.Response:
        self._init_error = _reported(await request.read())
        return web.json_response({"status": "OK"}, status=202)

    def _awaited(self, request: web.Request) -> Invocation:
        current = self._current
        wanted = request.match_info["id"]
        if current is None or current.request_id != wanted or current.outcome.done():
            raise web.HTTPBadRequest(
                text=json.dumps({"errorType": "InvalidRequestID"}),
                content_type="application/json",
            )
        return current


def _end_group(pid: int) -> None:
    """End a child, and what it started and left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _child_environment(function: Function, api: str) -> dict[str, str]:
    passed_on = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
    return {
        **{name: os.environ[name] for name in passed_on if name in os.environ},
        **NO_ONE_ELSES_AWS,
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
        "AWS_REGION": function.region,
        "AWS_DEFAULT_REGION": function.region,
        **function.env,
        "AWS_LAMBDA_RUNTIME_API": api,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": MEMORY_MB,
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "local",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python{}.{}".format(*sys.version_info),
        "LAMBDA_TASK_ROOT": str(function.code_dir),
        "_HANDLER": function.handler,
    }


def _reported(body: bytes) -> FunctionError:
    try:
        report = json.loads(body)
        trace = tuple(str(line) for line in report.get("stackTrace") or ())
        return FunctionError(report["errorType"], report["errorMessage"], trace)
    except (ValueError, KeyError, AttributeError, TypeError):
        return FunctionError("Runtime.Unknown", body.decode(errors="replace"))


def _exited(current: Invocation | None, code: int) -> FunctionError:
    how = (
        f"exit status {code}" if code >= 0 else f"signal: {signal.Signals(-code).name}"
    )
    who = f"RequestId: {current.request_id} " if current else ""
    return FunctionError(
        "Runtime.ExitError", f"{who}Error: Runtime exited with error: {how}"
    )
