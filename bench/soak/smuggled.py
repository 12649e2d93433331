"""
Requests hidden behind others, by way of nginx: none is served, nobody gets what
another has asked for.

nginx refuses what is hidden wherever it sees it, so what takes effect is what it did
not see.  All go over the same few connections from nginx to the gateway, and beside
them innocents ask for files of their own: were one connection out of step, an
innocent would be told of another's file.
"""

import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from bench.errors import RunError
from bench.server import get, post
from bench.soak.held import Held, complaints, held, left
from bench.soak.ledger import Ledger
from bench.soak.part import Outcome, Part, Size, at_least, none
from bench.soak.reporter import Reporter
from bench.soak.smuggling import smuggling
from bench.soak.stage import Stage
from bench.soak.stock_proxy import ADDRESSES, NGINX, Proxy, nginx_user
from bench.soak.volley import CONNECTIONS, Line, throw

_RAWS = {Size.SHORT: 2_000, Size.FULL: 1_000_000}
_BASE_OF = 10
"""After so large a part of all raw requests, what is held is the base line."""

_PASSED = 0.2
"""For each raw request: what nginx refuses shows nothing of the gateway."""

_INNOCENTS = 16
_FILES = 61
"""That innocents ask for; no multiple of them, so each asks for all in turn."""

_SIGNED_ANEW_S = 60.0
"""What is hidden would be taken, were it not hidden: it must not grow old."""

_STORED = """
select (select count(*) from files) + (select count(*) from events)
    + (select count(*) from ingest_ids)
"""
_ANSWERED = re.compile(
    r'^reelready_http_requests_total{route="(?!/metrics|/readyz).*",status="\d+"} (.*)$',
    re.MULTILINE,
)

_CONFIGURATION = """
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log {folder}/errors.log crit;
events {{ worker_connections 768; }}
http {{
    log_format asked '$status $upstream_bytes_sent $upstream_status';
    access_log {folder}/asked asked;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    lingering_timeout 1s;
    upstream gateway {{ server {upstream}; keepalive 8; }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_ignore_client_abort on;
    proxy_next_upstream off;
    {servers}
}}
"""
_SERVER = """
    server {{
        listen {address}:{port};
        proxy_request_buffering {buffering};
        ignore_invalid_headers {buffering};
        location ~ "/reports$|{marked}" {{ return 403; }}
        location / {{ proxy_pass http://gateway; }}
    }}
"""
_BUFFERING = {ADDRESSES[0]: "on", ADDRESSES[1]: "off"}
"""
Whether nginx has a body before it asks the gateway, and drops names that are odd
before, by where it listens.
"""

_REPORT = (
    b'{"type":"converting","occurred_at":"2026-01-02T03:04:05Z",'
    b'"job_id":"j-1","attempt":%d}'
)
_ID = re.compile(rb'"id":"([^"]+)"')


@dataclass(frozen=True, kw_only=True)
class _RefusingProxy(Proxy):
    """nginx, which lets no report pass, and nobody see the marked file."""

    marked: str

    def written(self, folder: Path, port: int, upstream: str, idle_s: int) -> str:  # noqa: ARG002 - as it comes
        """Write a server for each way to treat bodies, with one upstream."""
        servers = (
            _SERVER.format(
                address=address, port=port, buffering=buffering, marked=self.marked
            )
            for address, buffering in _BUFFERING.items()
        )
        return _CONFIGURATION.format(
            folder=folder,
            user=nginx_user(),
            upstream=upstream,
            servers="".join(servers),
        )


