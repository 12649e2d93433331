"""
What can be known of the image without Docker, which no machine of ours has.

Its first stage is run here, step by step, in a clean folder: what it makes must
serve, with nothing of ours but what it was told to copy.  That the base images are
what they are, and that Docker takes the files, nobody has tried.
"""

import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.children import Children, free_port, listening
from gateway.cli import COMMANDS
from gateway.config import describe
from tests.integration.conftest import API_KEY, INGEST_KEY, TOKEN_SECRET

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy/docker"
INSTALLED = "/opt/reelready"
MOST_BYTES = 150 * 2**20
"""Of what is installed; most of it is botocore's descriptions of AWS."""


def instructions():
    """Every instruction of the Dockerfile: its name, and what follows."""
    text = re.sub(
        r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE
    )
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


def stages():
    """Group them by stage."""
    found = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def last(name):
    """Find what the image ends up with."""
    return [rest for one, rest in stages()[-1] if one == name][-1]


def copied():
    """What is copied from the repository."""
    return [
        source
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]


@pytest.mark.config
def test_what_is_copied_is_there_and_nothing_else_is_sent():
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}

    assert "*" in ignored
    assert set(copied()) == sent
    assert [] == [one for one in copied() if not (ROOT / one).exists()]


@pytest.mark.config
def test_it_is_slim_and_not_root():
    first, second = (stage[0][1] for stage in stages())
    user = last("USER")

    assert first == f"{second} AS build"
    assert "slim" in second
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert {"FROM", "COPY"} >= {name for name, _ in stages()[-1]} - {
        *("ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD")
    }
    assert ["reelready"] == json.loads(last("ENTRYPOINT"))
    assert ["serve"] == json.loads(last("CMD"))


@pytest.mark.config
def test_what_is_installed_is_what_is_tested():
    pin = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)
    lock, tested = (
        dict(pin.findall((ROOT / f"requirements/{name}.txt").read_text()))
        for name in ("serve", "run")
    )
    project = (ROOT / "pyproject.toml").read_text()
    ours = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)

    assert lock.items() <= tested.items()
    assert set(re.findall(r'"([\w-]+)', ours[1])) <= set(lock)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Run the first stage; the value is the folder that the second one copies."""
    folder = tmp_path_factory.mktemp("docker")
    python = folder / "bin/python"
    python.parent.mkdir()
    python.symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info[1]}")
    source, made = folder / "src", folder / "made"
    source.mkdir()
    env = {name: one for name, one in os.environ.items() if "PYTHON" not in name}
    env["PATH"] = f"{python.parent}:{env['PATH']}"
    # pip reads this the wrong way round: nothing is compiled, which only takes time.
    env["PIP_NO_COMPILE"] = "0"
    for name, rest in stages()[0][1:]:
        if name == "WORKDIR":
            continue
        if name == "COPY":
            *sources, target = rest.split()
            for one in sources:
                _copy(ROOT / one, source / target, is_folder=target.endswith("/"))
        else:
            assert "RUN" == name
            step = rest.replace(INSTALLED, str(made))
            subprocess.run(["sh", "-ec", step], cwd=source, env=env, check=True)
    return made


def _copy(what, target, *, is_folder):
    if what.is_dir():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(what, target, dirs_exist_ok=True, ignore=ignored)
    else:
        (target if is_folder else target.parent).mkdir(parents=True, exist_ok=True)
        shutil.copy(what, target)


@pytest.mark.timeout(180)
async def test_what_is_built_serves_and_holds_nothing_else(built, empty_database_url):
    port = free_port()
    env = {
        "PATH": f"{built}/bin:{os.environ['PATH']}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "REELREADY_DATABASE_URL": empty_database_url,
        "REELREADY_BUCKET": "reelready",
        "REELREADY_PLAYBACK_BASE_URL": "https://play.example.com/",
        "REELREADY_INGEST_SECRETS": f"whsec_{base64.b64encode(INGEST_KEY).decode()}",
        "REELREADY_API_KEYS": API_KEY,
        "REELREADY_TOKEN_SECRETS": TOKEN_SECRET,
        "REELREADY_PORT": str(port),
    }
    _, _, check = last("HEALTHCHECK").partition("CMD ")
    health = [one.replace("8080", str(port)) for one in json.loads(check)]

    async def run(*command):
        process = await asyncio.create_subprocess_exec(
            *command, env=env, stderr=asyncio.subprocess.DEVNULL
        )
        return await process.wait()

    [program] = json.loads(last("ENTRYPOINT"))
    assert 0 == await run(program, "migrate")
    assert 0 != await run(*health)
    async with Children() as children:
        command = [str(built / "bin" / program), *json.loads(last("CMD"))]
        async with children.child("built", command, env=env) as process:
            await listening(port, process, children, "built")
            assert 0 == await run(*health)

    packages = built / "lib" / f"python3.{sys.version_info[1]}/site-packages"
    names = {one.name for one in packages.iterdir()}
    assert {"gateway", "workers", "migrations", "aiohttp"} <= names
    assert not names & {"pip", "setuptools", "hatchling", "boto3", "av", "pytest"}
    size = sum(one.stat().st_size for one in built.rglob("*") if one.is_file())
    assert size < MOST_BYTES


@pytest.mark.config
def test_the_composition_names_only_what_there_is():
    composed = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    services, secrets = composed["services"], composed["secrets"]
    ours = {name: one for name, one in services.items() if one["image"] == "reelready"}
    settings = {line.name for line in describe({})}

    assert {"migrate", "gateway", "worker", "relay"} == set(ours)
    assert {"relay", "valkey"} == {
        one for one in services if "profiles" in services[one]
    }
    for one in ours.values():
        assert (DOCKER / one["build"]["context"]).resolve() == ROOT
        assert (ROOT / one["build"]["dockerfile"]).is_file()
        assert one["command"][0] in COMMANDS
        assert one["read_only"]
        for name, value in one["environment"].items():
            assert name.removesuffix("_FILE") in settings
            if name.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in one["secrets"]
    for one in services.values():
        assert set(one.get("secrets", [])) <= set(secrets)
        assert set(one.get("depends_on", [])) <= set(services)
        for volume in one.get("volumes", []):
            place = volume.split(":")[0]
            found = place in composed["volumes"] or (DOCKER / place).is_file()
            assert found, volume


@pytest.mark.config
def test_caddy_is_told_by_variables_that_its_file_has():
    composed = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    file = (ROOT / "deploy/caddy/Caddyfile").read_text()

    assert [] == [
        name
        for name in composed["services"]["caddy"]["environment"]
        if f"{{${name}:" not in file
    ]


@pytest.mark.config
def test_every_command_finds_the_site_and_no_secret_is_committed():
    composed = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    page = (ROOT / "docs/deploying.md").read_text("utf-8")
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    secrets = {Path(one["file"]).parts[0] for one in composed["secrets"].values()}

    assert {"secrets"} == secrets
    assert {
        f"/deploy/docker/{name}" for name in (".env", "reelready.env", "secrets/")
    } <= set(ignored)
    assert "reelready.env" == composed["services"]["gateway"]["env_file"]
    assert 'echo "REELREADY_SITE=$HOST" >.env' in page
