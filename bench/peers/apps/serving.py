"""Settings and the way to serve, the same for every Python peer."""

import os
from typing import Any

import uvloop

PORT = int(os.environ["BENCH_PORT"])
HEARTBEAT_S = int(os.environ["BENCH_HEARTBEAT_S"])
DATABASE_URL = os.environ.get("BENCH_DATABASE_URL", "")
REDIS_URL = os.environ.get("BENCH_REDIS_URL", "")

HOST = "127.0.0.1"
BACKLOG = 4096


def serve_starlette(app: Any) -> None:
    """Uvicorn with the fast loop and the fast parser."""
    import uvicorn  # noqa: PLC0415 - not needed by the aiohttp peers

    uvicorn.run(
        app,
        host=HOST,
        port=PORT,
        loop="uvloop",
        http="httptools",
        backlog=BACKLOG,
        access_log=False,
        log_level="warning",
    )


def serve_aiohttp(app: Any) -> None:
    """
    Run aiohttp on uvloop.

    A handler is cancelled when its client goes; aiohttp's default is to keep it
    until its next write, which a storm turns against it.
    """
    from aiohttp import web  # noqa: PLC0415 - not needed by the starlette peers

    web.run_app(
        app,
        host=HOST,
        port=PORT,
        backlog=BACKLOG,
        access_log=None,
        print=None,
        handler_cancellation=True,
        loop=uvloop.new_event_loop(),
    )