class Passed:
    """
    What nginx says to have passed on.

    Args:
        lines: Of its log: its own status, bytes to the gateway, the gateway's status.

    Attributes:
        asked: Requests of which the gateway was sent something.
        answered: Of these, with an answer of the gateway, or the want of one.
        failed: Of these, 500 or more, which is 502 or 504 for the want of one.
        statuses: Of answers, by who gave them.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self.asked = self.answered = self.failed = 0
        self.statuses: Counter[str] = Counter()
        for line in lines:
            status, sent, theirs = line.split()
            by = "nginx" if theirs == "-" else "gateway"
            self.statuses[f"{by} {status}"] += 1
            self.asked += sent not in {"-", "0"}
            self.answered += by == "gateway"
            self.failed += by == "gateway" and status >= "500"

    def add(self, other: "Passed") -> None:
        """Count what another nginx says, too."""
        self.asked += other.asked
        self.answered += other.answered
        self.failed += other.failed
        self.statuses += other.statuses


class Judge:
    """
    Knows who asked for what.

    Args:
        marked: The file that nobody may see.
        named: The file that raw requests name.

    Attributes:
        answers: To innocents.
        astray: Answers that were another's.
        shown: Answers that show the marked file.
    """

    def __init__(self, marked: str, named: str) -> None:
        self.answers = self.astray = self.shown = 0
        self._marked = marked.encode()
        self._named = named.encode()

    def innocent(self, asked: str, status: int, body: bytes) -> None:
        """Take the answer to an innocent who has asked for one file."""
        self.answers += 1
        self.shown += self._marked in body
        self.astray += status != 200 or _ID.findall(body) != [asked.encode()]

    def raw(self, heard: bytes) -> None:
        """Take all that came back for one raw request."""
        self.shown += self._marked in heard
        self.astray += bool({*_ID.findall(heard)} - {self._marked, self._named})


async def _smuggled(size: Size) -> Outcome:
    raws = _RAWS[size]
    async with Stage() as stage:
        await stage.start_gateway()
        await stage.ready()
        async with Reporter(stage, Ledger()) as reporter:
            files = [await reporter.register() for _ in range(_FILES + 2)]
        crowd = _Crowd(stage, files)
        before = await _stored(stage)
        base = await crowd.come(raws // _BASE_OF)
        end = await crowd.come(raws - crowd.sent)
        after = await _stored(stage)
        wrongs = complaints(stage)
        openly = crowd.openly()
    judge, passed = crowd.judge, crowd.passed
    return Outcome(
        figures=[
            at_least("raw requests sent", crowd.sent, raws),
            at_least(
                "of theirs, requests that nginx passed on",
                passed.asked - judge.answers,
                _PASSED * raws,
            ),
            at_least("answers to innocents", judge.answers, raws / 5),
            none("innocents not answered", crowd.silent),
            none("answers that were another's", judge.astray),
            none("answers that show what is hidden", judge.shown),
            none("rows that hidden requests left", after - before),
            none("answers of the gateway to what nginx did not ask", crowd.beyond),
            none("requests that the gateway failed, says nginx", passed.failed),
            at_least("hidden requests served when sent openly", openly, 2),
            none("lines of complaint", len(wrongs)),
            *left(base, end),
        ],
        samples={
            "statuses": dict(sorted(passed.statuses.items())),
            "asked": passed.asked,
            "answered": passed.answered,
            "seconds": crowd.took_s,
            "base": base,
            "end": end,
            "log": wrongs[:50],
        },
    )


async def _stored(stage: Stage) -> int:
    async with stage.database() as database:
        return int(await database.fetchval(_STORED))


class _Crowd:
    """
    Who sends raw requests, and the innocents beside them.

    Args:
        files: Ids and watch tokens; the first is marked, the second the one that
            raw requests name.

    Attributes:
        sent: Raw requests.
        silent: Questions of innocents that were not answered.
        beyond: Answers that the gateway has counted and nginx did not ask for; what
            nginx broke off may have been answered or not.
    """

    def __init__(self, stage: Stage, files: Sequence[tuple[str, str]]) -> None:
        self.sent = self.silent = self.beyond = 0
        self.took_s: list[float] = []
        self.passed = Passed()
        self._stage = stage
        (self._marked, self._token), (self._named, self._key), *others = files
        self.judge = Judge(self._marked, self._named)
        self._files = cycle(file_id for file_id, _ in others)
        self._innocents: list[_Innocent] = []
        self._waves = 0

    async def come(self, raws: int) -> Held:
        """Send so many by way of an nginx, and leave; returns what is held then."""
        until = self.sent + raws
        counted = await self._counted()
        began_s = time.monotonic()
        proxy = _RefusingProxy(
            name="nginx, refusing",
            program=NGINX.program,
            package=NGINX.package,
            command=NGINX.command,
            marked=self._marked,
        )
        async with proxy.before(self._stage.port, self._stage.children) as nginx:
            self._innocents = [
                _Innocent(nginx.port, address)
                for address in islice(cycle(_BUFFERING), _INNOCENTS)
            ]
            while self.sent < until:
                self._wave(nginx.port, until)
            for innocent in self._innocents:
                innocent.close()
        self.took_s.append(round(time.monotonic() - began_s, 1))
        look = await held(self._stage)
        with (nginx.folder / "asked").open(encoding="ascii") as lines:
            passed = Passed(lines)
        self.beyond += max(0, await self._counted() - counted - passed.asked)
        self.passed.add(passed)
        return look

    def openly(self) -> int:
        """Send what was hidden to the gateway itself; returns how many are served."""
        self._waves += 1
        served = 0
        for raw in self._hidden():
            line = Line(self._stage.port)
            line.send([raw])
            ((status, _),) = line.answers(1)
            line.close()
            served += status == 200
        return served

    def _wave(self, port: int, until: int) -> None:
        """Send raw requests until what is hidden in them grows old."""
        signed_s = time.monotonic()
        self._waves += 1
        raws = smuggling(self._named, self._key, self._hidden(), self._waves)
        for address in cycle(_BUFFERING):
            for innocent in self._innocents:
                innocent.ask(next(self._files), self._stage.known.api_key)
            volley = list(islice(raws, CONNECTIONS))
            for heard in throw(port, volley, "half", address):
                self.judge.raw(heard)
            self.sent += len(volley)
            for innocent in self._innocents:
                self.silent += not innocent.hears(self.judge)
            if self.sent >= until or time.monotonic() > signed_s + _SIGNED_ANEW_S:
                return

    def _hidden(self) -> tuple[bytes, ...]:
        """Write a report that is taken, and a look at the marked file."""
        webhook_id = f"hidden-{self._waves}"
        body = _REPORT % self._waves
        signed = self._stage.known.signed(webhook_id, body)
        shown = f"Authorization: Bearer {self._token}"
        return (
            post(f"/v1/files/{self._named}/reports", body, *signed),
            get(f"/v1/files/{self._marked}", shown) + b"\r\n",
        )

    async def _counted(self) -> int:
        """Count what the gateway has answered, but for looks at how it is."""
        text = (await self._stage.ask("/metrics")).decode()
        return sum(int(float(count)) for count in _ANSWERED.findall(text))


class _Innocent:
    """Asks for one file after the other, on a connection that stays."""

    def __init__(self, port: int, address: str) -> None:
        self._where = (port, address)
        self._line = Line(*self._where)
        self._asked = ""

    def ask(self, file_id: str, key: str) -> None:
        """Send one question."""
        self._asked = file_id
        asks = get(f"/v1/files/{file_id}", f"Authorization: Bearer {key}") + b"\r\n"
        with suppress(OSError):
            self._line.send([asks])

    def hears(self, judge: Judge) -> bool:
        """Have the answer judged; returns whether there is one."""
        try:
            ((status, body),) = self._line.answers(1)
        except (RunError, OSError):
            self._line.close()
            self._line = Line(*self._where)
            return False
        judge.innocent(self._asked, status, body)
        return True

    def close(self) -> None:
        """Go."""
        self._line.close()


SMUGGLED = Part(
    name="smuggled",
    rows="H1",
    about="requests hidden behind others, through nginx: none served, no answer astray",
    run=_smuggled,
)
