"""
The units of deploy/systemd, with a real systemd: they hold what they promise.

Their sandbox is the one they come with; only folders, the port and where the log
goes are others.
"""

import asyncio
import base64
import re
import subprocess
from textwrap import dedent

import aiohttp
import asyncpg
import pytest

from bench.children import Children, free_port
from bench.errors import RunError
from bench.peers.redis import redis
from tests.integration.conftest import API_KEY, INGEST_KEY, TOKEN_SECRET
from tests.integration.test_restarts import knock
from tests.system.booted import UNITS, booted, moved
from tests.unit.deploy.prometheus import ROOT, collected
from workers.migrate import migrate

GATEWAY, WORKER = "reelready.service", "reelready-worker.service"
RELAY = "reelready-relay.service"
SOCKET = "reelready.socket"
MOST_EXPOSED = 15
"""Tenths, of 100: `systemd-analyze security`."""

OPERATING = (ROOT / "docs/operating.md").read_text("utf-8")
ACCOUNT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@pytest.fixture
def secrets(empty_database_url):
    return {
        "database-url": empty_database_url,
        "ingest-secrets": f"whsec_{base64.b64encode(INGEST_KEY).decode()}",
        "api-keys": API_KEY,
        "token-secrets": TOKEN_SECRET,
    }


async def text_of(url):
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        return await answer.text()


async def status(url):
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        return answer.status


async def until_it_hears(url):
    """Wait until what is rung comes back to a gateway."""
    for _ in range(400):
        if '"listener":true' in await text_of(f"{url}/readyz"):
            return
        await asyncio.sleep(0.05)
    pytest.fail("it is deaf")


async def until(so):
    """Wait for something to be so."""
    for _ in range(600):
        if await so():
            return
        await asyncio.sleep(0.05)
    pytest.fail("it never was")


def ran_as_typed(command):
    """Run a line of a page; returns whether it was content, and what it said."""
    done = subprocess.run(
        ["sh", "-c", command], stdout=subprocess.PIPE, text=True, check=False
    )
    return done.returncode == 0, done.stdout


async def until_other_than(pid, machine):
    """Wait until another process is the gateway's."""
    for _ in range(600):
        if await machine.show(GATEWAY, "MainPID") not in {pid, "0"}:
            return
        await asyncio.sleep(0.05)
    pytest.fail("nobody replaced it")


