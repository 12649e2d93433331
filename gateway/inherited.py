"""
Listening sockets that somebody else opened for us, so that a restart refuses
nobody: what comes while no process accepts waits in the socket's backlog; and
what to say of those that cannot be opened.

Source: systemd, sd_listen_fds(3), "socket activation".
"""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gateway.config import PREFIX
from gateway.errors import ConfigError

FIRST_FD = 3
"""Number of the first of them: systemd's SD_LISTEN_FDS_START."""


def listening_sockets(environ: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """
    Take over the sockets that were passed to this very process; often none.

    Raises:
        ConfigError: ``LISTEN_FDS`` is not a number of listening stream sockets.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    number = environ.get("LISTEN_FDS", "")
    if not (number.isascii() and number.isdigit() and 0 < int(number) < 100):  # noqa: PLR2004 - a typing error, not a limit
        raise ConfigError("LISTEN_FDS", f"{number!r} is not a number of sockets")
    return [_taken(fd) for fd in range(FIRST_FD, FIRST_FD + int(number))]


@contextmanager
def opening(host: str, port: int) -> Iterator[None]:
    """
    Name the settings of an address that cannot be listened on.

    Raises:
        OSError: It is not ours, in use, or none.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        # A name that is none has numbers of its own.
        if error.errno and not isinstance(error, socket.gaierror):
            why = os.strerror(error.errno)
        msg = f"{PREFIX}HOST, {PREFIX}PORT: cannot listen on {host}:{port}: {why}"
        raise OSError(msg) from error


def _taken(fd: int) -> socket.socket:
    try:
        taken = socket.socket(fileno=fd)
        listens = taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        problem = f"descriptor {fd} is no socket: {error.strerror}"
        raise ConfigError("LISTEN_FDS", problem) from None
    if not listens or taken.family not in {socket.AF_INET, socket.AF_INET6}:
        taken.detach()
        raise ConfigError("LISTEN_FDS", f"descriptor {fd} is no listening TCP socket")
    os.set_inheritable(fd, False)  # noqa: FBT003 - its only argument
    return taken
