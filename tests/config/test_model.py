"""The whole of the product brief's file: it loads, and every key of it arrives."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from heliosproxy.config import Config
from heliosproxy.config.units import GB, MB
from heliosproxy.errors import ConfigError

FULL = Path(__file__).with_name("full.toml")
ENVIRON = {"DB_PASSWORD": "hunter2", "APP_SCRAM_VERIFIER": "SCRAM-SHA-256$4096:salt$stored:server"}
DATA = tomllib.loads(FULL.read_text())

Place = tuple[str | int, ...]

# Keys whose text is of a kind of its own, and another good value for each.
OTHER: dict[str, str] = {
    "mode": "session",
    "eviction": "lfu",
    "dsn": "postgresql://other@db-9/shop",
    "size": "3GB",
    "ttl": "7m",
    "max_result_size": "11MB",
    "reset_timeout": "31s",
    "conversation_context_ttl": "31m",
    "conversation_context_size": "513MB",
    "rag_chunk_cache_size": "3GB",
    "rag_chunk_ttl": "2h",
    "cache_size": "3GB",
    "max_size": "65MB",
    "login_timeout": "11s",
    "idle_timeout": "2h",
    "idle_transaction_timeout": "6m",
    "query_timeout": "31s",
    "tcp_keepalive_idle": "61s",
    "tcp_keepalive_interval": "11s",
}


def leaves(value: Any, place: Place = ()) -> Iterator[Place]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*place, name))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*place, index))
    else:
        yield place


def changed(name: str | int, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2
    if isinstance(value, list):
        return [*value, "more:1"]  # an address, where these are wanted
    return OTHER.get(str(name), f"{value}-2")


def test_the_whole_file_loads() -> None:
    config = Config.load(FULL, environ=ENVIRON)
    assert config.pool.mode == "transaction"
    assert config.pool.max_connections == 5000
    assert config.cache.l1.size == GB
    assert config.cache.l1.ttl == 60.0
    assert config.cache.l2 is not None
    assert config.cache.l2.hosts == ("redis-1:6379", "redis-2:6379")
    assert config.plugins.wasm[0].hook == "query_rewrite"
    assert config.tenancy.tenant[1].rate_limit_qps == 100
    assert config.transaction_replay.journal.max_size == 64 * MB
    assert config.node[1].tags == ("analytics",)
    assert config.node[0].dsn.get_secret_value() == "postgresql://app:hunter2@db-1:5432/shop"
    assert config.user[0].verifier.get_secret_value() == ENVIRON["APP_SCRAM_VERIFIER"]


@pytest.mark.parametrize("place", list(leaves(DATA)), ids=lambda place: ".".join(map(str, place)))
def test_every_key_changes_the_model(place: Place) -> None:
    data = deepcopy(DATA)
    table: Any = data
    for part in place[:-1]:
        table = table[part]
    table[place[-1]] = changed(place[-1], table[place[-1]])
    if place == ("cache", "l2", "type"):  # one word is all it may be
        with pytest.raises(ConfigError, match="redis"):
            Config.from_mapping(data)
    else:
        assert Config.from_mapping(data) != Config.from_mapping(DATA)


def test_one_plugin_may_be_a_table_or_an_array_of_one() -> None:
    plugin = {"name": "a", "path": "a.wasm", "hook": "query_rewrite"}
    one = Config.from_mapping({"plugins": {"wasm": plugin}})
    assert one == Config.from_mapping({"plugins": {"wasm": [plugin]}})


def test_nothing_given_pools_in_session_mode_and_changes_nothing_else() -> None:
    config = Config.from_mapping({})
    assert (config.pool.mode, config.pool.max_connections, config.pool.server_connections) == (
        "session",
        None,
        None,
    )
    assert (config.pool.min_size, config.pool.timeout, config.pool.max_waiting) == (0, 30.0, 0)
    assert (config.pool.max_idle, config.pool.max_lifetime) == (600.0, 3600.0)
    assert (config.pool.check, config.pool.reset) == (True, None)
    assert (config.cache.enabled, config.cache.trusted_functions) == (False, ())
    assert (config.cache.allow_unordered_limit, config.cache.poll_interval) == (False, 5.0)
    assert (config.cache.l1.size, config.cache.l1.ttl, config.cache.l1.eviction) == (256 * MB, 60.0, "lru")
    query = config.cache.query
    assert (query.enabled, query.max_result_size, query.exclude_patterns) == (True, 10 * MB, ())
    assert (query.single_flight, query.single_flight_timeout) == (True, 5.0)
    assert (config.cache.table, config.sql.memo_size, config.node) == ((), 32 * MB, ())


@pytest.mark.parametrize(
    ("pool", "cap"),
    [
        ({"mode": "transaction"}, 50),
        ({"mode": "statement", "max_connections": 9}, 50),
        ({"mode": "transaction", "server_connections": 7}, 7),
        ({"mode": "session"}, None),
        ({"max_connections": 9}, 9),
        ({"max_connections": 9, "server_connections": 7}, 7),
    ],
)
def test_the_cap_of_server_connections_depends_on_the_mode(pool: dict[str, object], cap: int | None) -> None:
    assert Config.from_mapping({"pool": pool}).pool.server_connections == cap


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"pool.timeout": None}, "pool.timeout"),
        ({"pool.max_idle": 0}, "pool.max_idle"),
        ({"pool.max_connections": 0}, "pool.max_connections"),
        ({"pool.max_connections": True}, "pool.max_connections"),
        ({"pool.server_connections": 5, "pool.min_size": 6}, "pool.min_size"),
        ({"pool.mode": "transaction", "pool.min_size": 51}, "pool.min_size"),
        ({"pool.reset": ""}, "pool.reset"),
        ({"cache.l1.size": 0}, "cache.l1.size"),
        ({"cache.l1.eviction": "random"}, "cache.l1.eviction"),
        ({"cache.query.exclude_patterns": ["("]}, "cache.query.exclude_patterns"),
        ({"cache.table": [{"name": "t"}, {"name": "t"}]}, "cache.table"),
        ({"cache.table": [{"enabled": False}]}, "cache.table[0].name"),
        ({"cache.semantic.similarity_threshold": 1.1}, "cache.semantic.similarity_threshold"),
        ({"node": [{"name": "a", "dsn": ""}, {"name": "a", "dsn": ""}]}, "node"),
        ({"node": [{"name": "a", "dsn": "nonsense"}]}, "node[0].dsn"),
        ({"pool": 3}, "pool"),
        ({"node": "db"}, "node"),
    ],
)
def test_a_wrong_value_is_refused_by_key(data: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping(data)
    assert caught.value.key == key
    assert str(caught.value).startswith(f"{key}: ")


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({"pool.mode": "x", "cache.enabled": "perhaps"})
    assert str(caught.value).splitlines() == [
        'pool.mode: one of "session", "transaction", "statement" is wanted, not "x"',
        'cache.enabled: true or false is wanted, not "perhaps"',
    ]


def test_equal_configurations_are_one_key_and_cannot_change() -> None:
    config = Config.load(FULL, environ=ENVIRON)
    assert {config: 1}[Config.load(FULL, environ=ENVIRON)] == 1
    assert hash(config.with_dsn("host=other")) != hash(config)
    with pytest.raises(ValidationError):
        config.pool.mode = "session"


def test_with_dsn_gives_the_first_node_another_server() -> None:
    config = Config.load(FULL, environ=ENVIRON).with_dsn("host=elsewhere password=secret")
    assert config.node[0].name == "primary"
    assert config.node[0].dsn.get_secret_value() == "host=elsewhere password=secret"
    assert config.node[1].name == "analytics"


def test_with_dsn_makes_the_node_that_is_missing() -> None:
    (node,) = Config.from_mapping({}).with_dsn("").node
    assert (node.name, node.dsn.get_secret_value(), node.tags) == ("primary", "", ())


def test_with_dsn_refuses_what_is_none_without_repeating_it() -> None:
    with pytest.raises(ConfigError, match="not a PostgreSQL connection string") as caught:
        Config.from_mapping({}).with_dsn("password=hunter 2")
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    ("dsn", "told"),
    [
        (
            "postgresql://app@db/shop?sslmod=require",
            'unknown connection parameter "sslmod", did you mean "sslmode"?',
        ),
        ("host=db dbnam=shop", 'unknown connection parameter "dbnam", did you mean "dbname"?'),
        ("postgresql://app@db/shop?helios_mode=session", "helios_mode is an option of heliosproxy.connect()"),
    ],
)
def test_a_mistyped_parameter_of_a_dsn_is_named(dsn: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({"node": [{"name": "primary", "dsn": dsn}]})
    assert told in str(caught.value)


@pytest.mark.parametrize("dsn", ["host=db password=a hunter2=b", "postgresql://u:a/b?hunter2=c@host"])
def test_what_may_be_a_secret_of_a_dsn_is_not(dsn: str) -> None:
    with pytest.raises(ConfigError, match="not a PostgreSQL connection string") as caught:
        Config.from_mapping({"node": [{"name": "primary", "dsn": dsn}]})
    assert "hunter2" not in str(caught.value)
