"""
The crowd: clients in one thread, each in a role, replaced when they go.

Every loop is bounded by the time it was given; nobody connects to anything but
the server it was told of.
"""

import errno
import random
import re
import select
import socket
import struct
import time
from collections import Counter
from contextlib import suppress
from heapq import heappop, heappush

from bench.server import Running
from local.environment import LOOPBACK

MEAN_LIFE_S = 20.0
POSTS_PER_S = 100
MAX_EVENTS_OF_A_FILE = 900
"""A report names its attempt, and there are a thousand at most."""

_PUBLISHERS = 8
_OPEN_AT_ONCE = 64
_RECEIVE_BYTES = 64 * 1024
_SMALL_BUFFER_BYTES = 4096
_GARBAGE = b"\x00GARBAGE / HTTP/9\r\n\r\n" * 1024
ROLES = {
    "reader": 40,
    "poller": 15,
    "board": 10,
    "reset": 10,
    "stalled": 5,
    "half-closed": 5,
    "garbage": 5,
    "half a head": 3,
    "stranger": 3,
    "pipeline": 4,
}
"""How many of a hundred behave like that."""

_AFTER = re.compile(rb'"after":(\d+)')
_POLL_S = 15
_ID = re.compile(rb"^id: (\d+)\n", re.MULTILINE)
_NO_LINGER = struct.pack("ii", 1, 0)


class Client:
    """
    One connection.

    Attributes:
        seen: Last seq that was read, or 0.
        tail: The last bytes, where a frame may be cut.
    """

    __slots__ = ("file", "role", "seen", "sock", "tail")

    def __init__(self, sock: socket.socket, role: str, file: int) -> None:
        self.sock = sock
        self.role = role
        self.file = file
        self.seen = 0
        self.tail = b""


