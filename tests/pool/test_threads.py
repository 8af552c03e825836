"""The pool under threads: turns, errors, closing, and what happens in the moment of a grant."""

from __future__ import annotations

import gc
import threading
from typing import Any

import psycopg
import pytest

from heliosproxy.errors import PoolClosed, PoolTimeout, TooManyRequests


def test_a_released_connection_is_leased_again_last_in_first_out(world: Any) -> None:
    pool = world(None).pool()
    first, second = pool.lease(), pool.lease()
    pool.release(first)
    pool.release(second)
    assert pool.try_lease() is second
    assert pool.lease() is first
    assert pool.try_lease() is None
    assert (first.uses, second.uses) == (2, 2)


def test_waiting_threads_are_served_in_the_order_they_came(world: Any, crew: Any) -> None:
    pool = world(1).pool()
    server = pool.lease()
    served: list[int] = []
    outcomes = []
    for number in range(5):

        def work(number: int = number) -> None:
            leased = pool.lease()
            served.append(number)
            pool.release(leased)

        outcomes.append(crew.queue(work))
    assert pool.try_lease() is None
    pool.release(server)
    crew.finish()
    assert served == [0, 1, 2, 3, 4]
    assert outcomes == [[None]] * 5
    stats = pool.stats()
    assert stats["requests_queued"] == 5
    assert stats["requests_num"] == 6
    assert stats["connections_num"] == stats["pool_size"] == stats["pool_available"] == 1


def test_a_timeout_names_the_pool_its_size_and_its_limit(world: Any) -> None:
    pool = world(2).pool()
    pool.lease()
    pool.lease()
    with pytest.raises(PoolTimeout) as caught:
        pool.lease(timeout=0)
    assert str(caught.value) == (
        "no server connection is free at once: pool shop as app on primary has 2 of 2 leased, 0 others waiting; "
        "raise pool.server_connections, or shorten transactions; in session mode close connections sooner, or use "
        "another mode"
    )
    assert pool.stats()["requests_errors"] == 1
    assert pool.stats()["requests_waiting"] == 0


def test_a_timeout_blames_the_pools_own_limit_or_the_other_pools(world: Any) -> None:
    w = world(3)
    pool, other = w.pool(max_size=1), w.pool("replica")
    pool.lease()
    with pytest.raises(PoolTimeout, match="1 of 1 leased, 0 others waiting; raise the pool's max_size"):
        pool.lease(timeout=0.001)
    other.lease()
    other.lease()
    with pytest.raises(
        PoolTimeout, match=r"2 of 3 leased, other pools hold 1, 0 others waiting; raise pool\.server"
    ):
        other.lease(timeout=0)


def test_beyond_max_waiting_nobody_may_queue(world: Any, crew: Any) -> None:
    pool = world(1).pool(max_waiting=1)
    server = pool.lease()
    outcome = crew.queue(pool.lease)
    with pytest.raises(TooManyRequests, match="1 requests waiting for 1 server connections"):
        pool.lease()
    pool.release(server)
    crew.finish()
    assert outcome == [server]


def test_a_dead_or_expired_connection_is_closed_and_the_next_is_tried(world: Any) -> None:
    w = world(3)
    pool = w.pool(max_lifetime=100.0)
    old = pool.lease()
    w.now += 50
    servers = [pool.lease(), pool.lease()]
    for server in (old, *servers):
        pool.release(server)
    servers[1].dead = True
    w.now += 46  # the old one lives 95 s: 5 % jitter
    assert pool.try_lease() is servers[0]
    assert pool.try_lease() is None
    assert servers[1].closed
    assert old.closed
    stats = pool.stats()
    assert stats["connections_lost"] == 1
    assert stats["pool_size"] == 1


def test_an_expired_connection_is_closed_when_it_comes_back(world: Any) -> None:
    w = world(None)
    pool = w.pool()
    server = pool.lease()
    w.now += 3600
    pool.release(server)
    assert server.closed
    assert pool.stats()["returns_bad"] == 0
    assert pool.stats()["usage_ms"] == 3_600_000


def test_without_check_nobody_asks_whether_a_connection_is_alive(world: Any) -> None:
    pool = world(None).pool(check=False)
    server = pool.lease()
    pool.release(server)
    server.dead = True
    assert pool.try_lease() is server