@pytest.fixture
def units(tmp_path):
    """The units, with a program that is there."""
    for unit in UNITS.glob("*.s*"):
        text = unit.read_text().replace("/opt/reelready/bin/reelready", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    return sorted(map(str, tmp_path.iterdir()))


def analyze(*arguments):
    """Ask `systemd-analyze`; returns whether it is content, and what it says."""
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode == 0, done.stdout


@pytest.mark.config
def test_systemd_has_nothing_to_say_of_the_units(units):
    assert 4 == len(units)
    assert (True, "") == analyze("verify", "--man=no", *units)


@pytest.mark.config
@pytest.mark.parametrize("service", [GATEWAY, WORKER, RELAY])
def test_a_service_is_exposed_to_little(service, units):
    path = next(one for one in units if one.endswith(f"/{service}"))
    bar = f"--threshold={MOST_EXPOSED}"

    content, said = analyze("security", "--offline=true", bar, path)
    assert content, said
    content, said = analyze("security", "--offline=true", "--threshold=5", path)
    assert not content, "it is content with anything"


def sandbox(service):
    """Secrets and sandbox: what follows the first credential, but for limits."""
    _, found, rest = (UNITS / service).read_text().partition("LoadCredential=")
    assert found
    loose = re.compile(r"#.*|\s*|LimitNOFILE.*|MemoryMax.*|Also=.*")
    return [line for line in rest.splitlines() if not loose.fullmatch(line)]


@pytest.mark.config
@pytest.mark.parametrize("service", [WORKER, RELAY])
def test_all_are_locked_in_as_the_gateway_is(service):
    assert sandbox(GATEWAY) == sandbox(service)


def offered(service):
    """Secrets that are handed on once somebody uncomments them."""
    lines = r"^#((?:LoadCredential|Environment)=.*)$"
    return re.findall(lines, (UNITS / service).read_text(), re.MULTILINE)


@pytest.mark.config
@pytest.mark.parametrize("service", [WORKER, RELAY])
def test_all_offer_what_the_gateway_does(service):
    assert 4 == len(offered(GATEWAY))
    assert offered(GATEWAY) == offered(service)


@pytest.mark.timeout(120)
async def test_a_machine_serves_restarts_and_recovers(open_folder, secrets):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    wrong = secrets | {"token-secrets": "short"}
    async with booted(open_folder, port, ACCOUNT, wrong) as machine:
        # What is wrong is named; once it is mended, whoever waits is served.
        with pytest.raises(RunError, match="Error: REELREADY_TOKEN_SECRETS: "):
            await machine.systemctl("start", GATEWAY)
        waiting = asyncio.create_task(status(f"{url}/healthz"))
        mended = open_folder / "etc/secrets/token-secrets"
        mended.write_text(secrets["token-secrets"])
        assert 200 == await waiting
        await machine.systemctl("start", GATEWAY, WORKER)
        states = [await machine.show(one, "SubState") for one in (GATEWAY, WORKER)]
        assert ["running", "running"] == states
        assert 200 == await status(f"{url}/readyz")

        # A restart refuses nobody.
        await machine.edit(GATEWAY, "[Service]\nWatchdogSec=1\nTimeoutAbortSec=1\n")
        statuses, stop = set(), asyncio.Event()
        knocking = asyncio.create_task(knock(url, statuses, stop))
        await machine.systemctl("restart", GATEWAY)
        stop.set()
        await knocking
        assert {200} == statuses

        # A loop that turns is left alone, one that does not is ended and replaced.
        pid = await machine.show(GATEWAY, "MainPID")
        await asyncio.sleep(1.5)
        assert pid == await machine.show(GATEWAY, "MainPID")
        await machine.systemctl("kill", "--kill-who=main", "--signal=STOP", GATEWAY)
        await until_other_than(pid, machine)
        assert 200 == await status(f"{url}/healthz")

        # Secrets are in files that nobody else can read.
        environment = await machine.show(GATEWAY, "Environment")
        assert "DATABASE_URL_FILE" in environment
        assert not [one for one in secrets.values() if one in environment]
        cores = [await machine.show(one, "LimitCORE") for one in (GATEWAY, WORKER)]
        assert ["0", "0"] == cores

        # So is the way past a pooler, once its lines are taken.
        past_a_pooler = open_folder / "etc/secrets/listen-database-url"
        past_a_pooler.write_text("nowhere")
        lines = [one for one in offered(GATEWAY) if "listen-database-url" in one]
        await machine.edit(GATEWAY, moved("\n".join(["[Service]", *lines])))
        with pytest.raises(RunError, match="Error: REELREADY_LISTEN_DATABASE_URL: "):
            await machine.systemctl("restart", GATEWAY)
        past_a_pooler.write_text(secrets["database-url"])
        await machine.systemctl("start", GATEWAY)
        await until_it_hears(url)

        # It drains when it is told to go.
        await machine.systemctl("stop", SOCKET, GATEWAY, WORKER)
        assert "success" == await machine.show(GATEWAY, "Result")


@pytest.mark.timeout(120)
async def test_the_way_back_serves_on_a_newer_database(open_folder, secrets):
    database_url = secrets["database-url"]
    await migrate(database_url)
    port = free_port()
    async with booted(open_folder, port, ACCOUNT, secrets) as machine:
        await machine.systemctl("start", GATEWAY)
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            "insert into schema_migrations values ('0099_next_release.sql', 'x')"
        )
        await connection.close()

        await machine.systemctl("restart", GATEWAY)

        await until_it_hears(f"http://127.0.0.1:{port}")
        newer = "its schema is newer than this release"
        assert 2 == machine.log.read_text().count(newer), "migrate and serve say so"


@pytest.mark.timeout(120)
async def test_a_gateway_at_rest_has_every_metric(open_folder, secrets):
    """A sandbox that hides /proc/stat takes all of `process_*` away."""
    port = free_port()
    async with booted(open_folder, port, ACCOUNT, secrets) as machine:
        await machine.systemctl("start", GATEWAY)
        scraped = await text_of(f"http://127.0.0.1:{port}/metrics")

    there = re.findall(r"^# TYPE (\S+) ", scraped, re.MULTILINE)
    assert set() == collected().keys() - set(there)


