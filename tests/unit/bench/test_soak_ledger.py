"""An oracle that forgives is worse than none."""

from collections import Counter

import pytest

from bench.errors import RunError
from bench.soak.ledger import CatchUp, Ledger, percentile
from bench.soak.poller import Poller
from bench.soak.tab import Tab

FILE = "f-1"
TABLE = [(1, 1, b"{1}"), (2, 2, b"{2}"), (3, 3, b"{3}")]


@pytest.fixture
def ledger() -> Ledger:
    """Two reports were acknowledged, and one client saw everything."""
    one = Ledger()
    one.acknowledge(FILE, 2, 2)
    one.acknowledge(FILE, 3, 3)
    for seq, _, data in TABLE:
        one.receive(FILE, seq - 1, seq, data)
    return one


def faults(ledger: Ledger, events=TABLE) -> set[str]:
    ledger.audit(FILE, events)
    return set(ledger.faults)


def test_what_is_as_it_was_said_has_no_faults(ledger):
    assert set() == faults(ledger)
    assert (2, 3, {FILE: 3}) == (ledger.acknowledged, ledger.received, ledger.heads)


@pytest.mark.parametrize(
    ("stored", "fault"),
    [
        (TABLE[:2], "an acknowledged report is lost"),
        ([TABLE[0], (2, 3, b"{2}"), TABLE[2]], "an acknowledged report is another"),
        ([TABLE[0], TABLE[2]], "the table has a hole"),
        (TABLE[:2], "a client was told what the table does not hold"),
        ([TABLE[0], (2, 2, b"{x}"), TABLE[2]], "a client was told something else"),
    ],
)
def test_a_table_that_says_otherwise_is_a_fault(ledger, stored, fault):
    assert fault in faults(ledger, stored)


@pytest.mark.parametrize(
    ("seq", "fault"),
    [(3, "a seq was given twice"), (1, "a later report has no later seq")],
)
def test_a_seq_that_does_not_rise_is_a_fault(ledger, seq, fault):
    ledger.acknowledge(FILE, seq, 9)

    assert fault in ledger.faults


@pytest.mark.parametrize(
    ("before", "seq", "data", "fault"),
    [
        (1, 3, b"{3}", "an event was skipped"),
        (3, 3, b"{3}", "an event came twice or late"),
        (3, 2, b"{2}", "an event came twice or late"),
        (2, 3, b"{x}", "two clients were told different things"),
    ],
)
def test_what_one_client_is_sent_wrongly_is_a_fault(ledger, before, seq, data, fault):
    ledger.receive(FILE, before, seq, data)

    assert [fault] == list(ledger.faults)


def test_a_tab_takes_what_a_browser_would_wherever_the_bytes_are_cut():
    happened: Counter[str] = Counter()
    stream = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        b": hi\nretry: 1234\n\nid: 1\ndata: {1}\n\nevent: hb\ndata:\n\n"
        b'id: 2\ndata: {2}\n\nevent: bye\ndata: {"reason":"age"}\n\nid: 3\ndata: {'
    )
    ledger = Ledger()
    tab = Tab(1, FILE, "t", ledger, happened)
    for at in range(len(stream)):
        tab.data_received(stream[at : at + 1])

    assert (2, True, False) == (tab.last, tab.is_open, tab.is_dead)
    assert 1.234 == tab._retry_s
    assert {"answer 200": 1, "hb": 1, 'bye {"reason":"age"}': 1} == happened
    assert not ledger.faults


def test_an_end_that_is_told_too_early_is_a_fault(ledger):
    tab = Tab(1, FILE, "t", ledger, Counter())
    poller = Poller(1, FILE, "t", ledger, Counter())

    tab.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
    body = b'{"events":[],"after":2,"final":true}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    poller.data_received(head + body)

    assert {"an end was told too early": 2} == ledger.faults


@pytest.mark.parametrize(("status", "ends"), [(b"204", "is_done"), (b"503", "is_dead")])
def test_a_tab_never_comes_back_from_what_a_browser_does_not(status, ends):
    tab = Tab(1, FILE, "t", Ledger(), Counter())

    tab.data_received(b"HTTP/1.1 " + status + b" x\r\n\r\n")

    assert getattr(tab, ends)


def test_a_poller_takes_whole_answers_and_their_cursor():
    ledger = Ledger()
    poller = Poller(1, FILE, "t", ledger, Counter())
    body = b'{"events":[{"seq":1},{"seq":2}],"after":2,"final":true}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    for at in range(len(answer)):
        poller.data_received(answer[at : at + 1])

    assert (2, 1, True) == (poller.last, poller.answers, poller.is_done)
    assert (2, Counter()) == (ledger.received, ledger.faults)


def test_a_percentile_is_one_of_the_samples():
    catch_up = CatchUp()
    catch_up.begin()
    catch_up.reached()

    assert 1 == len(catch_up.samples_s)
    with pytest.raises(RunError):
        percentile([], 0.99)
    assert (5.0, 10.0) == (
        percentile([1.0, 5.0, 3.0], 0.99),
        percentile([float(n) for n in range(11)], 0.99),
    )
