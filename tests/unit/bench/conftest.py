"""The load client in front of a tiny server whose faults are planted."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from bench.children import Children
from bench.load import Load, compiled
from bench.plan import write_subscribers
from bench.server import Kind, get

# The bench reads /proc and its client waits with epoll.
collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]

Connect = Callable[..., AbstractAsyncContextManager[Load]]


@pytest.fixture(scope="session", autouse=True)
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled once, and not into the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        compiled()
        yield


@pytest_asyncio.fixture
async def children() -> AsyncIterator[Children]:
    async with Children() as started:
        yield started


@pytest.fixture
def connect(children: Children, tmp_path: Path) -> Connect:
    """`async with connect(port, kind, files=[0, 1], ...) as load:`."""

    @asynccontextmanager
    async def running(
        port: int, kind: Kind, *, files: list[int], **arguments: object
    ) -> AsyncIterator[Load]:
        subscribers = tmp_path / "subscribers"
        write_subscribers(subscribers, files, lambda file: get(f"/files/{file}"))
        async with Load.running(
            children,
            port=port,
            kind=kind,
            subscribers=subscribers,
            **arguments,  # type: ignore[arg-type]
        ) as load:
            yield load

    return running
