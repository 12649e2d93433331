"""
What three designs cost a month: `python -m bench.costs` prints the tables of
`docs/costs.md`.

What a waiting client takes comes from the record, prices from where each says.
Seconds of CPU are those of the machine of the record.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

RECORD = Path(__file__).parent / "results" / "2026-11-22-2043-393b7b0-waiting.json"

MONTH_MINUTES = 730 * 60
BASELINE_CPU_S = 12.0
"""CPU seconds a minute that a micro may use for ever: 12 credits an hour."""

UPDATE_S = 10
"""Between two words of MediaConvert, as the template has it."""

LAMBDA_GB_S = 0.25 * 0.2
"""One call: 256 MB as the template has it, 200 ms assumed, not measured on AWS."""

FREE_CALLS, FREE_GB_S = 1_000_000, 400_000

LCU_CONNECTS, LCU_OPEN, LCU_GB_HOUR = 25, 3_000, 1.0
"""One LCU: new connections a second, open ones, GB an hour; the most counts."""

POLL_BYTES = 1_000
"""One poll as a browser sends it, both ways; assumed, not measured."""


@dataclass(frozen=True, slots=True)
class Price:
    """
    A price.

    Attributes:
        usd: In US dollars, for one `unit`.
        found: Who says so, and when.
        confirmed: A page of AWS itself said so.
    """

    about: str
    usd: float
    unit: str
    where: str
    found: str
    confirmed: bool = False


PRICES = {
    "usd_sd": Price(
        "MediaConvert, Basic tier, an SD output", 0.0075, "minute of output",
        "lowest of any region", 'AWS, "from"', confirmed=True,
    ),
    "usd_hd": Price(
        "the same, HD (720 lines and more)", 0.015, "minute of output",
        "not said", "third party, 2025-10",
    ),
    "usd_call": Price(
        "Lambda, a call", 0.0000002, "call", "not said", "AWS, 2026-11",
        confirmed=True,
    ),
    "usd_gb_s": Price(
        "Lambda, its time", 0.0000166667, "GB-second", "not said", "AWS, 2026-11",
        confirmed=True,
    ),
    "usd_bus": Price(
        "EventBridge, events of AWS itself", 0.0, "event", "all",
        "third party, 2026-06-13",
    ),
    "usd_micro": Price(
        "t4g.micro, 2 vCPU, 1 GiB", 0.0104 * 730, "month", "ap-northeast-2",
        "a team's own bill, 2026-10",
    ),
    "usd_small": Price(
        "t4g.small, 2 vCPU, 2 GiB", 0.0208 * 730, "month", "ap-northeast-2",
        "a team's own bill, 2026-10",
    ),
    "usd_address": Price(
        "a public IPv4 address", 0.005 * 730, "month", "all",
        "AWS, from 2024-02 on", confirmed=True,
    ),
    "usd_disk": Price(
        "8 GB of gp3", 0.0912 * 8, "month", "ap-northeast-2",
        "a team's own bill, 2026-10",
    ),
    "usd_valkey": Price(
        "ElastiCache Serverless for Valkey, its least", 6.13, "month", "us-east-1",
        "third party, 2026-06",
    ),
    "usd_rds": Price(
        "RDS db.t4g.micro with 20 GB", 13.98, "month", "us-east-1",
        "third party, 2026",
    ),
    "usd_alb": Price(
        "ALB", 0.0225 * 730, "month", "ap-northeast-2", "a team's own bill, 2026-10",
    ),
    "usd_lcu": Price(
        "ALB, one LCU all the time", 0.008 * 730, "month", "us-east-1",
        "third party, 2026-05-08",
    ),
    "usd_bundle": Price(
        "Lightsail, 2 vCPU, 1 GB, 40 GB disk, an address", 7.0, "month",
        "us-east-1", "third party from AWS's list, 2026-09-17",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What one client that waits takes, for a minute of waiting."""

    cpu_s: float
    requests: float
    reads: float
    received_bytes: float
    kib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """
    Who uploads how much.

    Attributes:
        files: A month.
        video_minutes: Length of one.
        file_minutes: From the upload to the end, while clients wait.
        clients: That wait for one file.
        poll_s: How often they ask, if they do.
        peak: The busiest moment, in averages.
    """

    name: str
    files: int
    video_minutes: float
    file_minutes: float
    clients: float
    poll_s: float = 2.0
    peak: float = 10.0


TEAMS = (
    Team(name="small", files=300, video_minutes=5, file_minutes=5, clients=2),
    Team(name="middle", files=10_000, video_minutes=10, file_minutes=10, clients=3),
    Team(name="large", files=300_000, video_minutes=10, file_minutes=10, clients=5),
)

