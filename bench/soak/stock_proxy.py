"""
Proxies as Debian packages them, told where the gateway is and nothing else.

What stands in a configuration beside that is what stands in the one that comes
with the package, and where it keeps its files.
"""

import grp
import os
import pwd
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

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
class StockProxy:
    """
    One proxy.

    Attributes:
        package: Of Debian.
        idle_s: After so much silence it cuts a connection; 0: never.
    """

    name: str
    package: str
    configuration: str
    command: Callable[[str, Path], Sequence[str]]
    listen: Callable[[str, int], str]
    between: str = "\n"
    idle_s: int = 0
    env: Mapping[str, str] = field(default_factory=dict)

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
        where = shutil.which(self.name, path=f"{os.environ['PATH']}:/usr/sbin")
        if where is None:
            raise MissingError(f"{self.name}: apt-get install {self.package}")
        folder, port = children.temporary(f"{self.name}-"), free_port()
        folder.chmod(0o777)  # its workers may run as another user
        seconds = idle_s or self.idle_s
        path = folder / "configuration"
        path.write_text(
            self.configuration.format(
                folder=folder,
                user=_user(),
                listen=self.between.join(self.listen(one, port) for one in ADDRESSES),
                upstream=f"{LOOPBACK}:{upstream_port}",
                nginx_timeout=f"proxy_read_timeout {idle_s}s;" if idle_s else "",
                haproxy_timeout_ms=seconds * 1000,
                compress="encode gzip" if self.name == "caddy" else "",
            ),
            encoding="ascii",
        )
        env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        async with children.child(self.name, self.command(where, path), env=env) as one:
            await listening(port, one, children, self.name)
            yield Standing(port, folder / "errors.log")


@dataclass(frozen=True)
class Standing:
    """
    A proxy that is up.

    Attributes:
        port: The same on each of `ADDRESSES`.
    """

    port: int
    _errors: Path

    def errors(self) -> list[str]:
        """Lines of what nginx could not do."""
        lines = self._errors.read_text(errors="replace").splitlines()
        return [line for line in lines if "[error]" in line]


def _user() -> str:
    """Root must name who its workers run as, and the group's name differs."""
    if os.geteuid() != 0:
        return ""
    nobody = pwd.getpwnam("nobody")
    return f"user nobody {grp.getgrgid(nobody.pw_gid).gr_name};"


NGINX = StockProxy(
    name="nginx",
    package="nginx-core",
    configuration=_NGINX,
    command=lambda where, path: [where, "-e", "stderr", "-c", str(path)],
    listen=lambda address, port: f"listen {address}:{port};",
    idle_s=60,
)
HAPROXY = StockProxy(
    name="haproxy",
    package="haproxy",
    configuration=_HAPROXY,
    command=lambda where, path: [where, "-db", "-f", str(path)],
    listen=lambda address, port: f"bind {address}:{port}",
    idle_s=50,
)
CADDY = StockProxy(
    name="caddy",
    package="caddy",
    configuration=_CADDY,
    command=lambda where, path: [
        *(where, "run", "--adapter", "caddyfile", "--config", str(path))
    ],
    listen=lambda address, port: f"http://{address}:{port}",
    between=", ",
)
STOCK_PROXIES = (NGINX, HAPROXY, CADDY)