@pytest.mark.timeout(120)
async def test_a_relay_rings_for_the_gateway(open_folder, secrets):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with Children() as children, redis(children) as server:
        settings = ACCOUNT | {"REELREADY_REDIS_URL": server.url}
        async with booted(open_folder, port, settings, secrets) as machine:
            await machine.systemctl("start", GATEWAY)
            assert '"listener":false' in await text_of(f"{url}/readyz")

            await machine.systemctl("start", RELAY)
            await machine.systemctl("restart", GATEWAY)

            # Deaf until the first beat, so the page looks more than once.
            [look] = re.findall(r"^for _ in .*readyz.*$", OPERATING, re.MULTILINE)
            typed = look.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
            heard, said = await asyncio.to_thread(ran_as_typed, typed)
            assert heard
            assert '"listener":true' in said
            await machine.systemctl("stop", RELAY)
            assert "success" == await machine.show(RELAY, "Result")


@pytest.mark.timeout(120)
async def test_a_relay_for_old_clients_alone_runs_as_the_page_says(
    open_folder, secrets
):
    page = (ROOT / "docs/migrating.md").read_text("utf-8")
    [settings] = re.findall(r"^ *```ini\n(.*?)^ *```$", page, re.DOTALL | re.MULTILINE)
    [watch] = re.findall(r"^ *(redis-cli .*)$", page, re.MULTILINE)
    port = free_port()
    async with Children() as children, redis(children) as server:
        secrets |= {"redis-url": server.url}
        async with booted(open_folder, port, ACCOUNT, secrets) as machine:
            await machine.edit(RELAY, moved(dedent(settings)))
            await machine.systemctl("start", GATEWAY)
            watch = watch.replace("6379", str(server.port))

            async def works():
                return (await asyncio.to_thread(ran_as_typed, watch))[0]

            async def rests():
                return not await works()

            assert await rests()
            await machine.systemctl("start", RELAY)
            await until(works)
            await until_it_hears(f"http://127.0.0.1:{port}")
            assert server.url not in await machine.show(RELAY, "Environment")
            await machine.systemctl("kill", "--signal=STOP", RELAY)
            await until(rests)


@pytest.mark.timeout(120)
async def test_several_processes_are_replaced_and_nobody_is_refused(
    open_folder, secrets
):
    page = (ROOT / "docs/deploying.md").read_text("utf-8")
    [settings] = re.findall(r"^```ini\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with booted(open_folder, port, ACCOUNT, secrets) as machine:
        await machine.edit(GATEWAY, moved(settings))
        await machine.systemctl("start", GATEWAY)
        parent, *before = await machine.pids(GATEWAY)
        assert 2 == len(before)

        statuses, stop = set(), asyncio.Event()
        knocking = asyncio.create_task(knock(url, statuses, stop))
        await machine.systemctl("reload", GATEWAY)

        async def replaced():
            _, *now = await machine.pids(GATEWAY)
            return len(now) == 2 and not set(now) & set(before)

        await until(replaced)
        stop.set()
        await knocking
        assert {200} == statuses
        assert parent == await machine.show(GATEWAY, "MainPID")


@pytest.mark.timeout(120)
async def test_other_machines_reach_it_as_the_page_says(open_folder, secrets):
    [settings] = re.findall(
        r"override\.conf <<END\n(.*?)^END$", OPERATING, re.DOTALL | re.MULTILINE
    )
    [trusted] = re.findall(r"/REELREADY_TRUSTED_PROXIES=(\S+)/'", OPERATING)
    assert "127.0.0.1,::1,10.0.0.10" == trusted, "the first machine's Caddy stays"
    port = free_port()
    async with booted(open_folder, port, ACCOUNT, secrets) as machine:
        await machine.systemctl("start", GATEWAY)

        await machine.edit(SOCKET, settings.replace("$HERE:8080", f"127.0.0.3:{port}"))
        await machine.systemctl("restart", SOCKET, GATEWAY)

        for host in ("127.0.0.1", "127.0.0.3"):
            assert 200 == await status(f"http://{host}:{port}/healthz")
