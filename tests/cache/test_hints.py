"""What a statement may ask of the cache, in a comment or as ``helios={…}``, and that nothing else is passed over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import heliosproxy
from heliosproxy.errors import ConfigError

ONE = "SELECT v FROM t WHERE id = 1"


class Clock:
    """Seconds that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def table(dsn: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
        conn.execute("INSERT INTO t VALUES (1, 'a')")
    return dsn


@pytest.fixture
def proxy() -> Iterator[heliosproxy.Proxy]:
    with heliosproxy.Proxy({"cache.enabled": True, "cache.poll_interval": 1000}) as made:
        yield made


@pytest.fixture
def conn(proxy: heliosproxy.Proxy, table: str) -> Iterator[Any]:
    with proxy.connect(table, autocommit=True) as made:
        yield made


def told(conn: Any, query: str, **keywords: Any) -> str:
    helios = conn.execute(query, **keywords).helios
    return helios.reason or helios.outcome


WRONG = [
    ({"cach": False}, 'cach: unknown hint, did you mean "cache"?', "cach"),
    ({"tll": 5}, 'tll: unknown hint, did you mean "ttl"?', "tll"),
    ({"zzz": 5}, "zzz: unknown hint, there are cache, ttl", "zzz"),
    ({3: 5}, "3: unknown hint, there are cache, ttl", "3"),
    ({"cache": "perhaps"}, 'cache: on or off is wanted, not "perhaps"', "cache"),
    ({"cache": None}, "cache: on or off is wanted, not None", "cache"),
    ({"cache": 2}, "cache: on or off is wanted, not 2", "cache"),
    ({"ttl": "soon"}, 'ttl: "soon" is not a duration', "ttl"),
    ({"ttl": True}, "ttl: True is not a duration", "ttl"),
    ({"ttl": None}, "ttl: None is not a duration", "ttl"),
    ({"ttl": 0}, "ttl: more than 0 is wanted, not 0", "ttl"),
    ({"ttl": -1}, "ttl: -1 is out of range", "ttl"),
    ("off", 'helios="off": a mapping is wanted', None),
    (False, "helios=False: a mapping is wanted", None),
]


@pytest.mark.parametrize(("helios", "message", "key"), WRONG, ids=str)
def test_an_argument_that_is_not_understood_is_refused(
    conn: Any, helios: Any, message: str, key: str
) -> None:
    asked: list[str] = [
        ONE,
        ONE,
        "SELECT now()",
        "INSERT INTO t VALUES (2, 'no')",
    ]  # miss, hit, bypass, write
    for number, query in enumerate(asked):
        if number == 1:
            assert told(conn, ONE) == "miss"
        with pytest.raises(ConfigError) as caught:
            conn.execute(query, helios=helios)
        assert message in str(caught.value)
        assert caught.value.key == key
    assert told(conn, ONE) == "hit"
    assert conn.execute("SELECT count(*) FROM t").fetchone() == (1,)


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("cach=off", 'did you mean "cache"?'),
        ("cache", 'on or off is wanted, not ""'),
        ("cache=maybe", 'on or off is wanted, not "maybe"'),
        ("ttl=0s", 'more than 0 is wanted, not "0s"'),
        ("ttl=5x", '"x" is no unit of time'),
    ],
)
def test_a_comment_that_is_not_understood_is_refused(conn: Any, comment: str, message: str) -> None:
    for query in (ONE, ONE, "SELECT now()", "INSERT INTO t VALUES (2, 'no')"):
        with pytest.raises(ConfigError) as caught:
            conn.execute(f"{query} /* helios:{comment} */")
        assert message in str(caught.value)
    with pytest.raises(ConfigError):
        next(conn.cursor().stream(f"{ONE} /* helios:{comment} */"))
    with pytest.raises(ConfigError), conn.pipeline():
        conn.execute(f"{ONE} /* helios:{comment} */")
    assert conn.execute("SELECT count(*) FROM t").fetchone() == (1,)


