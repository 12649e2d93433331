"""Never early, at most a tick late, once."""

import asyncio
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wheel import MIN_LEFT, NEVER, TICK_S, Timed, Wheel
from tests.unit.gateway.turned import TurnedWheel


class Entry(Timed):
    """Remembers when it was called."""

    __slots__ = ("__weakref__", "again_s", "calls", "wheel")

    def __init__(self, wheel: TurnedWheel, *, again_s: float | None = None):
        super().__init__()
        self.wheel = wheel
        self.again_s = again_s
        self.calls: list[float] = []

    def on_time(self) -> None:
        assert NEVER == self.due
        self.calls.append(self.wheel.now_s())
        if self.again_s is not None:
            self.wheel.put(self, self.again_s)


@pytest.fixture
async def wheel():
    """A wheel at a moment that is not the beginning."""
    one = TurnedWheel()
    one.pass_s(12.345)
    return one


@pytest.mark.parametrize("after_s", [0, 0.001, 0.05, 0.1, 0.15, 1, 59.99])
async def test_an_entry_is_called_once_and_never_early(wheel, after_s):
    entry = Entry(wheel)
    put_s = wheel.now_s()
    wheel.put(entry, after_s)

    wheel.pass_s(after_s + 3 * TICK_S)

    (called_s,) = entry.calls
    assert after_s <= called_s - put_s + 1e-9
    assert called_s - put_s <= after_s + 2 * TICK_S
    assert NEVER == entry.due


async def test_a_second_put_replaces_the_first(wheel):
    later, sooner = Entry(wheel), Entry(wheel)
    wheel.put(later, 1)
    wheel.put(later, 5)
    wheel.put(sooner, 5)
    wheel.put(sooner, 1)
    put_s = wheel.now_s()

    wheel.pass_s(9)

    assert 1 == len(later.calls) == len(sooner.calls)
    assert 5 <= later.calls[0] - put_s
    assert 1 <= sooner.calls[0] - put_s < 2


async def test_two_puts_into_one_tick_are_one_call(wheel):
    entry = Entry(wheel)
    wheel.put(entry, 1)
    wheel.put(entry, 1)

    wheel.pass_s(3)

    assert 1 == len(entry.calls)


async def test_a_dropped_entry_is_passed_over_and_may_come_back(wheel):
    entry = Entry(wheel)
    wheel.put(entry, 1)
    entry.due = NEVER
    wheel.pass_s(2)

    assert [] == entry.calls

    wheel.put(entry, 1)
    wheel.pass_s(2)

    assert 1 == len(entry.calls)


async def test_an_entry_that_puts_itself_again_is_called_in_a_later_tick(wheel):
    entry = Entry(wheel, again_s=0)

    wheel.put(entry, 0)
    wheel.pass_s(5 * TICK_S)

    assert 4 <= len(entry.calls) <= 5
    assert len(set(entry.calls)) == len(entry.calls)


async def test_a_long_pause_calls_everyone_once_however_many_ticks_it_took(wheel):
    beats = [Entry(wheel, again_s=1) for _ in range(5)]
    once = [Entry(wheel) for _ in range(500)]
    for n, entry in enumerate([*beats, *once]):
        wheel.put(entry, n / 10)

    wheel.pass_s(3600, at_once=True)

    assert {1} == {len(entry.calls) for entry in [*beats, *once]}

    wheel.pass_s(1.2)

    assert {2} == {len(entry.calls) for entry in beats}


async def test_entries_may_drop_each_other_within_a_tick(wheel):
    class Rival(Entry):
        __slots__ = ("other",)

        def on_time(self):
            super().on_time()
            self.other.due = NEVER

    one, two = Rival(wheel), Rival(wheel)
    one.other, two.other = two, one
    for entry in (one, two):
        wheel.put(entry, 1)

    wheel.pass_s(3)

    assert 1 == len(one.calls) + len(two.calls)


async def test_ten_thousand_in_one_tick_are_all_called_and_none_is_kept(wheel):
    entries = [Entry(wheel) for _ in range(10_000)]
    for entry in entries:
        wheel.put(entry, 1)

    wheel.pass_s(2)

    assert {1} == {len(entry.calls) for entry in entries}
    assert not wheel._ticks


async def test_one_that_fails_is_told_to_the_loop_and_the_others_are_called(wheel):
    class Broken(Timed):
        __slots__ = ()

        def on_time(self):
            raise ZeroDivisionError

    before, broken, behind = Entry(wheel), Broken(), Entry(wheel)
    for entry in (before, broken, behind):
        wheel.put(entry, 1)

    wheel.pass_s(2)

    assert (1, 1) == (len(before.calls), len(behind.calls))
    ((said),) = wheel.complaints
    assert isinstance(said["exception"], ZeroDivisionError)
    assert "Broken" in said["message"]


