"""The ``helios_…`` options of connect()."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliosproxy.config import OPTIONS, Config, from_options
from heliosproxy.errors import ConfigError


@pytest.mark.parametrize(
    "options",
    [
        {
            "helios_mode": "transaction",
            "helios_max_connections": 100,
            "helios_server_connections": 20,
            "helios_pool_timeout": 2.5,
            "helios_cache": True,
            "helios_cache_size": 2**20,
            "helios_cache_ttl": 5,
        },
        {
            "helios_mode": "transaction",
            "helios_max_connections": "100",
            "helios_server_connections": "20",
            "helios_pool_timeout": "2500ms",
            "helios_cache": "on",
            "helios_cache_size": "1MB",
            "helios_cache_ttl": "5s",
        },
    ],
    ids=["values", "texts"],
)
def test_each_option_sets_its_key(options: dict[str, object]) -> None:
    assert options.keys() == OPTIONS.keys()
    config = from_options(options, environ={})
    pool, cache = config.pool, config.cache
    assert (pool.mode, pool.max_connections, pool.server_connections, pool.timeout) == (
        "transaction",
        100,
        20,
        2.5,
    )
    assert (cache.enabled, cache.l1.size, cache.l1.ttl) == (True, 2**20, 5.0)


def test_options_beat_the_environment_beats_their_file(tmp_path: Path) -> None:
    file = tmp_path / "helios.toml"
    file.write_text('[pool]\nmode = "statement"\nmax_waiting = 1\nmin_size = 1\n', encoding="utf-8")
    environ = {"HELIOSPROXY_POOL__MODE": "session", "HELIOSPROXY_POOL__MAX_WAITING": "2"}
    for path in (file, str(file)):
        pool = from_options({"helios_config": path, "helios_mode": "transaction"}, environ=environ).pool
        assert (pool.mode, pool.max_waiting, pool.min_size) == ("transaction", 2, 1)


def test_no_option_is_the_default() -> None:
    assert (
        from_options({}, environ={})
        == from_options({"helios_config": None}, environ={})
        == Config.from_mapping({})
    )


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("helios_cash", 'did you mean "helios_cache"?'),
        ("helios_server_connection", 'did you mean "helios_server_connections"?'),
        ("zzz", "there are helios_config, helios_mode, "),
    ],
)
def test_an_unknown_option_names_the_nearest(option: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_options({option: 1}, environ={})
    assert str(caught.value).startswith(f"{option}: unknown option, {hint}")


def test_a_wrong_value_names_the_option() -> None:
    with pytest.raises(ConfigError) as caught:
        from_options({"helios_cache_ttl": "soon"}, environ={})
    assert str(caught.value).startswith('helios_cache_ttl: cache.l1.ttl: "soon" is not a duration')
    assert caught.value.key == "cache.l1.ttl"


def test_the_file_option_is_a_path() -> None:
    with pytest.raises(ConfigError, match="helios_config: the path of a file is wanted"):
        from_options({"helios_config": 3}, environ={})
