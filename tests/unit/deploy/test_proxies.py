"""Configurations of proxies: the proxies themselves have nothing to say of them."""

import os
import shutil
import subprocess

import pytest

from bench.soak.deployed_proxy import DEPLOYED_PROXIES, balancer
from tests.unit.deploy.prometheus import ROOT

pytestmark = pytest.mark.config

PROXIES = (*DEPLOYED_PROXIES, balancer("127.0.0.1:8081"))
CHECKED = {
    "nginx": ("-t", "-e", "stderr", "-c"),
    "haproxy": ("-c", "-q", "-f"),
    "caddy": ("validate", "--adapter", "caddyfile", "--config"),
}


def checked(proxy, folder, change=("", "")):
    """Ask a proxy about its file; returns whether it would start, and its words."""
    folder.chmod(0o755)
    path = folder / "configuration"
    written = proxy.written(folder, 8443, "127.0.0.1:8080", 0)
    assert change[0] in written
    path.write_text(written.replace(*change))
    where = shutil.which(proxy.program, path=f"{os.environ['PATH']}:/usr/sbin")
    assert where, f"{proxy.program} is not installed: apt-get install {proxy.package}"
    done = subprocess.run(
        [where, *CHECKED[proxy.program], str(path)],
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode == 0, done.stdout


@pytest.mark.parametrize("proxy", PROXIES, ids=lambda one: one.file)
def test_a_proxy_takes_its_file_without_a_warning(proxy, tmp_path):
    taken, said = checked(proxy, tmp_path)

    assert taken, said
    # As nginx and HAProxy write it; Caddy would have our frame indented otherwise.
    assert "[warn" not in said.lower()


@pytest.mark.parametrize("proxy", PROXIES, ids=lambda one: one.file)
def test_a_proxy_would_refuse_a_wrong_one(proxy, tmp_path):
    word = {
        "nginx": "proxy_pass",
        "haproxy": "default_backend",
        "caddy": "reverse_proxy",
    }
    wrong = (word[proxy.program], "no_such_word")

    assert not checked(proxy, tmp_path, wrong)[0]


def test_browsers_find_the_same_before_one_machine_and_before_several():
    one, several = (
        (ROOT / f"deploy/haproxy/{name}.cfg").read_text().partition("\nbackend ")[0]
        for name in ("haproxy", "machines")
    )
    stands = [line for line in one.splitlines() if not line.lstrip().startswith("#")]

    assert [] == [line for line in stands if line not in several.splitlines()]
