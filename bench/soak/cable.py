"""
A network of its own for others, joined to ours by one cable that can be pulled.

Source: ip-netns(8), veth(4), setns(2).
"""

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.errors import MissingError, RunError

_CLONE_NEWNET = 0x40000000
_NAMESPACES = Path("/run/netns")


class Cable:
    """
    Two ends: ours, and theirs.

    Attributes:
        address: Where they find us.
        theirs: Where we find them.
    """

    def __init__(self, name: str, address: str, theirs: str) -> None:
        self.address = address
        self.theirs = theirs
        self._name = name

    def over_there(self, command: Sequence[str]) -> list[str]:
        """Make it a command that runs there."""
        return [_program(), "netns", "exec", self._name, *command]

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
def cable(number: int = 0) -> Iterator[Cable]:
    """
    Lay a cable for the length of the block.

    Args:
        number: Of several that lie at a time, from 0 to 6.

    Raises:
        MissingError: We may not, or there is no iproute2.
    """
    # Unlike that of anybody else who runs this now.
    own = os.getpid() % 2**14
    name, ours = f"rr-{os.getpid()}-{number}", f"rr{os.getpid()}-{number}"
    network = f"10.{224 + own // 4096 + 4 * number}.{own // 16 % 256}"
    here, there = (f"{network}.{own % 16 * 4 + host}" for host in (1, 2))
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
        yield Cable(name, here, there)
    finally:
        _ip("netns", "delete", name)


def _program() -> str:
    program = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        raise MissingError("ip: apt-get install iproute2")
    return program


def _ip(*arguments: str) -> None:
    command = [_program(), *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise RunError(f"ip {' '.join(arguments)}: {done.stderr.decode().strip()}")
