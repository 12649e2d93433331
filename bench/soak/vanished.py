"""
Clients that vanish without a word: somebody pulls the cable.

No FIN and no RST will ever come; what they held must be free all the same.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

from bench.errors import RunError
from bench.server import get
from bench.soak import hasty
from bench.soak.cable import cable
from bench.soak.ledger import Ledger
from bench.soak.part import Outcome, Part, Size, at_most, none, told
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage

_WAIT_S = 600
"""Longer than anybody is given: a poll that is forgotten has not just ended."""

_LIMIT_S = 120.0
_POLL_S = 0.25


@dataclass(frozen=True)
class _Plan:
    """
    How many, and when they must be forgotten.

    Attributes:
        patience_s: Of the gateway, in place of its own; 0: its own.
    """

    clients: int
    heartbeat_s: int
    patience_s: int
    freed_s: float


_PLANS = {
    Size.SHORT: _Plan(clients=40, heartbeat_s=1, patience_s=3, freed_s=15.0),
    Size.FULL: _Plan(clients=5000, heartbeat_s=15, patience_s=0, freed_s=45.0),
}


async def _waiting(stage: Stage, count: int) -> int:
    """Wait until so many subscribers are there; returns how many are."""
    subscribers = -1
    with suppress(TimeoutError):
        async with asyncio.timeout(_LIMIT_S):
            while subscribers != count and stage.gateway.returncode is None:
                subscribers = (await stage.metrics())["subscribers"]
                await asyncio.sleep(_POLL_S)
    return subscribers


async def _vanished(size: Size) -> Outcome:
    plan = _PLANS[size]
    settings = {
        "HEARTBEAT_SECONDS": str(plan.heartbeat_s),
        "MAX_WAIT_SECONDS": str(_WAIT_S),
    }
    with cable() as line:
        async with Stage(settings=settings, address=line.address) as stage:
            await hasty.start(stage, plan.patience_s)
            async with Reporter(stage, Ledger()) as reporter:
                file_id, token = await reporter.register()
            clients = line.connect(stage.port, plan.clients)
            path = f"/v1/files/{file_id}/events"
            shown = f"Authorization: Bearer {token}"
            asked = (
                get(path, shown, "Accept: text/event-stream"),
                get(f"{path}?after=1&wait={_WAIT_S}", shown),
            )
            for number, one in enumerate(clients):
                one.sendall(asked[number % 2] + b"\r\n")
            came = await _waiting(stage, plan.clients)
            line.pull()
            pulled_s = time.monotonic()
            await _waiting(stage, 0)
            freed_s = time.monotonic() - pulled_s
            if stage.gateway.returncode is not None:
                died = stage.children.last_words("gateway")
                raise RunError(f"the gateway died: {died}")
            left = await stage.metrics()
            for one in clients:
                one.close()
    return Outcome(
        figures=[
            at_most("slots freed after, s", freed_s, plan.freed_s),
            none("subscribers left", left["subscribers"]),
            none("connections left", left["connections"]),
            none("clients that never came", plan.clients - came),
            told("clients that vanished, half of them long-polls", plan.clients),
        ]
    )


VANISHED = Part(
    name="vanished",
    rows="N1",
    about="clients that vanish without a word are forgotten in time",
    run=_vanished,
)
