"""Every key of the configuration that this version has changes what happens: one test per key, none forgotten.

No test sleeps: where a key is a time, the clock is the test's.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel

import heliosproxy
from heliosproxy.config import Config
from heliosproxy.config.keys import section_of
from heliosproxy.config.support import NOT_BUILT
from heliosproxy.embedded.home import wait_until
from heliosproxy.errors import PoolTimeout, TooManyRequests, UnsupportedError

Test = Callable[[str], None]
KEYS: dict[str, Test] = {}

# Read by what is to come; harmless words until then, and documented as such.
LATER = {"node.tags"}

ONE = "SELECT name FROM users WHERE id = 1"


def changes(key: str) -> Callable[[Test], Test]:
    """The test below shows what *key* does."""

    def register(test: Test) -> Test:
        KEYS[key] = test
        return test

    return register


@contextmanager
def proxy(**keys: Any) -> Iterator[heliosproxy.Proxy]:
    """A Proxy in transaction mode; `pool__mode` is ``pool.mode``."""
    given = {name.replace("__", "."): value for name, value in keys.items()}
    with heliosproxy.Proxy({"pool.mode": "transaction", **given}) as made:
        yield made


def outcomes(made: heliosproxy.Proxy, dsn: str, *queries: str) -> list[str]:
    """What the cache said to each of *queries*: hit, miss, or why it was bypassed."""
    with made.connect(dsn, autocommit=True) as conn:
        found = [conn.execute(query).helios for query in queries]
    return [helios.reason or helios.outcome for helios in found]


def cached(dsn: str, *queries: str, **keys: Any) -> list[str]:
    """`outcomes` over a Proxy of its own with the cache on."""
    with proxy(**{"cache.enabled": True, **keys}) as made:
        return outcomes(made, dsn, *queries)


def pid(conn: Any) -> int:
    return int(conn.execute("SELECT pg_backend_pid()").fetchone()[0])


class Clock:
    """Seconds that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# -- [pool] ------------------------------------------------------------------------------------------------------


@changes("pool.mode")
def mode(dsn: str) -> None:
    held = {}
    for name in ("session", "transaction"):
        with proxy(pool__mode=name) as made, made.connect(dsn) as conn:
            conn.execute(ONE)
            conn.commit()
            (pool,) = made.stats()["pools"].values()
            held[name] = pool["pool_size"] - pool["pool_available"]
    assert held == {"session": 1, "transaction": 0}
    with (
        proxy(pool__mode="statement") as made,
        made.connect(dsn) as conn,
        pytest.raises(UnsupportedError, match="statement mode"),
    ):
        conn.execute("BEGIN")


@changes("pool.max_connections")
def max_connections(dsn: str) -> None:
    with (
        proxy(pool__max_connections=1) as made,
        made.connect(dsn),
        pytest.raises(TooManyRequests, match=r"pool\.max_connections is 1"),
    ):
        made.connect(dsn)
    with proxy() as made, made.connect(dsn), made.connect(dsn):
        pass


@changes("pool.server_connections")
def server_connections(dsn: str) -> None:
    for number in (1, 2):
        with (
            proxy(pool__server_connections=number, pool__timeout=0) as made,
            made.connect(dsn) as first,
            made.connect(dsn) as second,
        ):
            first.execute(ONE)  # in a transaction
            if number == 1:
                with pytest.raises(PoolTimeout):
                    second.execute(ONE)
            else:
                second.execute(ONE)


def kept(dsn: str, **keys: Any) -> int:
    """How many of two server connections are there when both were idle for 100 s."""
    clock = Clock()
    with proxy(**keys) as made:
        made.pools.clock = clock
        with made.connect(dsn) as first, made.connect(dsn) as second:
            first.execute(ONE)
            second.execute(ONE)
        clock.now += 100
        with made.connect(dsn, autocommit=True) as third:
            third.execute(ONE)  # giving it back looks after the idle ones
        return int(made.stats()["size"])


