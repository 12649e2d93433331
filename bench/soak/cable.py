"""
Networks of their own, joined to ours by cables that can be pulled.

Source: ip-netns(8), veth(4), setns(2).
"""

import ctypes
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.errors import MissingError, RunError

ADDRESSES = "10.224.0.0/11"
"""All that cables have, on both ends."""

_CLONE_NEWNET = 0x40000000
_NAMESPACES = Path("/run/netns")
_AT_ONCE = 32
"""Cables of one process."""

_networks = itertools.count()
_cables = itertools.count()


class Cable:
    """
    Two ends: ours, and theirs.

    Attributes:
        address: Where they find us.
        theirs: Where we find them.
    """

    def __init__(self, network: str) -> None:
        number = next(_cables)
        # Unlike those of anybody else who runs this now.
        place = (os.getpid() * _AT_ONCE + number % _AT_ONCE) % 2**19
        prefix = f"10.{224 + place // 2**14}.{place // 2**6 % 2**8}"
        self.address, self.theirs = (
            f"{prefix}.{place % 2**6 * 4 + host}" for host in (1, 2)
        )
        self._network = network
        self._ours, self._end = f"rr{os.getpid()}x{number}", f"theirs{number}"

    def lay(self) -> None:
        """Join the networks."""
        end = ("type", "veth", "peer", "name", self._end, "netns", self._network)
        _ip("link", "add", self._ours, *end)
        _ip("address", "add", f"{self.address}/30", "dev", self._ours)
        _ip("link", "set", self._ours, "up")
        _there(self._network, "address", "add", f"{self.theirs}/30", "dev", self._end)
        _there(self._network, "link", "set", self._end, "up")

    def pull(self) -> None:
        """Take them away at their end: what we send vanishes."""
        _there(self._network, "link", "set", self._end, "down")

    @contextmanager
    def pulled_here(self) -> Iterator[None]:
        """Be away for the length of a block: what they send vanishes."""
        _ip("link", "set", self._ours, "down")
        try:
            yield
        finally:
            _ip("link", "set", self._ours, "up")

    def connect(self, port: int, count: int) -> list[socket.socket]:
        """Open connections from over there to ours."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._connect, port, count).result()

    def _connect(self, port: int, count: int) -> list[socket.socket]:
        """Be over there; only this thread is, and it ends here."""
        libc = ctypes.CDLL(None, use_errno=True)
        with (_NAMESPACES / self._network).open() as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        return [socket.create_connection((self.address, port)) for _ in range(count)]


class Network:
    """One network; nothing leads there but its cables."""

    def __init__(self) -> None:
        self.name = f"rr-{os.getpid()}-{next(_networks)}"

    def cable(self) -> Cable:
        """Lay a cable; it goes with the network."""
        cable = Cable(self.name)
        cable.lay()
        return cable

    def over_there(self, command: Sequence[str]) -> list[str]:
        """Make it a command that runs there."""
        return [_program(), "netns", "exec", self.name, *command]


@contextmanager
def network() -> Iterator[Network]:
    """
    Make a network for the length of the block.

    Raises:
        MissingError: We may not, or there is no iproute2.
    """
    made = Network()
    try:
        _ip("netns", "add", made.name)
    except MissingError:
        raise
    except RunError as error:
        raise MissingError(f"a network namespace, which takes root: {error}") from error
    try:
        _there(made.name, "link", "set", "lo", "up")
        yield made
    finally:
        _ip("netns", "delete", made.name)


@contextmanager
def cable() -> Iterator[Cable]:
    """
    Lay a cable to a network of its own for the length of the block.

    Raises:
        MissingError: We may not, or there is no iproute2.
    """
    with network() as there:
        yield there.cable()


def _there(network: str, *arguments: str) -> None:
    _ip("-n", network, *arguments)


def _ip(*arguments: str) -> None:
    command = [_program(), *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise RunError(f"ip {' '.join(arguments)}: {done.stderr.decode().strip()}")


def _program() -> str:
    program = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        raise MissingError("ip: apt-get install iproute2")
    return program
