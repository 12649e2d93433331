"""A frame that is read as something else would be seen."""

from itertools import islice

import pytest

from bench.soak import frames
from bench.soak.frames import Read
from gateway.protocol import sse
from gateway.protocol.sse_parser import ServerEvent, SseParser

ONE, TWO, THREE = (ServerEvent("message", f'{{"a":{n}}}', str(n)) for n in (1, 2, 3))


async def read(*heard: ServerEvent) -> Read:
    found = Read()
    for event in (ONE, TWO, THREE):
        await found.send(event)
    found.hear(list(heard))
    return found


def missed(found: Read, least: int = 3) -> list[str]:
    return [str(one) for one in found.figures("it", least) if not one.holds]


async def of_stream(count: int) -> Read:
    """Read a stream of this part by our parser, over HTTP."""
    async with frames._served(count) as (found, port):
        await frames._read(found, port, count)
    return found


async def test_what_was_sent_is_what_is_read():
    assert [] == missed(await read(ONE, TWO, THREE))


@pytest.mark.parametrize(
    ("heard", "mismatches"),
    [
        ((ONE, TWO._replace(data="{}"), THREE), 1),
        ((ONE, TWO._replace(type="evil"), THREE), 1),
        ((ONE, TWO._replace(last_event_id="1"), THREE), 1),
        ((ONE, THREE, TWO), 2),
        ((ONE, TWO, THREE, THREE), 1),
        ((ONE, ONE, TWO, THREE), 3),
    ],
    ids=["data", "type", "id", "order", "one more", "doubled"],
)
async def test_each_field_that_is_another_is_named(heard, mismatches):
    found = await read(*heard)

    assert [f"it: mismatches: {mismatches} (0) MISSED"] == missed(found)
    assert found.samples


async def test_an_event_that_never_came_is_named():
    assert ["it: events read: 2 (>= 3) MISSED"] == missed(await read(ONE, TWO))


async def test_a_connection_that_was_cut_is_named():
    found = await read(ONE, TWO, THREE)
    found.streams, found.errors = 2, 1

    assert [
        "it: streams more than one: 1 (0) MISSED",
        "it: errors of the connection: 1 (0) MISSED",
    ] == missed(found)


def test_the_same_seed_makes_the_same_frames_and_all_that_is_hostile_is_in_them():
    one, two = (list(islice(frames.frames(7), 5000)) for _ in range(2))
    events = [event for _, event in one if event is not None]
    data = "".join(event.data for event in events)

    assert one == two
    assert {"message", "hb", "reset", "bye"} == {event.type for event in events}
    for piece in (r"\u0000", r"\r\n", r"\nid: 7\n\n", r"\ud800", "\ufeff", "\u2028"):
        assert piece in data


def test_what_must_be_read_is_what_was_given_to_the_writer():
    made = list(islice(frames.frames(8), 5000))

    expected = [event for _, event in made if event is not None]
    assert expected == SseParser().feed(b"".join(frame for frame, _ in made))


async def test_a_stream_is_read_wherever_it_is_cut():
    assert [] == missed(await of_stream(500), least=500)


async def test_a_writer_that_lets_line_breaks_through_is_found(monkeypatch):
    monkeypatch.setattr(frames, "_PATIENCE_S", 0.5)
    monkeypatch.setattr(
        frames.sse,
        "event",
        lambda seq, data: b"id: %d\ndata: %b\n\n" % (seq, data.replace(b"\\n", b"\n")),
    )

    assert "it: mismatches: " in str(missed(await of_stream(500), least=500))


async def test_a_writer_that_forgets_its_ids_is_found(monkeypatch):
    monkeypatch.setattr(frames.sse, "event", lambda _, data: sse.unnumbered(data))

    found = await of_stream(200)

    assert found.mismatches > 100