def test_a_comment_is_checked_without_a_cache_too(table: str) -> None:
    with (
        heliosproxy.Proxy({"pool.mode": "transaction"}) as proxy,
        proxy.connect(table) as conn,
        pytest.raises(ConfigError, match="cach: unknown hint"),
    ):
        conn.execute(f"{ONE} /* helios:cach=off */")


@pytest.mark.parametrize("word", ["off", "no", "0", "false", "OFF", 0, False])
def test_off_is_off(conn: Any, word: Any) -> None:
    assert told(conn, ONE) == "miss"
    assert told(conn, ONE, helios={"cache": word}) == "option"
    for _ in range(2):
        assert told(conn, f"{ONE} /* helios:cache={word} */") == "hint"


@pytest.mark.parametrize("word", ["on", "yes", "1", "true", "On", 1, True])
def test_on_is_as_ever(conn: Any, word: Any) -> None:
    assert told(conn, ONE) == "miss"
    assert told(conn, ONE, helios={"cache": word}) == "hit"
    query = f"{ONE} /* helios:cache={word} */"
    assert [told(conn, query), told(conn, query)] == ["miss", "hit"]
    assert told(conn, query, helios={"cache": False}) == "option"


def test_a_ttl_bounds_the_age_of_what_is_served(proxy: Any, conn: Any) -> None:
    clock = proxy.cache.clock = proxy.cache.store._clock = Clock()
    assert told(conn, ONE) == "miss"
    clock.now += 4
    assert told(conn, ONE, helios={"ttl": 5}) == "hit"
    clock.now += 2
    assert told(conn, ONE) == "hit"
    assert told(conn, ONE, helios={"ttl": "10s"}) == "hit"
    assert told(conn, ONE, helios={"ttl": 5}) == "miss"
    assert told(conn, ONE, helios={"ttl": 5}) == "hit"


def test_of_two_ttls_the_shorter_holds(proxy: Any, conn: Any) -> None:
    clock = proxy.cache.clock = proxy.cache.store._clock = Clock()
    query = f"{ONE} /* helios:ttl=5s */"
    assert told(conn, query, helios={"ttl": 50}) == "miss"
    clock.now += 6
    assert told(conn, query) == "miss"


# -- proxy.cache ---------------------------------------------------------------------------------------------


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "heliosproxy.cache"]


def test_invalidate_counts_and_warns_of_a_name_that_nobody_has(
    proxy: Any, conn: Any, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.cache.invalidate("t")  # no catalogue is known: nothing to warn of
    assert told(conn, ONE) == "miss"
    assert proxy.cache.invalidate("t") == 1
    assert warnings(caplog) == []
    assert told(conn, ONE) == "miss"
    assert proxy.cache.invalidate('"t"') == 0
    (warning,) = warnings(caplog)
    assert "'\"t\"'" in warning
    assert "without quotes" in warning
    assert told(conn, ONE) == "miss"
    assert proxy.cache.flush() == 1


@pytest.mark.parametrize("enabled", [True, False])
def test_invalidate_wants_names(enabled: bool) -> None:
    with heliosproxy.Proxy({"cache.enabled": enabled}) as proxy:
        with pytest.raises(ConfigError, match=r"flush\(\) forgets everything"):
            proxy.cache.invalidate()
        for wrong in (["t"], 3, None, ""):
            with pytest.raises(ConfigError, match="the name of a table is wanted"):
                proxy.cache.invalidate("t", wrong)  # type: ignore[arg-type]


def test_a_cache_that_is_off_can_be_steered() -> None:
    with heliosproxy.Proxy({"cache.enabled": False}) as off, heliosproxy.Proxy({"cache.enabled": True}) as on:
        assert off.cache.invalidate("t") == off.cache.flush() == 0
        stats = off.stats()["cache"]
        assert stats.keys() == on.stats()["cache"].keys()
        assert stats.pop("scope") == "off"
        assert not any(stats.values())
