"""What identifies a pool, and which options it accepts."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from heliosproxy.errors import ConfigError
from heliosproxy.pool import PoolKey, PoolOptions
from heliosproxy.pool.stats import Counters


@pytest.mark.parametrize(
    "options",
    [
        {"min_size": -1},
        {"max_size": 0},
        {"min_size": 2, "max_size": 1},
        {"timeout": -1.0},
        {"max_waiting": -1},
        {"max_idle": 0.0},
        {"max_lifetime": 0.0},
    ],
)
def test_senseless_options_are_refused_with_the_name_of_the_key(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="pool\\.") as caught:
        PoolOptions(**options)
    assert caught.value.key == f"pool.{list(options)[-1]}"


def test_a_key_does_not_depend_on_how_the_connection_was_spelled() -> None:
    one = PoolKey.of("primary", "postgresql://app:secret@db/shop?connect_timeout=3", environ={})
    two = PoolKey.of(
        "primary", "host=db dbname=shop", environ={}, user="app", password="secret", connect_timeout=3
    )
    assert one == two
    assert "secret" not in repr(one)
    assert str(one) == "shop as app on primary"


def test_another_password_is_another_key_unless_passwords_rotate() -> None:
    one = PoolKey.of("primary", "host=db user=app password=one", environ={})
    assert one != PoolKey.of("primary", "host=db user=app password=two", environ={})
    assert one != PoolKey.of("primary", "host=db user=app", environ={"PGPASSWORD": "one"})
    rotating = PoolKey.of("primary", "host=db user=app password=one", environ={}, rotating=True)
    assert rotating == PoolKey.of("primary", "host=db user=app password=two", environ={}, rotating=True)


def test_a_key_depends_on_the_environment_that_libpq_reads() -> None:
    environ = {"PGAPPNAME": "a", "PGTZ": "UTC", "PGUSER": "app", "PGPASSWORD": "secret", "PGUNKNOWN": "x"}
    key = PoolKey.of("primary", "host=db", environ=environ)
    assert (key.user, key.database) == ("app", "app")
    assert key.environment == (("PGAPPNAME", "a"), ("PGTZ", "UTC"), ("PGUSER", "app"))
    assert key != PoolKey.of("primary", "host=db user=app", environ={})
    assert PoolKey.of("primary", "", environ={"PGDATABASE": "shop"}).database == "shop"


def test_a_key_of_nonsense_is_libpqs_own_error() -> None:
    with pytest.raises(psycopg.ProgrammingError):
        PoolKey.of("primary", "host=db nonsense=1")


def test_percentiles_of_waiting_are_right_to_a_factor_of_two() -> None:
    counters = Counters()
    assert counters.wait_percentile(0.5) == 0.0
    for milliseconds in range(1, 101):
        counters.waited(milliseconds / 1000)
    assert 50 <= counters.wait_percentile(0.5) <= 100
    assert 99 <= counters.wait_percentile(0.99) <= 198
