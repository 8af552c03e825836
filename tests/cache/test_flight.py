"""Single flight: one execution per key, nobody waits for the dead, nobody is handed what is older than a write."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from heliosproxy.cache.flight import Flight, Flights
from heliosproxy.cache.store import Entry
from heliosproxy.sql.statement import Kind, Statement

LONG = 30.0
ENTRY = Entry(
    slots=(1,), token=0, statement=Statement("", Kind.SELECT), payload="x", size=1, relations=frozenset()
)


def test_one_leads_others_follow() -> None:
    flights = Flights()
    leader = flights.join("k", 0)
    follower = flights.join("k", 0)
    assert (leader.leader, follower.leader) == (True, False)
    assert flights.join("other", 0).leader
    leader.done(ENTRY)
    leader.done(None)
    assert follower.wait(LONG) is ENTRY
    assert flights.join("k", 0).leader


def test_flight_from_before_a_write_is_not_joined() -> None:
    flights = Flights()
    old = flights.join("k", 0)
    early = flights.join("k", 0)
    new = flights.join("k", 65_536)
    late = flights.join("k", 65_536)
    assert (new.leader, late.leader) == (True, False)
    old.done(None)
    assert early.wait(LONG) is None
    # The old flight must not take the new one with it.
    assert not flights.join("k", 65_536).leader
    new.done(ENTRY)
    assert late.wait(LONG) is ENTRY
    assert len(flights) == 0


def in_thread(flight: Flight, timeout: float = LONG) -> Entry | None:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(flight.wait, timeout).result()


def test_failed_leader_releases() -> None:
    flights = Flights()

    def lead() -> None:
        with flight:
            raise ZeroDivisionError

    flight, follower = flights.join("k", 0), flights.join("k", 0)
    with pytest.raises(ZeroDivisionError):
        lead()
    assert follower.wait(LONG) is None
    assert len(flights) == 0


def test_forgotten_leader_releases() -> None:
    flights = Flights()
    leader = flights.join("k", 0)
    follower = flights.join("k", 0)
    del leader
    gc.collect()
    assert follower.wait(LONG) is None
    assert len(flights) == 0


def test_follower_leaving_its_context_ends_nothing() -> None:
    flights = Flights()
    leader = flights.join("k", 0)
    with flights.join("k", 0):
        pass
    follower = flights.join("k", 0)
    assert not follower.leader
    leader.done(ENTRY)
    assert follower.wait(LONG) is ENTRY


def test_wait_is_bounded_and_the_next_one_leads() -> None:
    flights = Flights()
    slow = flights.join("k", 0)
    assert in_thread(flights.join("k", 0), 0.001) is None
    assert flights.join("k", 0).leader
    slow.done(None)


def test_thread_does_not_wait_for_itself() -> None:
    flights = Flights()
    leader = flights.join("k", 0)
    assert flights.join("k", 0).wait(LONG) is None
    leader.done(None)


def test_many_threads_one_execution() -> None:
    flights = Flights()
    barrier = threading.Barrier(8)
    executions: list[int] = []

    def ask() -> Entry | None:
        flight = flights.join("k", 0)
        barrier.wait(LONG)
        if not flight.leader:
            return flight.wait(LONG)
        with flight:
            executions.append(1)
            flight.done(ENTRY)
        return ENTRY

    with ThreadPoolExecutor(8) as threads:
        answers = [f.result() for f in [threads.submit(ask) for _ in range(8)]]
    assert answers == [ENTRY] * 8
    assert executions == [1]


async def parked(task: asyncio.Task[Entry | None], flight: Flight) -> None:
    """Until the task waits for the flight."""
    while not flight._shared._futures and not task.done():
        await asyncio.sleep(0)


def test_tasks_and_threads_wait_for_the_same_flight() -> None:
    flights = Flights()
    leader = flights.join("k", 0)
    waiting = threading.Barrier(3)

    def other_loop() -> Entry | None:
        async def follow() -> Entry | None:
            flight = flights.join("k", 0)
            task = asyncio.create_task(flight.wait_async(LONG))
            await parked(task, flight)
            waiting.wait(LONG)
            return await task

        return asyncio.run(follow())

    def thread() -> Entry | None:
        flight = flights.join("k", 0)
        waiting.wait(LONG)
        return flight.wait(LONG)

    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(other_loop), threads.submit(thread)]
        waiting.wait(LONG)
        leader.done(ENTRY)
        assert [a.result() for a in answers] == [ENTRY, ENTRY]


def test_landed_before_the_wait() -> None:
    flights = Flights()
    leader, follower = flights.join("k", 0), flights.join("k", 0)
    leader.done(ENTRY)
    assert asyncio.run(follower.wait_async(LONG)) is ENTRY


def test_cancelled_leader_releases() -> None:
    async def main() -> None:
        flights = Flights()

        async def lead() -> None:
            with flights.join("k", 0):
                await asyncio.Event().wait()

        leader = asyncio.create_task(lead())
        await asyncio.sleep(0)
        flight = flights.join("k", 0)
        assert not flight.leader
        follower = asyncio.create_task(flight.wait_async(LONG))
        await parked(follower, flight)
        leader.cancel()
        assert await follower is None
        with pytest.raises(asyncio.CancelledError):
            await leader

    asyncio.run(main())


def test_cancelled_follower_harms_nobody() -> None:
    async def main() -> None:
        flights = Flights()
        leader = flights.join("k", 0)
        one, two = flights.join("k", 0), flights.join("k", 0)
        cancelled = asyncio.create_task(one.wait_async(LONG))
        await parked(cancelled, one)
        patient = asyncio.create_task(two.wait_async(LONG))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert len(one._shared._futures) == 1
        leader.done(ENTRY)
        assert await patient is ENTRY

    asyncio.run(main())


def test_cancelled_after_the_landing_was_announced() -> None:
    async def main() -> None:
        flights = Flights()
        leader, follower = flights.join("k", 0), flights.join("k", 0)
        task = asyncio.create_task(follower.wait_async(LONG))
        await parked(task, follower)
        leader.done(ENTRY)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    asyncio.run(main())


def test_async_wait_is_bounded() -> None:
    flights = Flights()
    leader = flights.join("k", 0)
    assert asyncio.run(flights.join("k", 0).wait_async(0.001)) is None
    assert flights.join("k", 0).leader
    leader.done(None)


def test_loop_that_closed_meanwhile() -> None:
    flights = Flights()
    leader, follower = flights.join("k", 0), flights.join("k", 0)

    loop = asyncio.new_event_loop()
    future = loop.create_future()
    follower._shared._futures.add(future)
    loop.close()
    leader.done(ENTRY)
    assert follower.wait(LONG) is ENTRY


def test_child_follows_no_leader_of_its_parent() -> None:
    flights = Flights()
    leader = flights.join("k", 0)
    flights.after_fork()
    assert flights.join("k", 0).leader
    leader.done(None)
