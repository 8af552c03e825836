"""The pool under event loops: the same queue as the threads, and cancellation in every moment."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from heliosproxy.errors import PoolClosed, PoolTimeout


async def queued(pool: Any, number: int = 1) -> None:
    while pool.stats()["requests_waiting"] < number:
        await asyncio.sleep(0)


def test_tasks_are_served_in_the_order_they_came(world: Any) -> None:
    async def main() -> None:
        pool = world(1).pool()
        server = await pool.lease_async()
        served = []

        async def work(number: int) -> None:
            leased = await pool.lease_async()
            served.append(number)
            pool.release(leased)

        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(work(number)))
            await queued(pool, number + 1)
        pool.release(server)
        await asyncio.gather(*tasks)
        assert served == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_a_thread_serves_a_task_and_a_task_serves_a_thread(world: Any, crew: Any) -> None:
    pool = world(1).pool()
    server = pool.lease()
    ready = threading.Event()

    async def main() -> Any:
        task = asyncio.create_task(pool.lease_async())
        await queued(pool)
        ready.set()
        leased = await task
        outcome = crew.queue(pool.lease)
        pool.release(leased)
        return outcome

    def give() -> None:
        ready.wait()
        pool.release(server)

    giver = threading.Thread(target=give)
    giver.start()
    outcome = asyncio.run(main())
    crew.finish()
    giver.join()
    assert outcome == [server]


def test_a_cancelled_waiter_leaves_the_queue(world: Any) -> None:
    async def main() -> None:
        pool = world(1).pool()
        server = pool.lease()
        task = asyncio.create_task(pool.lease_async())
        await queued(pool)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pool.stats()["requests_waiting"] == 0
        pool.release(server)
        assert pool.try_lease() is server

    asyncio.run(main())


@pytest.mark.parametrize("broken", [False, True])
def test_a_waiter_cancelled_after_the_grant_hands_it_on(world: Any, broken: bool) -> None:
    async def main() -> None:
        w = world(1)
        pool = w.pool()
        server = pool.lease()
        first = asyncio.create_task(pool.lease_async())
        await queued(pool, 1)
        second = asyncio.create_task(pool.lease_async())
        await queued(pool, 2)
        pool.release(server, reusable=not broken)  # to the first, which has not run since
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second is (w.opened[1] if broken else server)
        assert pool.stats()["pool_size"] == 1

    asyncio.run(main())


def test_a_waiter_cancelled_while_connecting_frees_its_place(world: Any) -> None:
    async def main() -> None:
        w = world(1)
        pool = w.pool()
        w.during_connect_async = asyncio.Event().wait
        connecting = asyncio.create_task(pool.lease_async())
        await asyncio.sleep(0)
        waiting = asyncio.create_task(pool.lease_async())
        await queued(pool)
        w.during_connect_async = None
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert (await waiting).leased
        assert pool.stats()["connections_errors"] == 1

    asyncio.run(main())


def test_a_timeout_raises_and_leaves_the_queue(world: Any) -> None:
    async def main() -> None:
        pool = world(1).pool(timeout=0.001)
        pool.lease()
        with pytest.raises(PoolTimeout):
            await pool.lease_async()
        with pytest.raises(PoolTimeout):
            await pool.lease_async(timeout=0)
        assert pool.stats()["requests_waiting"] == 0

    asyncio.run(main())


def test_close_refuses_waiting_tasks(world: Any) -> None:
    async def main() -> None:
        pool = world(1).pool()
        pool.lease()
        task = asyncio.create_task(pool.lease_async())
        await queued(pool)
        pool.close()
        with pytest.raises(PoolClosed):
            await task

    asyncio.run(main())


def test_the_grant_of_a_task_whose_loop_is_closed_goes_to_the_next(world: Any, crew: Any) -> None:
    pool = world(1).pool()
    server = pool.lease()
    loop = asyncio.new_event_loop()
    lease = pool.lease_async()

    async def start() -> None:
        lease.send(None)  # up to its wait, with nobody to cancel it

    loop.run_until_complete(start())
    loop.close()
    outcome = crew.queue(pool.lease)
    pool.release(server)
    crew.finish()
    assert outcome == [server]
    lease.close()
    assert pool.stats()["pool_size"] == 1


def test_a_collected_waiter_hands_on_its_place_in_the_queue(world: Any) -> None:
    pool = world(1).pool()
    server = pool.lease()
    lease = pool.lease_async()

    async def start() -> None:
        lease.send(None)

    asyncio.run(start())
    with pool._pools.lock:
        lease.close()  # as the garbage collector would: GeneratorExit, perhaps under the lock
    pool.release(server)
    assert pool.try_lease() is server
    assert pool.stats()["requests_waiting"] == 0