def test_idle_connections_expire_at_the_next_use_of_any_pool_down_to_min_size(world: Any) -> None:
    w = world(None)
    pool, other = w.pool(min_size=1), w.pool("replica")
    servers = [pool.lease() for _ in range(3)]
    for server in servers:
        pool.release(server)
    w.now += 600
    other.release(other.lease())
    assert [server.closed for server in servers] == [True, True, False]


def test_a_broken_connection_makes_place_for_the_next_waiter(world: Any, crew: Any) -> None:
    w = world(1)
    pool = w.pool()
    server = pool.lease()
    outcome = crew.queue(pool.lease)
    pool.release(server, reusable=False)
    crew.finish()
    assert server.closed
    assert outcome == [w.opened[1]]
    assert pool.stats()["returns_bad"] == 1


def test_a_failing_server_tells_every_waiter_at_once(world: Any, crew: Any) -> None:
    w = world(1)
    pool = w.pool()
    server = pool.lease()
    outcomes = [crew.queue(pool.lease) for _ in range(4)]
    w.error = psycopg.OperationalError("connection refused")
    pool.discard(server)
    crew.finish()
    assert outcomes == [[w.error]] * 4
    stats = pool.stats()
    assert stats["connections_errors"] == 4
    assert stats["pool_size"] == stats["requests_waiting"] == 0
    w.error = None
    assert pool.lease()


def test_a_waiter_that_is_handed_a_dead_connection_connects_in_its_place(world: Any, crew: Any) -> None:
    w = world(1)
    pool = w.pool()
    server = pool.lease()
    outcome = crew.queue(pool.lease)
    server.dead = True
    pool.release(server)
    crew.finish()
    assert outcome == [w.opened[1]]
    assert pool.stats()["connections_lost"] == 1


def test_a_full_cap_takes_an_idle_connection_of_another_pool(world: Any) -> None:
    w = world(1)
    pool, other = w.pool(), w.pool("replica")
    idle = pool.lease()
    pool.release(idle)
    assert other.lease()
    assert idle.closed
    assert w.pools.stats()["size"] == 1


def test_a_waiter_of_another_pool_gets_the_place_as_soon_as_it_is_free(world: Any, crew: Any) -> None:
    w = world(1)
    pool, other = w.pool(), w.pool("replica")
    server = pool.lease()
    outcome = crew.queue(other.lease)
    pool.release(server)
    crew.finish()
    assert server.closed
    assert outcome == [w.opened[1]]
    assert outcome[0].pool is other


def test_close_refuses_waiters_and_closes_leased_connections_when_they_come_back(
    world: Any, crew: Any
) -> None:
    w = world(2)
    pool = w.pool()
    leased, idle = pool.lease(), pool.lease()
    outcome = crew.queue(pool.lease)
    pool.release(idle)
    crew.finish()
    pool.release(outcome[0])
    second = pool.lease()
    waiting = crew.queue(pool.lease)
    assert pool.close() == 2
    crew.finish()
    assert isinstance(waiting[0], PoolClosed)
    assert pool.closed
    with pytest.raises(PoolClosed, match="pool shop as app on primary is closed"):
        pool.lease()
    pool.release(leased)
    pool.release(second)
    assert leased.closed
    assert second.closed
    again = w.pool()
    assert again is not pool
    assert again.lease()


def test_closing_all_waits_for_what_is_leased(world: Any, crew: Any) -> None:
    w = world(None)
    pool = w.pool()
    server = pool.lease()
    outcome: list[int] = []
    closing = threading.Thread(target=lambda: outcome.append(w.pools.close(60)))
    closing.start()
    while not w.pools.core.leavers:  # until it waits
        pass
    pool.release(server)
    closing.join()
    assert outcome == [0]
    with pytest.raises(PoolClosed):
        w.pool()


def test_closing_all_counts_what_is_leased_from_a_pool_that_was_closed_and_made_anew(world: Any) -> None:
    w = world(None)
    leased = w.pool().lease()
    w.pool().close()
    w.pool()
    assert w.pools.close(0) == 1
    leased.pool.release(leased)
    assert w.pools.close(0) == 0


def test_closing_gives_up_after_its_timeout(world: Any) -> None:
    w = world(None)
    w.pool().lease()
    assert w.pools.close(0.001) == 1


