"""aiohttp-sse with a queue per subscriber in the process: nothing is stored."""

from aiohttp import web
from aiohttp_sse import sse_response

from bench.peers.apps.queues import Queues
from bench.peers.apps.serving import HEARTBEAT_S, serve_aiohttp

_queues = Queues()


async def events(request: web.Request) -> web.StreamResponse:
    """Wait for events of one file."""
    file_id = request.match_info["file_id"]
    queue = _queues.join(file_id)
    try:
        async with sse_response(request) as response:
            response.ping_interval = HEARTBEAT_S
            while True:
                await response.send(await queue.get())
    finally:
        _queues.leave(file_id, queue)


async def publish(request: web.Request) -> web.Response:
    """Take one event."""
    _queues.put(request.match_info["file_id"], await request.text())
    return web.json_response({"outcome": "taken"})


app = web.Application()
app.router.add_get("/files/{file_id}/events", events)
app.router.add_post("/files/{file_id}", publish)

if __name__ == "__main__":
    serve_aiohttp(app)