@changes("pool.min_size")
def min_size(dsn: str) -> None:
    assert kept(dsn, pool__max_idle=50) == 1
    assert kept(dsn, pool__max_idle=50, pool__min_size=2) == 2
    # Kept, not opened: a Proxy that nobody uses connects nowhere.
    with proxy(pool__min_size=2) as made, made.connect(dsn):
        assert made.stats()["size"] == 1


@changes("pool.max_idle")
def max_idle(dsn: str) -> None:
    assert kept(dsn, pool__max_idle=99) == 1
    assert kept(dsn, pool__max_idle=101) == 2


@changes("pool.max_lifetime")
def max_lifetime(dsn: str) -> None:
    for lifetime, same in ((90, False), (1000, True)):
        clock = Clock()
        with proxy(pool__max_lifetime=lifetime) as made:
            made.pools.clock = clock
            with made.connect(dsn, autocommit=True) as conn:
                before = pid(conn)
                clock.now += 100
                assert (pid(conn) == before) is same


@changes("pool.timeout")
def timeout(dsn: str) -> None:
    waited = {}
    for seconds in (0, 0.2):
        with (
            proxy(pool__server_connections=1, pool__timeout=seconds) as made,
            made.connect(dsn) as first,
            made.connect(dsn) as second,
        ):
            first.execute(ONE)
            start = time.monotonic()
            with pytest.raises(PoolTimeout):
                second.execute(ONE)
            waited[seconds] = time.monotonic() - start
    assert waited[0] < 0.2 <= waited[0.2]


@changes("pool.max_waiting")
def max_waiting(dsn: str) -> None:
    with (
        proxy(pool__server_connections=1, pool__max_waiting=1) as made,
        made.connect(dsn) as first,
        made.connect(dsn) as second,
        made.connect(dsn) as third,
    ):
        first.execute(ONE)
        thread = threading.Thread(target=second.execute, args=(ONE,))
        thread.start()
        wait_until(lambda: made.stats()["waiting"] == 1, 10, "one waits")
        with pytest.raises(TooManyRequests):
            third.execute(ONE)
        first.rollback()
        thread.join()


@changes("pool.check")
def check(dsn: str) -> None:
    for checked in (True, False):
        with proxy(pool__check=checked) as made, made.connect(dsn, autocommit=True) as conn:
            killed = pid(conn)
            (pool,) = made.pools
            socket = pool.stock.idle[0].pgconn.socket
            with psycopg.connect(dsn, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 10000)", (killed,))
            assert select.select([socket], [], [], 10)[0]
            if checked:
                assert pid(conn) != killed
            else:
                with pytest.raises(psycopg.OperationalError):
                    pid(conn)


@changes("pool.reset")
def reset(dsn: str) -> None:
    found = {}
    for command in (None, "SELECT set_config('app.who', 'reset', false)"):
        with proxy(pool__mode="session", pool__reset=command) as made:
            with made.connect(dsn) as conn:
                conn.execute("SET app.who = 'before'")
                conn.commit()
            with made.connect(dsn) as conn:
                found[command] = conn.execute("SELECT current_setting('app.who', true)").fetchone()[0]
    assert list(found.values()) == ["", "reset"]


# -- [cache] -----------------------------------------------------------------------------------------------------


@changes("cache.enabled")
def enabled(dsn: str) -> None:
    assert cached(dsn, ONE, ONE) == ["miss", "hit"]
    assert cached(dsn, ONE, ONE, cache__enabled=False) == ["", ""]


@changes("cache.trusted_functions")
def trusted_functions(dsn: str) -> None:
    query = "SELECT shout(name) FROM users WHERE id = 1"
    assert cached(dsn, query, query) == ["user_function"] * 2
    assert cached(dsn, query, query, cache__trusted_functions=["public.shout"]) == ["miss", "hit"]


@changes("cache.allow_unordered_limit")
def allow_unordered_limit(dsn: str) -> None:
    query = "SELECT name FROM users LIMIT 1"
    assert cached(dsn, query, query) == ["unordered_limit"] * 2
    assert cached(dsn, query, query, cache__allow_unordered_limit=True) == ["miss", "hit"]


