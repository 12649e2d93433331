"""
The part of the Lambda API that our workers use: Invoke, without waiting, and a dry
run of it.

What is taken is delivered as Lambda delivers asynchronous invocations: tried
again twice, then dropped into the log.  The faults of the other events do not
touch it.

Source: Lambda API reference, "Invoke"; botocore's model of ``lambda``.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from local.events import EventRouter, Target

_MAX_PAYLOAD_BYTES = 1 << 20
"""Of an asynchronous invocation."""


@contextlib.asynccontextmanager
async def lambda_api(functions: Mapping[str, Target]) -> AsyncIterator[web.Application]:
    """Serve functions by name for as long as the block runs."""
    async with contextlib.AsyncExitStack() as leave:
        queues = {}
        for name, invoke in functions.items():
            queue = EventRouter()
            queue.add_notification(name, invoke)
            queues[name] = await leave.enter_async_context(queue)

        async def take(request: web.Request) -> web.Response:
            name = request.match_info["name"].rpartition(":")[2]
            if not request.headers.get("Authorization", "").startswith("AWS4-HMAC-"):
                return _refused(403, "AccessDeniedException", "Missing signature")
            if name not in queues:
                return _refused(404, "ResourceNotFoundException", f"No function {name}")
            kind = request.headers.get("X-Amz-Invocation-Type")
            if kind == "DryRun":
                return web.Response(status=204)
            if kind != "Event":
                message = "Only InvocationType Event and DryRun are served here"
                return _refused(400, "InvalidParameterValueException", message)
            try:
                event = json.loads(await request.read() or b"{}")
            except ValueError:
                return _refused(400, "InvalidRequestContentException", "Not JSON")
            queues[name].put_s3_event(event)
            return web.Response(status=202)

        app = web.Application(client_max_size=_MAX_PAYLOAD_BYTES)
        app.router.add_post("/2015-03-31/functions/{name}/invocations", take)
        yield app


def _refused(status: int, kind: str, message: str) -> web.Response:
    """As rest-json clients read it."""
    return web.json_response(
        {"Type": "User", "Message": message},
        status=status,
        headers={"x-amzn-ErrorType": kind},
    )