@given(
    puts=st.lists(
        st.tuples(st.integers(0, 4), st.floats(0, 3, allow_nan=False), st.floats(0, 1)),
        max_size=30,
    )
)
def test_any_order_of_puts_and_pauses_calls_for_the_last_put_only(puts):
    async def play():
        wheel = TurnedWheel()
        entries = [Entry(wheel) for _ in range(5)]
        wanted: dict[int, float] = {}
        for which, after_s, pause_s in puts:
            entries[which].calls.clear()
            wheel.put(entries[which], after_s)
            wanted[which] = wheel.now_s() + after_s
            wheel.pass_s(pause_s, at_once=True)
        wheel.pass_s(4)
        for which, entry in enumerate(entries):
            assert (which in wanted) == len(entry.calls)
            assert all(wanted[which] <= called_s + 1e-9 for called_s in entry.calls)

    asyncio.run(play())


@pytest.mark.parametrize("after_s", [0, 0.3, 1, 59.99])
async def test_entries_may_be_called_in_groups(wheel, after_s):
    entries = [Entry(wheel) for _ in range(20)]
    put_s = wheel.now_s()
    for n, entry in enumerate(entries):
        wheel.put(entry, after_s + n * TICK_S, ticks=5)

    wheel.pass_s(after_s + 30 * TICK_S)

    for n, entry in enumerate(entries):
        (called_s,) = entry.calls
        assert 0 <= called_s - put_s - after_s - n * TICK_S + 1e-9 <= 7 * TICK_S
    assert len({entry.calls[0] for entry in entries}) <= 5


async def test_many_are_called_a_part_at_a_time(wheel):
    entries = [Entry(wheel) for _ in range(25)]
    for entry in entries:
        wheel.put(entry, 0)
    in_a_second = wheel.now_s() + 1

    assert [True, True, False] == [wheel.turn(in_a_second, most=10) for _ in range(3)]
    assert {1} == {len(entry.calls) for entry in entries}
    assert not wheel._ticks


async def test_it_sleeps_until_somebody_is_due_and_hears_who_is_due_sooner():
    wheel = Wheel()
    order = []
    done = asyncio.Event()

    class Named(Timed):
        __slots__ = ("name",)

        def on_time(self):
            order.append(self.name)
            if self.name == "later":
                done.set()

    running = asyncio.create_task(wheel.run())
    await asyncio.sleep(0)
    for name, after_s in (("later", 0.4), ("sooner", 0.1), ("between", 0.2)):
        entry = Named()
        entry.name = name
        wheel.put(entry, after_s)
    async with asyncio.timeout(5):
        await done.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert ["sooner", "between", "later"] == order


async def test_it_turns_by_itself_when_it_runs():
    wheel = Wheel()
    called = asyncio.Event()

    class Bell(Timed):
        __slots__ = ()

        def on_time(self):
            called.set()

    running = asyncio.create_task(wheel.run())
    wheel.put(Bell(), 0)
    async with asyncio.timeout(5):
        await called.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_plain_entry_has_nothing_to_do():
    with pytest.raises(NotImplementedError):
        Timed().on_time()


async def test_who_left_is_let_go_of_long_before_its_time(wheel):
    """Connections that come and go must not pile up until their patience is over."""
    kept = [Entry(wheel) for _ in range(50)]
    for entry in kept:
        wheel.put(entry, 60)
    gone = []
    for _ in range(10 * MIN_LEFT):
        entry = Entry(wheel)
        gone.append(weakref.ref(entry))
        wheel.put(entry, 75)
        wheel.put(entry, 60)
        wheel.drop(entry)
        del entry

    assert MIN_LEFT > sum(one() is not None for one in gone)
    wheel.pass_s(61)
    assert [1] * 50 == [len(entry.calls) for entry in kept]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5), st.sampled_from(["put", "drop", "pass"]), st.floats(0, 3)
        ),
        max_size=60,
    )
)
def test_clearing_places_calls_nobody_else_and_nobody_twice(steps):
    """A wheel that clears them at every step does as one that never does."""
    often, never = (asyncio.run(lived(steps, most)) for most in (1, 10**9))

    assert often == never


async def lived(steps, min_left):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.wheel.MIN_LEFT", min_left)
        one = TurnedWheel()
        entries = [Entry(one) for _ in range(6)]
        for nth, step, seconds in steps:
            if step == "put":
                one.put(entries[nth], seconds)
            elif step == "drop":
                one.drop(entries[nth])
            else:
                one.pass_s(seconds)
        one.pass_s(10)
        assert 0 == one._places == one._left
        return [entry.calls for entry in entries]