@changes("cache.poll_interval")
def poll_interval(dsn: str) -> None:
    found = {}
    for number, seconds in enumerate((3, 30)):
        clock = Clock()
        with proxy(cache__enabled=True, cache__poll_interval=seconds) as made:
            made.cache.clock = clock
            found[seconds] = outcomes(made, dsn, ONE, ONE)
            with psycopg.connect(dsn, autocommit=True) as other:
                other.execute(f"CREATE TABLE poll_{number} (id int)")  # DDL that does not pass the Proxy
            clock.now += 10
            found[seconds] += outcomes(made, dsn, ONE)
    assert found == {3: ["miss", "hit", "miss"], 30: ["miss", "hit", "hit"]}


def asked_again(dsn: str, seconds: float, **keys: Any) -> str:
    """The outcome of a statement that was answered *seconds* ago."""
    clock = Clock()
    with proxy(cache__enabled=True, **keys) as made:
        made.cache.store._clock = made.cache.clock = clock
        outcomes(made, dsn, ONE)
        clock.now += seconds
        return outcomes(made, dsn, ONE)[0]


@changes("cache.l1.ttl")
def ttl(dsn: str) -> None:
    keys = {"cache.poll_interval": 1000}
    assert asked_again(dsn, 20, cache__l1__ttl=10, **keys) == "miss"
    assert asked_again(dsn, 20, cache__l1__ttl=30, **keys) == "hit"


def numbered(number: int) -> str:
    return f"SELECT name FROM users WHERE id = 1 AND id < {number}"


def charge(dsn: str) -> int:
    """What one entry of `numbered` is charged."""
    with proxy(cache__enabled=True) as made:
        outcomes(made, dsn, numbered(10))
        return int(made.stats()["cache"]["bytes"])


@changes("cache.l1.size")
def size(dsn: str) -> None:
    for room, evictions in ((3, 2), (6, 0)):
        with proxy(cache__enabled=True, cache__l1__size=charge(dsn) * room) as made:
            outcomes(made, dsn, *(numbered(number) for number in range(10, 15)))
            assert made.stats()["cache"]["evictions"] == evictions


@changes("cache.l1.eviction")
def eviction(dsn: str) -> None:
    often = [numbered(10)] * 5
    once = [numbered(number) for number in range(11, 15)]
    found = {}
    for name in ("lru", "lfu"):
        keys = {"cache.l1.size": charge(dsn) * 3, "cache.l1.eviction": name}
        found[name] = cached(dsn, *often, *once, numbered(10), **keys)[-1]
    assert found == {"lru": "miss", "lfu": "hit"}


@changes("cache.query.enabled")
def query_enabled(dsn: str) -> None:
    assert cached(dsn, ONE, ONE, cache__query__enabled=False) == ["", ""]


@changes("cache.query.max_result_size")
def max_result_size(dsn: str) -> None:
    query = "SELECT repeat(name, 1000) FROM users WHERE id = 1"
    assert cached(dsn, query, query) == ["miss", "hit"]
    assert cached(dsn, query, query, cache__query__max_result_size="1kB") == ["miss", "miss"]


@changes("cache.query.exclude_patterns")
def exclude_patterns(dsn: str) -> None:
    assert cached(dsn, ONE, cache__query__exclude_patterns=["FROM users"]) == ["excluded"]
    assert cached(dsn, ONE, cache__query__exclude_patterns=["FROM others"]) == ["miss"]
    assert cached(dsn, ONE, cache__query__exclude_patterns=["SELECT"]) == ["excluded"]


