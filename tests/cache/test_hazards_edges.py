"""What a script of hazards/world.py cannot say: lost connections, killed processes, two phases, pipelines."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from heliosproxy.cache.book import RETRY
from tests.cache.hazards.relay import Relay, relay
from tests.cache.hazards.world import World

ONE = "SELECT v FROM u WHERE id = 1"


def until(done: Callable[[], object]) -> None:
    """Ask again until the server says so; each question is a round trip."""
    for _ in range(20_000):
        if done():
            return
    raise AssertionError("it never came to pass")


def settles(world: World, name: str = "a") -> None:
    """Reads are true all the time, and answered from the cache again in the end."""

    def hit() -> bool:
        world.clock.now += RETRY
        outcome: str = world.read(name, ONE).helios.outcome
        return outcome == "hit"

    until(hit)


def poll(world: World) -> None:
    world.clock.now += world.proxy.config.cache.poll_interval


def test_9_changes_from_outside_are_seen_by_the_poll(world: World) -> None:
    world.play("""
        a: CREATE TABLE s.x (v int)
        a: CREATE VIEW s.w AS SELECT v FROM s.x
        a: INSERT INTO s.x VALUES (1)
        a: SELECT * FROM s.w -> miss
        a: GRANT SELECT ON s.x TO helios_b
        b+: SET ROLE helios_b
        b: SELECT * FROM s.x -> miss
        raw: CREATE OR REPLACE VIEW s.w AS SELECT v + 1 AS v FROM s.x
        raw: REVOKE SELECT ON s.x FROM helios_b""")
    poll(world)
    world.play("""
        a: SELECT * FROM s.w -> miss
        b: SELECT * FROM s.x -> error 42501
        b+: RESET ROLE""")
    poll(world)
    world.play("a: SELECT * FROM s.w -> hit")


def test_9_a_poll_that_is_refused_bypasses(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.play(f"a: {ONE} -> miss")
    poll(world)

    def refuse(*_: Any) -> None:
        raise psycopg.OperationalError("too many connections")

    with monkeypatch.context() as patch:
        patch.setattr(world.proxy, "control", refuse)
        world.play(f"a: {ONE} -> poll\n raw: UPDATE u SET v = 9\n a: {ONE} -> poll")
    world.clock.now += RETRY
    world.proxy.cache.invalidate("u")
    world.play(f"a: {ONE} -> miss\n a: {ONE} -> hit")


def test_19_the_servers_configuration(world: World) -> None:
    world.play(f"a: {ONE} -> miss")
    before = world.proxy.cache.stats()["stores"]
    world.play("raw: SELECT pg_reload_conf()")

    def reloaded() -> bool:
        poll(world)
        world.read("a", ONE)
        return bool(world.proxy.cache.stats()["stores"] > before)

    until(reloaded)


def test_20_formats(world: World) -> None:
    query = "SELECT id, v, at FROM t ORDER BY id"
    for binary in (False, True):
        world.read("a", query, expect="miss", binary=binary)
    for binary in (False, True):
        world.read("a", query, expect="hit", binary=binary)


def test_26_a_worker_killed_in_flux(world: World) -> None:
    world.read("a", ONE, expect="miss")
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            conn = world.proxy.connect(world.dsn, autocommit=True)
            conn.execute("BEGIN")
            conn.execute("UPDATE u SET v = 77")
            os.write(told, b"x")
            signal.pause()
        os._exit(1)
    assert os.read(ready, 1) == b"x"
    world.read("a", ONE, expect="in_flux")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for file in (ready, told):
        os.close(file)
    world.read("a", ONE, expect="in_flux")

    def hit() -> bool:
        poll(world)
        outcome: str = world.read("a", ONE).helios.outcome
        return outcome == "hit"

    until(hit)


@pytest.fixture
def cut(world: World, hazards_dsn: str) -> Iterator[Relay]:
    """The world, seen through a relay."""
    with relay(hazards_dsn) as made:
        world.dsn = made.dsn
        yield made
        world.close()


@pytest.mark.parametrize("text", ["COMMIT", "UPDATE u SET v = 50 WHERE id = 1"])
def test_27_the_reply_is_lost(world: World, cut: Relay, text: str) -> None:
    world.play(f"a: {ONE} -> miss")
    if text == "COMMIT":
        world.play("b: BEGIN\n b: UPDATE u SET v = 50 WHERE id = 1")
    cut.trap = text.encode()
    with pytest.raises(psycopg.OperationalError):
        world.execute("b", text)
    world.read("a", ONE, expect="in_flux")
    cut.hang_up()
    settles(world)
    assert world.read("a", ONE).pgresult.get_value(0, 0) == b"50"


@pytest.mark.parametrize("how", ["execute", "commit()", "pipeline"])
def test_27_the_commit_comes_later(world: World, cut: Relay, how: str) -> None:
    world.play(f"a: {ONE} -> miss")
    name = "b" if how == "execute" else "n"
    if how == "execute":
        world.play("b: BEGIN")
    world.play(f"{name}: UPDATE u SET v = 50 WHERE id = 1")
    pid = world.conn(name)._session.server.backend_pid
    cut.trap, cut.deliver = b"COMMIT", False
    with pytest.raises(psycopg.OperationalError):
        _commit(world, name, how)
    world.read("a", ONE, expect="in_flux")
    cut.release()
    raw = world.raw()
    until(lambda: raw.execute(ONE).fetchone() == (50,))
    world.clock.now += RETRY
    world.read("a", ONE, expect="in_flux")
    cut.hang_up()
    until(lambda: not raw.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)).rowcount)
    world.clock.now += RETRY
    world.read("a", ONE, expect="miss")
    world.read("a", ONE, expect="hit")


def _commit(world: World, name: str, how: str) -> None:
    conn = world.conn(name)
    if how == "execute":
        world.execute(name, "COMMIT")
    elif how == "commit()":
        world.face.run(conn.commit())
    elif world.face.name == "sync":
        with conn.pipeline():
            conn.commit()
    else:

        async def piped() -> None:
            async with conn.pipeline():
                await conn.commit()

        world.face.run(piped())


def test_27_a_backend_killed_in_its_transaction(world: World) -> None:
    world.play(f"a: {ONE} -> miss\n b: BEGIN\n b: UPDATE u SET v = 50")
    pid = world.conn("b")._session.server.backend_pid
    world.raw().execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
    world.read("a", ONE, expect="in_flux")
    with pytest.raises(psycopg.OperationalError):
        world.execute("b", "UPDATE u SET v = 51")
    settles(world)


def test_28_prepared_and_committed_elsewhere(world: World) -> None:
    world.play(f"""
        a: {ONE} -> miss
        b: BEGIN
        b: UPDATE u SET v = 50
        b: PREPARE TRANSACTION 'helios'
        a: {ONE} -> in_flux
        b: {ONE} -> in_flux""")
    world.clock.now += RETRY
    world.play(f"a: {ONE} -> in_flux\n raw: COMMIT PREPARED 'helios'\n a: {ONE} -> in_flux")
    world.clock.now += RETRY
    world.play(f"a: {ONE} -> miss\n a: {ONE} -> hit")


def test_28_the_reply_to_prepare_is_lost(world: World, cut: Relay) -> None:
    world.play(f"a: {ONE} -> miss\n b: BEGIN\n b: UPDATE u SET v = 50 WHERE id = 1")
    pid = world.conn("b")._session.server.backend_pid
    cut.trap = b"PREPARE TRANSACTION"
    with pytest.raises(psycopg.OperationalError):
        world.execute("b", "PREPARE TRANSACTION 'lost'")
    raw = world.raw()
    until(lambda: raw.execute("SELECT FROM pg_prepared_xacts WHERE gid = 'lost'").rowcount)
    cut.hang_up()
    until(lambda: not raw.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)).rowcount)
    world.clock.now += RETRY
    world.read("a", ONE, expect="in_flux")
    raw.execute("COMMIT PREPARED 'lost'")
    settles(world)


def test_33_in_a_pipeline_nothing_is_answered_from_the_cache(world: World) -> None:
    world.play(f"a: {ONE} -> miss\n b: {ONE} -> hit")
    conn = world.conn("b")
    if world.face.name == "sync":
        with conn.pipeline():
            conn.execute("UPDATE u SET v = 60 WHERE id = 1")
            inside = conn.execute(ONE)
        assert inside.fetchone() == (60,)
    else:

        async def piped() -> Any:
            async with conn.pipeline():
                await conn.execute("UPDATE u SET v = 60 WHERE id = 1")
                inside = await conn.execute(ONE)
            return await inside.fetchone()

        assert world.face.run(piped()) == (60,)
    world.play(f"a: {ONE} -> miss\n b: {ONE} -> hit")


def test_43_one_asks_and_the_others_wait(hazards_dsn: str, world: World) -> None:
    """The leader waits for a lock; the follower is let go by the leader's answer, without a query of its own."""
    proxy, raw = world.proxy, world.raw()
    if proxy.config.pool.mode == "session" or world.face.name == "async":
        pytest.skip("who holds a server connection waits for nobody; tasks are in test_flight.py")
    world.read("a", ONE)  # so that the catalogue is known: a look at it would not wait for the lock
    proxy.cache.flush()
    raw.execute("BEGIN")
    raw.execute("LOCK TABLE u IN ACCESS EXCLUSIVE MODE")
    found: dict[str, Any] = {}
    with (
        proxy.connect(hazards_dsn, autocommit=True) as one,
        proxy.connect(hazards_dsn, autocommit=True) as two,
    ):

        def ask(name: str, conn: Any) -> None:
            found[name] = conn.execute(ONE)

        leader = threading.Thread(target=ask, args=("leader", one))
        follower = threading.Thread(target=ask, args=("follower", two))
        leader.start()
        flights = proxy.cache.flights
        try:
            until(lambda: raw.execute("SELECT 1") and len(flights))
            proxy.cache.flights = joining = _Joining(flights)
            follower.start()
            joining.joined.wait()
            raw.execute("UPDATE u SET v = 70")
            raw.execute("COMMIT")
            leader.join()
            follower.join()
        finally:
            raw.execute("COMMIT")  # or the leader would wait for ever, and we for it
            proxy.cache.flights = flights
        assert [found[name].fetchone() for name in ("leader", "follower")] == [(70,), (70,)]
    assert [found[name].helios.outcome for name in ("leader", "follower")] == ["miss", "hit"]


class _Joining:
    """Flights that say when somebody joined."""

    def __init__(self, flights: Any) -> None:
        self._flights = flights
        self.joined = threading.Event()

    def join(self, *args: Any) -> Any:
        flight = self._flights.join(*args)
        self.joined.set()
        return flight
