"""WebSocket on aiohttp with a queue per subscriber in the process."""

import asyncio

from aiohttp import WSMsgType, web

from bench.peers.apps.queues import Queues
from bench.peers.apps.serving import HEARTBEAT_S, serve_aiohttp

_queues = Queues()


async def _forward(socket: web.WebSocketResponse, queue: asyncio.Queue[str]) -> None:
    while True:
        await socket.send_str(await queue.get())


async def events(request: web.Request) -> web.WebSocketResponse:
    """Wait for events of one file."""
    file_id = request.match_info["file_id"]
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, compress=False)
    queue = _queues.join(file_id)
    forward = None
    try:
        await socket.prepare(request)
        forward = asyncio.create_task(_forward(socket, queue))
        async for said in socket:
            if said.type is WSMsgType.ERROR:
                break
    finally:
        if forward is not None:
            forward.cancel()
        _queues.leave(file_id, queue)
    return socket


async def publish(request: web.Request) -> web.Response:
    """Take one event."""
    _queues.put(request.match_info["file_id"], await request.text())
    return web.json_response({"outcome": "taken"})


app = web.Application()
app.router.add_get("/files/{file_id}/events", events)
app.router.add_post("/files/{file_id}", publish)

if __name__ == "__main__":
    serve_aiohttp(app)
