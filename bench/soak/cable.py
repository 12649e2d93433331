"""
A network of its own for clients, joined to ours by one cable that can be pulled.

Source: ip-netns(8), veth(4), setns(2).
"""

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.errors import MissingError, RunError

_CLONE_NEWNET = 0x40000000
_NAMESPACES = Path("/run/netns")


class Cable:
    """
    Two ends: ours, and that of the clients.

    Attributes:
        address: Where the clients find us.
    """

    def __init__(self, name: str, address: str) -> None:
        self.address = address
        self._name = name

    def pull(self) -> None:
        """Take the clients away, without a word to anybody."""
        _ip("-n", self._name, "link", "set", "theirs", "down")

    def connect(self, port: int, count: int) -> list[socket.socket]:
        """Open connections from over there to ours."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._connect, port, count).result()

    def _connect(self, port: int, count: int) -> list[socket.socket]:
        """Be over there; only this thread is, and it ends here."""
        libc = ctypes.CDLL(None, use_errno=True)
        with (_NAMESPACES / self._name).open() as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        return [socket.create_connection((self.address, port)) for _ in range(count)]


@contextmanager
def cable() -> Iterator[Cable]:
    """
    Lay a cable for the length of the block.

    Raises:
        MissingError: We may not, or there is no iproute2.
    """
    # Unlike that of anybody else who runs this now.
    number = os.getpid() % 2**14
    name, ours = f"rr-{os.getpid()}", f"rr{os.getpid()}"
    network = f"10.{224 + number // 4096 % 32}.{number // 16 % 256}"
    here, there = (f"{network}.{number % 16 * 4 + host}" for host in (1, 2))
    try:
        _ip("netns", "add", name)
    except RunError as error:
        raise MissingError(f"a network namespace, which takes root: {error}") from error
    try:
        end = ("type", "veth", "peer", "name", "theirs", "netns", name)
        _ip("link", "add", ours, *end)
        _ip("address", "add", f"{here}/30", "dev", ours)
        _ip("link", "set", ours, "up")
        _ip("-n", name, "address", "add", f"{there}/30", "dev", "theirs")
        _ip("-n", name, "link", "set", "theirs", "up")
        yield Cable(name, here)
    finally:
        _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    program = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        raise MissingError("ip: apt-get install iproute2")
    done = subprocess.run([program, *arguments], capture_output=True, check=False)
    if done.returncode != 0:
        raise RunError(f"ip {' '.join(arguments)}: {done.stderr.decode().strip()}")