class Crowd:
    """
    Many clients of one server.

    Attributes:
        counts: What happened, by name.
        gaps: Events that a reader did not get, or got twice.
    """

    def __init__(self, running: Running, *, held: int, files: int) -> None:
        self._running = running
        self._held = held
        self._files = files
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._leaving: list[tuple[float, int, Client]] = []
        self._publishers: dict[int, socket.socket] = {}
        self._idle: list[socket.socket] = []
        self._seqs = Counter[int]()
        self._number = 0
        self._random = random.Random(7)
        self.counts: Counter[str] = Counter()
        self.gaps = 0

    @property
    def hot_file(self) -> int:
        """The file of every second report, which the stalled ones follow."""
        return self._files + self.counts["reports sent"] // 2 // MAX_EVENTS_OF_A_FILE

    def __len__(self) -> int:
        return len(self._clients)

    def churn(self, seconds: float) -> None:
        """Keep the crowd full, moving and informed for a while."""
        until_s = time.monotonic() + seconds
        posted_s = time.monotonic()
        while (now_s := time.monotonic()) < until_s:
            for _ in range(min(_OPEN_AT_ONCE, self._held - len(self))):
                self._come(now_s)
            self._turn(0.005)
            while self._leaving and self._leaving[0][0] <= now_s:
                _, _, client = heappop(self._leaving)
                self._act(client)
            while posted_s < now_s:
                posted_s += 1 / POSTS_PER_S
                self._publish()

    def leave(self) -> None:
        """Close every connection."""
        for client in list(self._clients.values()):
            self._go(client, "left at the end")
        for sock in self._publishers.values():
            sock.close()
        self._publishers.clear()
        self._idle.clear()
        self._leaving.clear()

    def _come(self, now_s: float) -> None:
        roles, weights = zip(*ROLES.items(), strict=True)
        role = self._random.choices(roles, weights)[0]
        file = self._random.randrange(self._files)
        sock = socket.socket()
        if role == "stalled":
            file = self.hot_file
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_BYTES)
        try:
            sock.connect((LOOPBACK, self._running.port))
        except OSError as error:
            self.counts[f"connect: {errno.errorcode.get(error.errno or 0)}"] += 1
            sock.close()
            return
        sock.settimeout(0)
        client = Client(sock, role, file)
        self._clients[sock.fileno()] = client
        mask = select.EPOLLRDHUP if role == "stalled" else select.EPOLLIN
        self._epoll.register(sock.fileno(), mask)
        self._number += 1
        life_s = self._random.expovariate(1 / MEAN_LIFE_S)
        heappush(self._leaving, (now_s + life_s, self._number, client))
        self.counts[role] += 1
        self._send(client, self._first(role, file))
        if role == "half-closed":
            with suppress(OSError):
                sock.shutdown(socket.SHUT_WR)

    def _first(self, role: str, file: int) -> bytes:
        stream = self._running.subscriber(file) + b"\r\n"
        poll = _poll(stream, after=1)
        if role == "poller":
            return poll
        if role == "board":
            path, _, rest = stream.partition(b" HTTP/1.1")
            name = path.split(b"/")[3]
            return b"GET /v1/events?file=" + name + b" HTTP/1.1" + rest
        if role == "half a head":
            return stream[:40]
        if role == "stranger":
            return stream.replace(b"Bearer ", b"Bearer x")
        if role == "pipeline":
            return poll.replace(b"wait=", b"wait=0&was=") * 2 + stream
        return stream

    def _act(self, client: Client) -> None:
        """Do what a role does when its time has come."""
        if self._clients.get(client.sock.fileno()) is not client:
            return
        if client.role == "garbage":
            self._send(client, _GARBAGE)
        if client.role == "reset":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._go(client, "left")

    def _turn(self, wait_s: float) -> None:
        for number, mask in self._epoll.poll(wait_s):
            if number in self._publishers:
                self._answered(self._publishers[number])
            elif client := self._clients.get(number):
                self._heard(client, mask)

    def _heard(self, client: Client, mask: int) -> None:
        if client.role == "stalled":
            self._go(client, "cut off")
            return
        try:
            data = client.sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._go(client, "closed by the server" if mask else "")
        elif client.role == "reader":
            self._check(client, data)
        elif client.role == "poller" and (after := _AFTER.search(data)):
            stream = self._running.subscriber(client.file) + b"\r\n"
            self._send(client, _poll(stream, after=int(after[1])))

    def _check(self, client: Client, data: bytes) -> None:
        text = client.tail + data
        whole, mark, client.tail = text.rpartition(b"\n\n")
        for found in _ID.findall(whole + mark):
            seq = int(found)
            self.counts["events read"] += 1
            self.counts["events that followed"] += client.seen > 0
            if client.seen and seq != client.seen + 1:
                self.gaps += 1
            client.seen = seq

    def _send(self, client: Client, data: bytes) -> None:
        try:
            client.sock.send(data)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                self._go(client, "gone while sending")

    def _go(self, client: Client, why: str) -> None:
        number = client.sock.fileno()
        if self._clients.pop(number, None) is None:
            return
        client.sock.close()
        self.counts[why] += 1

    def _publish(self) -> None:
        """Post one report, unless all earlier ones are still being stored."""
        if not self._idle:
            if len(self._publishers) == _PUBLISHERS:
                self.counts["reports held back"] += 1
                return
            sock = socket.create_connection((LOOPBACK, self._running.port))
            self._publishers[sock.fileno()] = sock
            self._epoll.register(sock.fileno(), select.EPOLLIN)
            self._idle.append(sock)
        is_hot = self.counts["reports sent"] % 2 == 0
        file = self.hot_file if is_hot else self._random.randrange(self._files)
        self._seqs[file] += 1
        self._idle.pop().sendall(self._running.publication(file, self._seqs[file] + 1))
        self.counts["reports sent"] += 1

    def _answered(self, sock: socket.socket) -> None:
        answer = sock.recv(_RECEIVE_BYTES)
        if not answer:
            # It was idle for longer than a server keeps a connection.
            del self._publishers[sock.fileno()]
            self._idle = [one for one in self._idle if one is not sock]
            sock.close()
            return
        # Two of one file may change places on their way; the later wins.
        taken = answer.startswith(b"HTTP/1.1 200 ")
        self.counts["reports taken" if taken else "reports refused"] += 1
        self._idle.append(sock)


def _poll(stream: bytes, *, after: int) -> bytes:
    """Make the request of a stream that of a long-poll."""
    query = b"?after=%d&wait=%d" % (after, _POLL_S)
    path, version, rest = stream.partition(b" HTTP/1.1\r\n")
    return path + query + version + rest.replace(b"text/event-stream", b"*/*")
