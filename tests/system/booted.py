"""
A machine of its own for units: systemd as the first process of new namespaces.

It has our files and our network, but a /run, process ids and cgroups of its own,
and goes with the block.  Only root may.

Source: namespaces(7), unshare(1), systemd's CONTAINER_INTERFACE.
"""

import asyncio
import os
import re
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from bench.children import Children
from bench.errors import RunError

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy/systemd"
HOME = "/run/reelready-test"
"""In place of /opt and /etc: services see it, whatever they are kept from."""

_TARGETS = ("sysinit", "basic", "shutdown", "sockets", "network-online", "multi-user")
_LIMIT_S = 30.0
_POLL_S = 0.02
_BOOT = f"""
echo 0 >"$5/cgroup.procs"
exec unshare --cgroup sh -ec '
mount --make-rprivate /
mount --make-rshared /
mount --bind "$1/console" /dev/console
umount -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs -o mode=755 none /run
for name in opt etc; do mkdir -p {HOME}/$name; mount --bind "$1/$name" {HOME}/$name; done
mkdir {HOME}/code {HOME}/site {HOME}/python
mount --bind "$2" {HOME}/code
mount --bind "$3" {HOME}/site
mount --bind "$4" {HOME}/python
exec env -i PATH="$PATH" container=test SYSTEMD_UNIT_PATH="$1/units" \\
  /lib/systemd/systemd --system --unit=multi-user.target --show-status=0
' boot "$@"
"""
_REELREADY = f"""#!/bin/sh
cd {HOME}/code
export LD_LIBRARY_PATH={HOME}/python/lib PYTHONPATH={HOME}/site
exec {HOME}/python/bin/{Path(sys.executable).resolve().name} -m gateway "$@"
"""


class Machine:
    """
    One that has booted.

    Attributes:
        log: What the services said.
    """

    def __init__(self, folder: Path, pid: int) -> None:
        self.log = folder / "log"
        self._units = folder / "units"
        self._pid = pid

    async def systemctl(self, *arguments: str) -> str:
        """
        Say something to systemd, and wait until it is done.

        Raises:
            RunError: It refuses, or it did not work.
        """
        process = await asyncio.create_subprocess_exec(
            *("nsenter", f"--target={self._pid}", "--mount", "--pid", "--cgroup"),
            *("systemctl", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        if process.returncode:
            log = self.log.read_text() if self.log.exists() else ""
            raise RunError(f"systemctl {arguments}: {said.decode()}\n{log[-2000:]}")
        return said.decode().strip()

    async def show(self, unit: str, what: str) -> str:
        """Ask for a property."""
        return await self.systemctl("show", "--value", f"--property={what}", unit)

    async def pids(self, unit: str) -> list[str]:
        """List its processes, the first one first."""
        said = await self.systemctl("status", "--no-pager", "--lines=0", unit)
        return re.findall(r"[├└]─ *(\d+) ", said)

    async def edit(self, unit: str, settings: str) -> None:
        """Do as `systemctl edit` does."""
        _drop_in(self._units, unit, "edit", settings)
        await self.systemctl("daemon-reload")


def moved(unit: str, port: int = 8080) -> str:
    """Have a unit say the same of other folders, and of another port."""
    for folder in ("opt", "etc"):
        unit = unit.replace(f"/{folder}/reelready", f"{HOME}/{folder}")
    return unit.replace("127.0.0.1:8080", f"127.0.0.1:{port}")


@asynccontextmanager
async def booted(
    folder: Path, port: int, settings: dict[str, str], secrets: dict[str, str]
) -> AsyncIterator[Machine]:
    """
    Boot a machine that has our units, none of them started.

    Args:
        folder: Where others may look in; its files outlive the machine.
        settings: Besides those of reelready.env.

    Raises:
        RunError: It does not come up.
    """
    _furnish(folder, port, settings, secrets)
    async with Children() as children, _cgroup() as cgroup:
        packages = sysconfig.get_path("purelib")
        places = (folder, ROOT, packages, sys.base_prefix, cgroup)
        unshare = "--pid --fork --kill-child --mount-proc --mount --ipc --uts"
        command = ["unshare", *unshare.split(), "sh", "-ec", _BOOT, "boot"]
        command += map(str, places)
        async with children.child("boot", command, env=os.environ) as process:
            yield await _up(process.pid, folder, children)


def _furnish(
    folder: Path, port: int, settings: dict[str, str], secrets: dict[str, str]
) -> None:
    for name in ("opt/bin", "etc/secrets", "units"):
        (folder / name).mkdir(parents=True)
    (folder / "console").touch()
    program = folder / "opt/bin/reelready"
    program.write_text(_REELREADY)
    program.chmod(0o755)
    lines = [f"\n{name}={value}" for name, value in settings.items()]
    env = (UNITS / "reelready.env").read_text() + "".join(lines)
    (folder / "etc/reelready.env").write_text(env)
    for name, secret in secrets.items():
        path = folder / "etc/secrets" / name
        path.write_text(secret)
        path.chmod(0o600)
    for target in _TARGETS:
        (folder / f"units/{target}.target").write_text(
            "[Unit]\nDefaultDependencies=no\n"
        )
    for unit in UNITS.glob("*.s*"):
        (folder / "units" / unit.name).write_text(moved(unit.read_text(), port))
        if unit.suffix == ".service":
            # There is no journal.
            said = f"[Service]\nStandardError=append:{folder}/log\n"
            _drop_in(folder / "units", unit.name, "log", said)


def _drop_in(units: Path, unit: str, name: str, settings: str) -> None:
    (units / f"{unit}.d").mkdir(exist_ok=True)
    (units / f"{unit}.d/{name}.conf").write_text(settings)


@asynccontextmanager
async def _cgroup() -> AsyncIterator[Path]:
    """Make a group that systemd may take for all there is."""
    group = _hierarchy() / f"reelready-test-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        for _ in range(int(_LIMIT_S / _POLL_S)):
            with suppress(OSError):  # as long as somebody is on the way out
                for one in sorted(group.rglob("*/"), reverse=True):
                    one.rmdir()
                group.rmdir()
                break
            await asyncio.sleep(_POLL_S)


def _hierarchy() -> Path:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise RunError("there is no cgroup2 hierarchy")


def _children_of(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return []


async def _up(unshare: int, folder: Path, children: Children) -> Machine:
    for _ in range(int(_LIMIT_S / _POLL_S)):
        for pid in _children_of(unshare):
            machine = Machine(folder, int(pid))
            with suppress(RunError):
                if await machine.show("multi-user.target", "ActiveState") == "active":
                    return machine
        await asyncio.sleep(_POLL_S)
    raise RunError(f"systemd did not come up: {children.last_words('boot')}")
