"""What a record must say about the machine, so that its figures mean something."""

import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from bench import cores
from bench.peers.environment import cache_folder
from local.environment import CODE

_OURS = ("aiohttp", "asyncpg", "httptools", "msgspec", "pyjwt", "uvloop")
_PEERS = (
    "aiohttp", "aiohttp-sse", "asyncpg", "hiredis", "httptools", "redis",
    "sse-starlette", "starlette", "uvicorn", "uvloop",
)  # fmt: skip


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where, when and with what a run was made.

    Attributes:
        dirty: The work tree had changes that the commit does not hold.
    """

    at: str
    commit: str
    dirty: bool
    command: str
    processor: str
    cores: int
    server_core: int
    client_core: int
    memory_mib: int
    system: str
    kernel: str
    open_files: int
    somaxconn: int
    versions: dict[str, str]


def raise_open_files() -> None:
    """Let this process and its children open as many files as they may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def describe(arguments: list[str], postgres: str) -> Machine:
    """Look around."""
    return Machine(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_git("rev-parse", "--short=12", "HEAD") or "unknown",
        dirty=bool(_git("status", "--porcelain", "--", ":!bench/results")),
        command=" ".join(["python -m bench", *arguments]),
        processor=_field("/proc/cpuinfo", "model name"),
        cores=len(cores.all_cores()),
        server_core=cores.server_core(),
        client_core=cores.client_core(),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        system=_field("/etc/os-release", "PRETTY_NAME", "=").strip('"'),
        kernel=platform.release(),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        somaxconn=int(Path("/proc/sys/net/core/somaxconn").read_text()),
        versions=_versions(postgres),
    )


def _versions(postgres: str) -> dict[str, str]:
    found = {"python": platform.python_version(), "postgres": postgres}
    found |= {f"ours {name}": version(name) for name in _OURS if _installed(name)}
    for name in _PEERS:
        pattern = f"peers-{sys.version_info.major}.{sys.version_info.minor}-*"
        for made in sorted(cache_folder().glob(f"{pattern}/lib/python*/site-packages")):
            infos = made.glob(f"{name.replace('-', '_')}-*.dist-info")
            for info in infos:
                found[f"peers {name}"] = info.name.split("-")[1].removesuffix(".dist")
    found["nginx"] = _said(["nginx", "-v"], r"nginx/(\S+)")
    found["nchan"] = _said(
        ["dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan"], r"(\S+)"
    )
    found["redis"] = _said(["redis-server", "--version"], r"v=(\S+)")
    found["compiler"] = _said(["cc", "--version"], r"(.+)")
    return {name: value for name, value in found.items() if value}


def _installed(name: str) -> bool:
    try:
        version(name)
    except ModuleNotFoundError:
        return False
    return True


def _said(command: list[str], pattern: str) -> str:
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    if shutil.which(command[0], path=path) is None:
        return ""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path, "LC_ALL": "C"},
    )
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found and done.returncode == 0 else ""


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(CODE), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def _field(path: str, name: str, sign: str = ":") -> str:
    text = Path(path).read_text(errors="replace") if Path(path).exists() else ""
    found = re.search(rf"^{name}\s*{sign}\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else "unknown"
