"""What guesses cost would be seen."""

from collections import Counter
from itertools import islice

import pytest

from bench.ours import Secrets
from bench.soak.guesses import Asked, Guess, Guesser, beyond, judged

ECHO, LOOK, READ = "select pg_notify($1, $2)", "with next as", "select c.place"
FILES = {
    f"0199a3c4-5b6d-7e8f-9a0b-1c2d3e4f5a{n:02x}": f"head.claims{n:02d}.signature"
    for n in range(20)
}


@pytest.fixture
def guesser() -> Guesser:
    return Guesser(1, Secrets.made(), FILES)


def missed(others=0, extra=(), reads=0) -> list[str]:
    figures = judged(others, dict(extra), reads)
    return [str(one) for one in figures if not one.holds]


def test_what_an_idle_gateway_asks_by_itself_is_not_counted():
    idle = Asked(60.0, {ECHO: 6, LOOK: 3})
    busy = Asked(300.0, {ECHO: 35, LOOK: 20})

    assert {} == beyond({LOOK}, idle, busy)


@pytest.mark.parametrize(
    ("calls", "found"),
    [
        ({READ: 1}, {READ: 1}),
        ({ECHO: 37}, {ECHO: 1}),
        ({ECHO: 36, LOOK: 7}, {LOOK: 1}),
    ],
)
def test_a_statement_that_no_timer_accounts_for_is_found(calls, found):
    idle = Asked(60.0, {ECHO: 6})
    busy = Asked(300.0, calls)

    assert found == beyond({ECHO, LOOK}, idle, busy)


def test_a_guess_that_is_refused_as_is_due_costs_nothing(guesser):
    guesser.hear(Guess("no credential", 401, b""), 401)

    assert [] == missed(guesser.others)


@pytest.mark.parametrize("status", [200, 404, 500])
def test_another_answer_than_the_one_that_is_due_is_named(guesser, status):
    guesser.hear(Guess("no credential", 401, b""), status)

    assert ["answers other than the refusal that is due: 1 (0) MISSED"] == missed(
        guesser.others
    )
    assert {f"no credential: {status}": 1} == guesser.answers


def test_a_statement_and_a_read_are_named():
    assert [
        "statements that they cost the database: 3 (0) MISSED",
        "reads by the gateway's own count: 2 (0) MISSED",
    ] == missed(extra={READ: 1, ECHO: 2}, reads=2)


def test_every_way_in_is_tried_and_none_is_let_in_by_its_own_token(guesser):
    hot, cold = (list(islice(one, 2000)) for one in (guesser._hot, guesser._cold))
    ways = Counter(
        guess.raw.split(b" ")[1].split(b"?")[0].rpartition(b"/")[2]
        for guess in hot + cold
    )

    assert {b"events", b"reports", b"manifest", b"history"} < set(ways)
    for guess in hot:
        for file_id, token in FILES.items():
            if token.encode() in guess.raw:
                path = guess.raw.split(b" ")[1]
                asked = f"/{file_id}".encode() in path
                alone = path.endswith(f"?file={file_id}".encode())

                assert [False, False] == [asked, alone]


def test_the_same_guesses_come_each_time():
    known = Secrets.made()
    one, two = (Guesser(1, known, FILES) for _ in range(2))

    assert [one._guess() for _ in range(500)] == [two._guess() for _ in range(500)]
