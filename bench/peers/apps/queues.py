"""One asyncio queue per subscriber, found by file."""

import asyncio
from collections import defaultdict


class Queues:
    """Who waits for which file, in this process."""

    def __init__(self) -> None:
        self._by_file: dict[str, set[asyncio.Queue[str]]] = defaultdict(set)

    def join(self, file_id: str) -> asyncio.Queue[str]:
        """Begin to wait."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._by_file[file_id].add(queue)
        return queue

    def leave(self, file_id: str, queue: asyncio.Queue[str]) -> None:
        """Wait no longer."""
        queues = self._by_file[file_id]
        queues.discard(queue)
        if not queues:
            del self._by_file[file_id]

    def put(self, file_id: str, event: str) -> None:
        """Hand an event to everybody who waits for its file."""
        for queue in self._by_file.get(file_id, ()):
            queue.put_nowait(event)