def two_at_once(dsn: str, expected: int, **keys: Any) -> list[str]:
    """Two sessions ask the same while the table is locked; *expected* of them ask the server."""
    found: list[str] = []
    with proxy(cache__enabled=True, **keys) as made, psycopg.connect(dsn) as locker:

        def ask() -> None:
            found.extend(outcomes(made, dsn, numbered(10)))

        def blocked() -> int:
            locked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass"
            return int(locker.execute(locked).fetchone()[0])

        outcomes(made, dsn, "SELECT name FROM users WHERE id = 2")  # the catalogue is known from here on
        locker.execute("LOCK TABLE users")
        threads = [threading.Thread(target=ask) for _ in range(2)]
        threads[0].start()
        wait_until(lambda: blocked() == 1, 10, "the first asks the server")
        threads[1].start()
        if expected == 2:
            wait_until(lambda: blocked() == 2, 10, "the second asks the server")
        else:
            threads[1].join(0.3)
            assert threads[1].is_alive()
            assert blocked() == 1
        locker.rollback()
        for thread in threads:
            thread.join()
    return sorted(found)


@changes("cache.query.single_flight")
def single_flight(dsn: str) -> None:
    assert two_at_once(dsn, 1) == ["hit", "miss"]
    assert two_at_once(dsn, 2, cache__query__single_flight=False) == ["miss", "miss"]


@changes("cache.query.single_flight_timeout")
def single_flight_timeout(dsn: str) -> None:
    assert two_at_once(dsn, 2, cache__query__single_flight_timeout=0.05) == ["miss", "miss"]


@changes("cache.table.name")
def table_name(dsn: str) -> None:
    for name, outcome in (("users", "table_disabled"), ("public.users", "table_disabled"), ("pets", "miss")):
        assert cached(dsn, ONE, cache__table=[{"name": name, "enabled": False}]) == [outcome]


@changes("cache.table.enabled")
def table_enabled(dsn: str) -> None:
    assert cached(dsn, ONE, ONE, cache__table=[{"name": "users", "enabled": True}]) == ["miss", "hit"]
    assert cached(dsn, ONE, cache__table=[{"name": "users", "enabled": False}]) == ["table_disabled"]


@changes("cache.table.ttl")
def table_ttl(dsn: str) -> None:
    keys = {"cache.poll_interval": 1000}
    assert asked_again(dsn, 20, cache__table=[{"name": "users", "ttl": 10}], **keys) == "miss"
    assert asked_again(dsn, 20, cache__table=[{"name": "pets", "ttl": 10}], **keys) == "hit"


# -- [sql], [[node]] ---------------------------------------------------------------------------------------------


@changes("sql.memo_size")
def memo_size(dsn: str) -> None:
    remembered = {}
    for given in ("1kB", "1MB"):
        with proxy(sql__memo_size=given) as made:
            outcomes(made, dsn, ONE)
            remembered[given] = len(made.memo)
    assert remembered["1kB"] == 0 < remembered["1MB"]


@changes("node.name")
def node_name(dsn: str) -> None:
    with proxy(node=[{"name": "shop-1", "dsn": dsn}]) as made, made.connect():
        (name,) = made.stats()["pools"]
        assert name.endswith(" on shop-1")


@changes("node.dsn")
def node_dsn(dsn: str) -> None:
    with proxy(node=[{"name": "primary", "dsn": dsn}]) as made, made.connect() as conn:
        assert conn.execute(ONE).fetchone() == ("Ada",)


# -- all of them -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def users(dsn: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
        conn.execute("CREATE TABLE pets (id int)")
        conn.execute("INSERT INTO users VALUES (1, 'Ada'), (2, 'Grace')")
        conn.execute(
            "CREATE FUNCTION shout(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN upper($1); END'"
        )
    return dsn


@pytest.mark.parametrize("key", KEYS)
def test_a_key_changes_what_happens(users: str, key: str) -> None:
    KEYS[key](users)


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        section = section_of(field.annotation)
        if path in NOT_BUILT:
            continue
        if section is None:
            yield path
        else:
            yield from _keys(section, f"{path}.")


def test_no_key_is_forgotten() -> None:
    sections = ("pool", "cache", "sql", "node")
    ours = {key for key in _keys(Config, "") if key.partition(".")[0] in sections}
    assert ours == set(KEYS) | LATER
