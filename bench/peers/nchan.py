"""nginx with the nchan module, as Debian packages them: C, in memory."""

import grp
import os
import pwd
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from string import Template

from bench.children import Children, free_port, listening
from bench.database import Databases
from bench.document import document, file_id
from bench.procfs import tree
from bench.server import Contestant, Kind, Running, Terms, get, post

_NAME = "nchan"
_TEMPLATE = Path(__file__).with_name("nchan.conf")
_MODULES = (
    "/usr/lib/nginx/modules/ngx_nchan_module.so",
    "/usr/lib64/nginx/modules/ngx_nchan_module.so",
)
_SUBSCRIBERS = {Kind.SSE: "eventsource", Kind.LONG_POLL: "longpoll"}


def _nginx() -> str | None:
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")


def _module() -> str | None:
    return next((one for one in _MODULES if Path(one).exists()), None)


def _worker_user() -> str:
    """Root must name who its workers run as, and the group's name differs."""
    if os.geteuid() != 0:
        return ""
    nobody = pwd.getpwnam("nobody")
    return f"user nobody {grp.getgrgid(nobody.pw_gid).gr_name};"


def _missing() -> str:
    if _nginx() is None:
        return "nginx is not installed"
    if _module() is None:
        return "nginx has no nchan module (Debian: libnginx-mod-nchan)"
    return ""


def _subscriber(kind: Kind, file: int) -> bytes:
    path = f"/files/{file_id(file)}/events"
    return get(path, "Accept: text/event-stream") if kind is Kind.SSE else get(path)


def _publication(file: int, seq: int) -> bytes:
    return post(f"/files/{file_id(file)}", document(file, seq))


@asynccontextmanager
async def _start(
    kind: Kind, children: Children, _: Databases, terms: Terms
) -> AsyncIterator[Running]:
    folder, port = children.temporary("nchan-"), free_port()
    folder.chmod(0o711)  # the worker is another user when we are root
    conf = folder / "nginx.conf"
    words = {
        "module": _module(),
        "user": _worker_user(),
        "folder": folder,
        "port": port,
        "subscriber": _SUBSCRIBERS[kind],
        "heartbeat_s": terms.heartbeat_s,
    }
    conf.write_text(Template(_TEMPLATE.read_text(encoding="ascii")).substitute(words))
    command = [_nginx() or "nginx", "-e", "stderr", "-p", str(folder), "-c", str(conf)]
    async with children.child(
        _NAME, command, env=os.environ, is_server=True
    ) as process:
        await listening(port, process, children, _NAME)
        yield Running(
            port=port,
            pids=lambda: tree(process.pid),
            subscriber=partial(_subscriber, kind),
            publication=_publication,
            heartbeat=": ",
        )


NCHAN = Contestant(
    name="nchan",
    kind=Kind.SSE,
    about="nginx + nchan (C), SSE, in memory",
    start=partial(_start, Kind.SSE),
    missing=_missing,
)
NCHAN_LONG_POLL = Contestant(
    name="nchan-lp",
    kind=Kind.LONG_POLL,
    about="nginx + nchan (C), long-poll, in memory",
    start=partial(_start, Kind.LONG_POLL),
    missing=_missing,
)
