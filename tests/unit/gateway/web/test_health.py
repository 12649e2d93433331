import asyncio

import pytest

from gateway.errors import UnavailableError
from gateway.hub import Hub
from gateway.web import health
from gateway.web.health import Health


class Database:
    """Counts how often it is asked, and answers when it may."""

    def __init__(self):
        self.asked = 0
        self.is_away = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def ping(self):
        self.asked += 1
        await self.may_answer.wait()
        if self.is_away:
            raise UnavailableError("it is away")


@pytest.fixture
async def database():
    return Database()


@pytest.fixture
def asked(database):
    one = Health(
        Hub(),
        listening=lambda: True,
        can_do_deaf=False,
        ping=database.ping,
        scrape=lambda: None,
    )

    async def status():
        return (await one.ready(None)).status

    return status


async def test_however_many_ask_the_database_is_asked_once(database, asked):
    database.may_answer.clear()
    asking = asyncio.gather(*(asked() for _ in range(100)))
    await asyncio.sleep(0)
    database.may_answer.set()

    assert {200} == set(await asking)
    assert 1 == database.asked


async def test_what_is_known_of_it_is_soon_asked_anew(database, asked, monkeypatch):
    assert 200 == await asked()
    database.is_away = True
    assert 200 == await asked()
    monkeypatch.setattr(health, "ANSWER_LIFE_S", 0)

    assert 503 == await asked()


async def test_whoever_asks_next_is_answered_when_the_first_one_left(database, asked):
    database.may_answer.clear()
    first, second = asyncio.ensure_future(asked()), asyncio.ensure_future(asked())
    await asyncio.sleep(0)
    first.cancel()
    database.may_answer.set()

    assert 200 == await second
    assert 1 == database.asked


async def test_whoever_leaves_before_the_answer_asks_the_database_no_more(
    database, asked
):
    database.may_answer.clear()
    for _ in range(10):
        asking = asyncio.ensure_future(asked())
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    database.may_answer.set()

    assert 200 == await asked()
    assert 1 == database.asked
