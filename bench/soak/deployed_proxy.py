"""
Proxies with the configurations of deploy/, and no others.

Addresses, certificates, folders and accounts are this machine's; whatever else the
files say, they say to the proxies.  What is not in them is what Debian comes with.
"""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from bench.errors import RunError
from bench.soak.stock_proxy import CADDY, HAPROXY, NGINX, Proxy, nginx_user
from local.environment import CODE, LOOPBACK

_ELSEWHERE = "127.0.0.2"
"""In place of IPv6, which a machine may not have, and of plain HTTP."""

_NGINX = """
daemon off;
{user}
worker_processes auto;
pid {folder}/pid;
error_log {folder}/errors.log;
include /etc/nginx/modules-enabled/*.conf;
events {{ worker_connections 768; }}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    gzip on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {deployed}
}}
"""
_CADDY = """
{{
    admin off
    auto_https disable_redirects
    skip_install_trust
    storage file_system {folder}
}}
{deployed}
"""
_ACCOUNTS = re.compile(r"^ *(?:user|group|chroot) .*\n", re.MULTILINE)


def _anybody() -> ssl.SSLContext:
    """Believe every certificate: Caddy makes its own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True, kw_only=True)
class DeployedProxy(Proxy):
    """
    One as we tell people to run it.

    Attributes:
        file: Below deploy/.
        here: What stands in it, and what stands there on this machine.
        around: What is around it on a machine of its own.
        gateway: Where the file finds it.
        timeout: As the file has it, to be scaled down.
    """

    file: str
    here: Mapping[str, str]
    around: str = "{deployed}"
    gateway: str = "127.0.0.1:8080"
    timeout: str = ""
    trust: ssl.SSLContext | None = field(default_factory=_anybody, init=False)

    def written(self, folder: Path, port: int, upstream: str, idle_s: int) -> str:
        """
        Write the file with what is here.

        Raises:
            RunError: It says something else than it did.
        """
        _certify(folder)
        deployed = (CODE / "deploy" / self.file).read_text("ascii")
        scaled = {self.timeout: f"{idle_s}s"} if idle_s and self.timeout else {}
        for theirs, ours in {**self.here, self.gateway: upstream, **scaled}.items():
            if theirs not in deployed:
                raise RunError(f"{self.file} does not say {theirs}")
            deployed = deployed.replace(theirs, ours.format(folder=folder, port=port))
        if os.geteuid() != 0:
            deployed = _ACCOUNTS.sub("", deployed)
        return self.around.format(folder=folder, user=nginx_user(), deployed=deployed)


def _certify(folder: Path) -> None:
    """Make a certificate, with its key behind it and beside it."""
    made = trustme.CA().issue_cert(LOOPBACK)
    made.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    made.private_key_pem.write_to_path(folder / "key.pem")
    made.cert_chain_pems[0].write_to_path(folder / "chain.pem")


_OF_HAPROXY = {
    "/etc/haproxy/reelready.pem": "{folder}/both.pem",
    "bind :443 ": f"bind {LOOPBACK}:{{port}} ",
    "bind :80\n": f"bind {_ELSEWHERE}:{{port}}\n",
    "log /dev/log ": "log stdout format raw ",
    "/run/haproxy/": "{folder}/",
    "maxconn 50000": "maxconn 2000",
}
_LIVE = "/etc/letsencrypt/live/video.example.com"
DEPLOYED_PROXIES = (
    DeployedProxy(
        name="nginx, deployed",
        program=NGINX.program,
        package=NGINX.package,
        command=NGINX.command,
        file="nginx/reelready.conf",
        around=_NGINX,
        timeout="75s",
        here={
            f"{_LIVE}/fullchain.pem": "{folder}/chain.pem",
            f"{_LIVE}/privkey.pem": "{folder}/key.pem",
            "listen 443 ": f"listen {LOOPBACK}:{{port}} ",
            "    listen [::]:443 ssl http2 backlog=4096;\n": "",
            "listen 80;": f"listen {_ELSEWHERE}:{{port}};",
            "    listen [::]:80;\n": "",
            "server_name video.example.com": f"server_name {LOOPBACK}",
            "/var/log/nginx/": "{folder}/",
        },
    ),
    DeployedProxy(
        name="HAProxy, deployed",
        program=HAPROXY.program,
        package=HAPROXY.package,
        command=HAPROXY.command,
        file="haproxy/haproxy.cfg",
        timeout="75s",
        here=_OF_HAPROXY,
    ),
    DeployedProxy(
        name="Caddy, deployed",
        program=CADDY.program,
        package=CADDY.package,
        command=CADDY.command,
        file="caddy/Caddyfile",
        around=_CADDY,
        here={
            "{$REELREADY_SITE:video.example.com}": f"https://{LOOPBACK}:{{port}}",
            "/var/log/caddy/": "{folder}/",
        },
    ),
)


def balancer(second: str) -> DeployedProxy:
    """Give HAProxy as it stands before two machines; `second`: where the other one is."""
    return DeployedProxy(
        name="HAProxy before machines, deployed",
        program=HAPROXY.program,
        package=HAPROXY.package,
        command=HAPROXY.command,
        file="haproxy/machines.cfg",
        gateway="10.0.0.11:8080",
        timeout="75s",
        here={**_OF_HAPROXY, "10.0.0.12:8080": second},
    )
