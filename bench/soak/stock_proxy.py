"""
Proxies as Debian packages them, told where the gateway is and nothing else.

What stands in a configuration beside that is what stands in the one that comes
with the package, and where it keeps its files.
"""

import grp
import os
import pwd
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext

from bench.children import Children, free_port, listening
from bench.errors import MissingError
from local.environment import LOOPBACK

ADDRESSES = tuple(f"127.0.0.{number}" for number in range(1, 26))
"""A browser opens six connections to each at most."""

_NGINX = """
daemon off;
{user}
worker_processes auto;
pid {folder}/pid;
error_log {folder}/errors.log;
events {{ worker_connections 768; }}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log off;
    gzip on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        {listen}
        location / {{
            {nginx_timeout}
            proxy_pass http://{upstream};
        }}
    }}
}}
"""
_HAPROXY = """
global
    maxconn 2000
defaults
    mode http
    option httplog
    option dontlognull
    timeout connect 5000
    timeout client {haproxy_timeout_ms}
    timeout server {haproxy_timeout_ms}
frontend front
    {listen}
    default_backend gateway
backend gateway
    server one {upstream}
"""
_CADDY = """
{{
    admin off
    auto_https off
    storage file_system {folder}
}}
{listen} {{
    {compress}
    reverse_proxy {upstream}
}}
"""


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """
    One proxy.

    Attributes:
        package: Of Debian.
        trust: For clients, if it speaks TLS to them.
        idle_s: After so much silence it cuts a connection; 0: never.
    """

    name: str
    program: str
    package: str
    command: Callable[[str, Path], Sequence[str]]
    trust: SSLContext | None = None
    idle_s: int = 0

    @asynccontextmanager
    async def before(
        self, upstream_port: int, children: Children, *, idle_s: int = 0
    ) -> AsyncIterator["Standing"]:
        """
        Stand before a gateway for the length of the block.

        Args:
            idle_s: In place of its own.

        Raises:
            MissingError: It is not installed.
            RunError: It does not come up.
        """
        where = shutil.which(self.program, path=f"{os.environ['PATH']}:/usr/sbin")
        if where is None:
            raise MissingError(f"{self.program}: apt-get install {self.package}")
        folder, port = children.temporary(f"{self.program}-"), free_port()
        folder.chmod(0o777)  # its workers may run as another user
        path = folder / "configuration"
        upstream = f"{LOOPBACK}:{upstream_port}"
        path.write_text(self.written(folder, port, upstream, idle_s), encoding="ascii")
        env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        name = folder.name
        async with children.child(name, self.command(where, path), env=env) as one:
            await listening(port, one, children, name, ssl=self.trust)
            yield Standing(self.trust, port, folder, children.log(name))

    def written(self, folder: Path, port: int, upstream: str, idle_s: int) -> str:
        """Write its configuration; `idle_s` 0: as it comes."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class StockProxy(Proxy):
    """One as it is packaged; `listen` says in its words where."""

    configuration: str
    listen: Callable[[str, int], str]
    between: str = "\n"

    def written(self, folder: Path, port: int, upstream: str, idle_s: int) -> str:
        """Write what it comes with, and where the gateway is."""
        return self.configuration.format(
            folder=folder,
            user=nginx_user(),
            listen=self.between.join(self.listen(one, port) for one in ADDRESSES),
            upstream=upstream,
            nginx_timeout=f"proxy_read_timeout {idle_s}s;" if idle_s else "",
            haproxy_timeout_ms=(idle_s or self.idle_s) * 1000,
            compress="encode gzip" if self.program == "caddy" else "",
        )


@dataclass(frozen=True)
class Standing:
    """
    A proxy that is up.

    Attributes:
        port: The same on each of `ADDRESSES`, as far as it listens there.
        folder: Where it has what it writes.
    """

    _trust: SSLContext | None
    port: int
    folder: Path
    _said: Path

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http{'s' if self._trust else ''}://{LOOPBACK}:{self.port}"

    def errors(self) -> list[str]:
        """Lines of what nginx could not do."""
        lines = (self.folder / "errors.log").read_text(errors="replace").splitlines()
        return [line for line in lines if "[error]" in line]

    def logs(self) -> str:
        """Everything it has written for people."""
        paths = [self._said, *sorted(self.folder.glob("*.log"))]
        return "".join(path.read_text(errors="replace") for path in paths)


def nginx_user() -> str:
    """Root must name who its workers run as, and the group's name differs."""
    if os.geteuid() != 0:
        return ""
    nobody = pwd.getpwnam("nobody")
    return f"user nobody {grp.getgrgid(nobody.pw_gid).gr_name};"


NGINX = StockProxy(
    name="nginx",
    program="nginx",
    package="nginx-core",
    configuration=_NGINX,
    command=lambda where, path: [where, "-e", "stderr", "-c", str(path)],
    listen=lambda address, port: f"listen {address}:{port};",
    idle_s=60,
)
HAPROXY = StockProxy(
    name="haproxy",
    program="haproxy",
    package="haproxy",
    configuration=_HAPROXY,
    command=lambda where, path: [where, "-db", "-f", str(path)],
    listen=lambda address, port: f"bind {address}:{port}",
    idle_s=50,
)
CADDY = StockProxy(
    name="caddy",
    program="caddy",
    package="caddy",
    configuration=_CADDY,
    command=lambda where, path: [
        *(where, "run", "--adapter", "caddyfile", "--config", str(path))
    ],
    listen=lambda address, port: f"http://{address}:{port}",
    between=", ",
)
STOCK_PROXIES = (NGINX, HAPROXY, CADDY)