DESIGNS = ("v1", "v2", "v3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A month, in US dollars, without what is the same everywhere but converting."""

    converting: float
    calls: float
    machines: int
    machine: float
    redis: float

    @property
    def beside(self) -> float:
        """All but converting."""
        return self.calls + self.machine + self.redis


def usd(name: str) -> float:
    """One price."""
    return PRICES[name].usd


def samples() -> dict[str, dict[str, Any]]:
    """Samples of the record by contestant."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    return {one["contestant"]: one for one in record["samples"]}


def waiting(sample: dict[str, Any], size: str = "usual") -> Waiting:
    """
    One client's share of a sample.

    Args:
        size: "few" (1,000 clients) or "usual" (10,000, by Redis 9,000).
    """
    figures = {
        name.removesuffix(f"_{size}"): value
        for name, value in sample["figures"].items()
        if name.endswith(f"_{size}")
    }
    held = figures["held"]
    phase = sample["phases"][f"wait {held}"]
    return Waiting(
        cpu_s=(figures["cpu_s"] + figures["other_cpu_s"]) / held,
        requests=figures["requests"] / held,
        reads=figures["reads"] / held,
        received_bytes=phase["bytes"] * 60 / phase["seconds"] / held,
        kib=figures["kib_each"] + max(0.0, figures["kernel_kib_each"]),
    )


def at_once(team: Team) -> float:
    """Clients that wait at a time, on average over the month."""
    return team.files * team.file_minutes * team.clients / MONTH_MINUTES


def converting(team: Team) -> float:
    """1080, 720 and 480 lines, the template's ladder: two HD outputs, one SD."""
    return team.files * team.video_minutes * (2 * usd("usd_hd") + usd("usd_sd"))


def calls_of_a_file(team: Team, design: str) -> float:
    """
    Calls of the two functions.

    The upload and each word of MediaConvert; v1 and v2 only tell the end.
    """
    if design != "v3":
        return 2
    return 1 + 3 + team.file_minutes * 60 / UPDATE_S


def calls_usd(calls: float) -> float:
    """What calls of the functions cost, after what is free each month."""
    return usd("usd_call") * max(0.0, calls - FREE_CALLS) + usd("usd_gb_s") * max(
        0.0, calls * LAMBDA_GB_S - FREE_GB_S
    )


def cpu_s(team: Team, design: str, measured: dict[str, Waiting]) -> float:
    """CPU seconds a minute that waiting takes at the busiest moment."""
    of_one = measured[design].cpu_s
    if design == "v1":
        of_one *= 60 / team.poll_s / measured["v1"].requests
    return at_once(team) * team.peak * of_one


def machines(cpu_s_a_minute: float) -> int:
    """Micros whose credits never run out; there is always one."""
    return max(1, ceil(cpu_s_a_minute / BASELINE_CPU_S))


def bill(team: Team, design: str, measured: dict[str, Waiting]) -> Bill:
    """A month of one team with one design."""
    number = machines(cpu_s(team, design, measured))
    each = usd("usd_micro") + usd("usd_address") + usd("usd_disk")
    return Bill(
        converting=converting(team),
        calls=calls_usd(team.files * calls_of_a_file(team, design)),
        machines=number,
        machine=number * each,
        redis=usd("usd_valkey") if design == "v2" else 0.0,
    )


def lcus(*, connects: float = 0, open_: float = 0, bytes_: float = 0) -> float:
    """LCUs of connects a second, open connections, bytes a second."""
    return max(
        connects / LCU_CONNECTS, open_ / LCU_OPEN, bytes_ * 3600 / 1e9 / LCU_GB_HOUR
    )


def by_design(size: str = "usual") -> dict[str, Waiting]:
    """The three designs as they were measured."""
    found = samples()
    return {
        "v1": waiting(found["polling"], size),
        "v2": waiting(found["starlette-redis"], size),
        "v3": waiting(found["ours"], size),
        "v3, long-poll": waiting(found["ours-lp"], size),
    }


def tables() -> dict[str, str]:
    """Every table of the document by the name of its marks."""
    return {
        "waiting": _waiting_table(),
        "prices": _prices_table(),
        "teams": _teams_table(),
        "balancer": _balancer_table(),
        "machines": _machines_table(),
        "ten-dollars": _ten_dollars_table(),
    }


def marked(name: str, table: str) -> str:
    """Put a table between its marks, as it stands in the document."""
    return f"<!-- {name} -->\n\n{table}\n\n<!-- /{name} -->"


def _waiting_table() -> str:
    rows = []
    for clients, size in (("1,000", "few"), ("10,000", "usual")):
        for design, one in by_design(size).items():
            a_poll = one.cpu_s * 1000 / one.requests if design == "v1" else None
            rows.append(
                (
                    "9,000" if (design, size) == ("v2", "usual") else clients,
                    design,
                    _number(one.cpu_s * 1000),
                    "" if a_poll is None else _number(a_poll),
                    _number(one.requests),
                    _number(one.reads),
                    _number(one.received_bytes),
                    _number(one.kib),
                )
            )
    head = (
        "clients", "design", "CPU ms", "CPU ms of one poll", "requests",
        "database reads", "bytes received", "memory KiB",
    )  # fmt: skip
    return _table(head, rows)


def _prices_table() -> str:
    return _table(
        ("variable", "of", "$", "for a", "region", "says", "confirmed"),
        (
            (
                f"`{name}`",
                one.about,
                f"{one.usd:.10f}".rstrip("0").rstrip(".") if one.usd < 1
                else f"{one.usd:.2f}",
                one.unit,
                one.where,
                one.found,
                "yes" if one.confirmed else "**no**",
            )
            for name, one in PRICES.items()
        ),
    )  # fmt: skip


def _teams_table() -> str:
    measured = by_design()
    rows = []
    for team in TEAMS:
        for design in DESIGNS:
            one = bill(team, design, measured)
            rows.append(
                (
                    team.name,
                    f"{team.files:,}",
                    f"{at_once(team):,.1f}",
                    f"{at_once(team) * team.peak:,.0f}",
                    design,
                    _number(cpu_s(team, design, measured)),
                    str(one.machines),
                    f"{one.machine:,.2f}",
                    f"{one.redis:,.2f}",
                    f"{one.calls:,.2f}",
                    f"{one.beside:,.2f}",
                    f"{one.converting:,.0f}",
                )
            )
    head = (
        "team", "files", "waiting", "at the peak", "design", "CPU s a minute",
        "machines", "$ machines", "$ Redis", "$ functions", "$ beside converting",
        "$ converting",
    )  # fmt: skip
    return _table(head, rows)


def _balancer_table() -> str:
    rows = []
    for clients in (100, 1_000, 10_000):
        polls = clients / 2
        for way, used in (
            ("v1, every 2 s, a connection each", lcus(connects=polls)),
            (
                "v1, every 2 s, kept alive",
                lcus(open_=clients, bytes_=polls * POLL_BYTES),
            ),
            ("v2 and v3, a stream", lcus(open_=clients)),
        ):
            rows.append(
                (f"{clients:,}", way, _number(used), f"{used * usd('usd_lcu'):,.2f}")
            )
    return _table(("clients at all times", "way", "LCU", "$ a month"), rows)


def _machines_table() -> str:
    address, disk = usd("usd_address"), usd("usd_disk")
    pair = 2 * (usd("usd_micro") + disk + address) + usd("usd_rds")
    balancer = usd("usd_alb") + 2 * address
    return _table(
        ("what", "$ a month"),
        (
            (what, f"{of_month:,.2f}")
            for what, of_month in (
                ("Lightsail, 1 GB", usd("usd_bundle")),
                ("EC2 t4g.micro, 1 GiB", usd("usd_micro") + address + disk),
                ("EC2 t4g.small, 2 GiB", usd("usd_small") + address + disk),
                ("two t4g.micro, RDS and an ALB", pair + balancer),
            )
        ),
    )


def _ten_dollars_table() -> str:
    measured = by_design()
    rows = []
    for design, name, poll_s in (
        ("v1", "v1, every 2 s", 2.0),
        ("v1", "v1, every 10 s", 10.0),
        ("v2", "v2", 2.0),
        ("v3, long-poll", "v3, long-poll", 2.0),
        ("v3", "v3, SSE", 2.0),
    ):
        of_one = measured[design].cpu_s
        if design == "v1":
            of_one *= 60 / poll_s / measured["v1"].requests
        held = BASELINE_CPU_S / of_one
        rows.append(
            (
                name,
                f"{round(held, -2):,.0f}",
                f"{held * measured[design].kib / 1024:,.0f}",
            )
        )
    return _table(("way", "clients by CPU", "MiB that they take"), rows)


def _number(value: float) -> str:
    """Three digits that matter."""
    if value == 0:
        return "0"
    if value < 0.001:
        return "< 0.001"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print("\n\n".join(marked(name, table) for name, table in tables().items()))
