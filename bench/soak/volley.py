"""
Raw requests over plain sockets, many at a time, and the answers taken apart.

A volley writes to every connection before it reads from any.
"""

import re
import select
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress

from bench.errors import RunError
from local.environment import LOOPBACK

CONNECTIONS = 64
_TIMEOUT_S = 60.0
_PATIENCE_S = 0.1
_RECEIVE_BYTES = 256 * 1024
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)
_NO_LINGER = struct.pack("ii", 1, 0)


class Line:
    """One connection that stays, with several requests on it at a time."""

    def __init__(self, port: int, address: str = LOOPBACK) -> None:
        self._unread = b""
        self._sock = connected(port, address)

    def send(self, requests: Sequence[bytes]) -> None:
        """Write them all at once."""
        self._sock.sendall(b"".join(requests))

    def answers(self, count: int) -> list[tuple[int, bytes]]:
        """
        Read so many answers: status and body.

        Raises:
            RunError: The connection ended before.
        """
        return [self._answer() for _ in range(count)]

    def close(self) -> None:
        """Go."""
        self._sock.close()

    def _answer(self) -> tuple[int, bytes]:
        while (end := self._unread.find(b"\r\n\r\n") + 4) < 4:
            self._receive()
        head, self._unread = self._unread[:end], self._unread[end:]
        status = _STATUS.match(head)
        if status is None:
            raise RunError(f"this is no answer: {head[:200]!r}")
        said = _LENGTH.search(head)
        length = int(said[1]) if said else 0
        while len(self._unread) < length:
            self._receive()
        body, self._unread = self._unread[:length], self._unread[length:]
        return int(status[1]), body

    def _receive(self) -> None:
        more = self._sock.recv(_RECEIVE_BYTES)
        if not more:
            raise RunError(f"closed within an answer: {self._unread[:200]!r}")
        self._unread += more


def throw(
    port: int, raws: Sequence[bytes], how: str, address: str = LOOPBACK
) -> list[bytes]:
    """
    Send each on a connection of its own; returns what came back.

    Args:
        how: To go: ``half`` closes one direction and reads to the end, ``read``
            takes what comes first, ``reset`` waits for nothing.
    """
    socks = []
    for raw in raws:
        sock = connected(port, address)
        socks.append(sock)
        with suppress(OSError):
            sock.sendall(raw)
            if how == "half":
                sock.shutdown(socket.SHUT_WR)
    if how == "half":
        heard = [_to_the_end(sock) for sock in socks]
    else:
        heard = _first_words(socks) if how == "read" else [b""] * len(socks)
    for sock in socks:
        if how != "half":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        sock.close()
    return heard


def _to_the_end(sock: socket.socket) -> bytes:
    heard = b""
    with suppress(OSError):
        while more := sock.recv(_RECEIVE_BYTES):
            heard += more
    return heard


def _first_words(socks: list[socket.socket]) -> list[bytes]:
    """Take what comes soon; what is not a whole request is not answered so soon."""
    heard = dict.fromkeys(socks, b"")
    until_s = time.monotonic() + _PATIENCE_S
    silent = set(socks)
    while silent and (left_s := until_s - time.monotonic()) > 0:
        for sock in select.select(silent, (), (), left_s)[0]:
            silent.remove(sock)
            with suppress(OSError):
                heard[sock] = sock.recv(_RECEIVE_BYTES)
    return list(heard.values())


def connected(port: int, address: str = LOOPBACK) -> socket.socket:
    """Connect, with a time limit on everything."""
    sock = socket.create_connection((address, port), timeout=_TIMEOUT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