def test_a_pool_closed_while_connecting_closes_the_new_connection(world: Any) -> None:
    w = world(None)
    pool = w.pool()
    w.during_connect = pool.close
    with pytest.raises(PoolClosed):
        pool.lease()
    assert w.opened[0].closed
    assert w.pools.stats()["size"] == 0


@pytest.mark.parametrize("granted", [False, True])
def test_an_interrupted_thread_leaves_the_queue_and_hands_on_its_grant(
    world: Any, monkeypatch: pytest.MonkeyPatch, granted: bool
) -> None:
    from heliosproxy.pool import pool as shell
    from heliosproxy.pool.waiters import ThreadWaiter

    pool = world(1).pool()
    server = pool.lease()

    class Interrupted(ThreadWaiter[Any]):
        def wait(self, seconds: float) -> bool:
            if granted:
                pool.release(server)
            raise KeyboardInterrupt

    monkeypatch.setattr(shell, "ThreadWaiter", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.lease()
    if not granted:
        pool.release(server)
    assert pool.try_lease() is server


def test_a_grant_in_the_moment_of_the_timeout_is_used(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from heliosproxy.pool import pool as shell
    from heliosproxy.pool.waiters import ThreadWaiter

    pool = world(1).pool()
    server = pool.lease()

    class TooLate(ThreadWaiter[Any]):
        def wait(self, seconds: float) -> bool:
            pool.release(server)
            return False

    monkeypatch.setattr(shell, "ThreadWaiter", TooLate)
    assert pool.lease() is server


def test_a_destructor_may_abandon_a_connection_while_its_thread_holds_the_lock(world: Any) -> None:
    w = world(1)
    pool = w.pool()
    server = pool.lease()

    class Owner:
        def __del__(self) -> None:
            pool.abandon(server)

    owner: Any = Owner()
    owner.itself = owner
    del owner
    with w.pools.lock:
        gc.collect()
        assert not server.closed
    pool.expire()
    assert server.closed
    assert pool.stats()["pool_size"] == 0
    pool.abandon(server)  # again: harmless


def test_giving_back_twice_or_to_the_wrong_pool_is_an_error(world: Any) -> None:
    w = world(None)
    pool, other = w.pool(), w.pool("replica")
    server = pool.lease()
    with pytest.raises(ValueError, match="does not belong"):
        other.release(server)
    pool.release(server)
    with pytest.raises(ValueError, match="given back before"):
        pool.release(server)
    pool.discard(pool.lease())
    pool.release(server)  # closed meanwhile: nothing to do


def test_one_key_has_one_pool_and_one_set_of_options(world: Any) -> None:
    w = world(None)
    pool = w.pool()
    assert w.pool() is pool
    assert list(w.pools) == [pool]
    same_but_for_parameters = pool.key._replace(conninfo="sslmode=require")
    other = w.pools.pool(same_but_for_parameters, pool.options, pool.connect, pool.connect_async)
    assert (pool.name, other.name) == ("shop as app on primary", "shop as app on primary (2)")
    with pytest.raises(ValueError, match="other options"):
        w.pool(timeout=1.0)


def test_warming_opens_min_size_connections_within_the_cap(world: Any) -> None:
    w = world(3)
    pool, other = w.pool(min_size=2), w.pool("replica", min_size=2)
    pool.warm()
    other.warm()
    assert (pool.stats()["pool_available"], other.stats()["pool_available"]) == (2, 1)
    assert pool.stats()["requests_num"] == 0
    w.error = psycopg.OperationalError("refused")
    pool.discard(pool.lease())
    with pytest.raises(psycopg.OperationalError):
        pool.warm()
    assert w.pools.stats()["size"] == 2


def test_many_threads_never_share_a_connection_nor_lose_one(world: Any) -> None:
    w = world(3)
    pools = [w.pool(), w.pool("replica")]
    errors: list[BaseException] = []
    users: dict[Any, int] = {}

    def work(number: int) -> None:
        try:
            for turn in range(400):
                pool = pools[(number + turn // 50) % 2]
                server = pool.try_lease() or pool.lease()
                assert users.setdefault(server, number) == number
                del users[server]
                (pool.discard if turn % 40 == number else pool.release)(server)
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert w.pools.close(0) == 0
    assert all(server.closed for server in w.opened)
