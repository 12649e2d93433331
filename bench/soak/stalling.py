"""
Readers in a process of their own, which stop reading when they are told to.

`python -m bench.soak.stalling` reads one line of JSON, which says where to go and
what to send, connects and reads.  After a line more it reads nothing, and says how
many were cut off until then.
"""

import json
import os
import select
import socket
import sys

OPEN_AT_ONCE = 250

_RECEIVE_BYTES = 4096
_PAUSE_S = 0.1


class _Readers:
    """
    Connections, read by whoever calls `read`.

    Attributes:
        lost: Cut off although they were read.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._socks: dict[int, socket.socket] = {}
        self._epoll = select.epoll()
        self._epoll.register(sys.stdin.fileno(), select.EPOLLIN)

    def come(self, address: tuple[str, int], request: bytes) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        sock.connect(address)
        sock.sendall(request)
        self._socks[sock.fileno()] = sock
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def read(self) -> bool:
        """Take what has come, or comes soon; returns whether to go on."""
        goes_on = True
        for number, _ in self._epoll.poll(_PAUSE_S):
            if number == sys.stdin.fileno():
                goes_on = False
            else:
                self._take(self._socks[number])
        return goes_on

    def _take(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._epoll.unregister(sock.fileno())
            self.lost += 1


def main() -> None:
    """Come, read, stall, until our input ends."""
    os.nice(19)  # whoever measures comes first, as when nobody reads
    asked = json.loads(sys.stdin.readline())
    readers = _Readers()
    for number in range(asked["readers"]):
        request = asked["requests"][number % len(asked["requests"])]
        readers.come((asked["address"], asked["port"]), request.encode())
        if number % OPEN_AT_ONCE == 0:
            readers.read()
    while readers.read():
        pass
    print(readers.lost, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
