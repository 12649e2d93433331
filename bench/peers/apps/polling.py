"""Polling: the row is read again and again until it says something new (design v1)."""

from collections.abc import AsyncIterator

import asyncpg
from aiohttp import web

from bench.peers.apps.serving import DATABASE_URL, serve_aiohttp

_TABLE = "create table if not exists files (id text primary key, state json not null)"
_PUT = """
insert into files (id, state) values ($1, $2)
on conflict (id) do update set state = excluded.state
"""
_POOL: web.AppKey["asyncpg.Pool[asyncpg.Record]"] = web.AppKey("pool", asyncpg.Pool)


async def _database(app: web.Application) -> AsyncIterator[None]:
    async with asyncpg.create_pool(DATABASE_URL, min_size=8, max_size=8) as pool:
        await pool.execute(_TABLE)
        app[_POOL] = pool
        yield


async def show(request: web.Request) -> web.Response:
    """Show a file as it is now."""
    state = await request.app[_POOL].fetchval(
        "select state from files where id = $1", request.match_info["file_id"]
    )
    if state is None:
        return web.Response(status=204)
    return web.Response(text=state, content_type="application/json")


async def publish(request: web.Request) -> web.Response:
    """Store a file as it is now; answered after the commit."""
    file_id, state = request.match_info["file_id"], await request.text()
    await request.app[_POOL].execute(_PUT, file_id, state)
    return web.json_response({"outcome": "taken"})


app = web.Application()
app.router.add_get("/files/{file_id}/events", show)
app.router.add_post("/files/{file_id}", publish)
app.cleanup_ctx.append(_database)

if __name__ == "__main__":
    serve_aiohttp(app)
