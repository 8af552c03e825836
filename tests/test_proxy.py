"""Making a Proxy: what it takes, and what it says of what it does not take."""

from __future__ import annotations

from pathlib import Path

import pytest

import heliosproxy
from heliosproxy.config import Config
from heliosproxy.errors import ConfigError, PoolClosed


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://app:s3cret@db/shop",
        "postgres://app:s3cret@db/shop",
        "postgressql://app:s3cret@db/shop",
        "host=db password=s3cret",
        "hots=db password='s3cret x'",
        "helios_cache=on password = s3cret",
    ],
)
def test_a_connection_string_is_told_apart_and_not_shown(dsn: str) -> None:
    for make in (lambda: heliosproxy.Proxy(dsn), lambda: heliosproxy.Proxy(helios_config=dsn)):
        with pytest.raises(ConfigError, match=r"a connection string: pass it to \.connect\(\)") as caught:
            make()
        assert "s3cret" not in str(caught.value)


def test_a_file_may_be_a_path_of_any_kind(tmp_path: Path) -> None:
    file = tmp_path / "host=a.toml"
    file.write_text('[pool]\nmode = "transaction"\n')
    for path in (file, str(file)):
        with heliosproxy.Proxy(path, helios_cache=True) as proxy:
            assert proxy.config.pool.mode == "transaction"
            assert proxy.config.cache.enabled
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        heliosproxy.Proxy(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("wrong", [42, b"a.toml", ["a"], True])
def test_anything_else_is_refused_by_type(wrong: object) -> None:
    with pytest.raises(ConfigError, match=f"a mapping or a Config, not {type(wrong).__name__}"):
        heliosproxy.Proxy(wrong)  # type: ignore[arg-type]


def test_options_beat_whatever_they_are_given_with() -> None:
    mapping = {"pool.mode": "transaction", "node": [{"name": "a", "dsn": "host=db password=s3cret"}]}
    for given in (
        mapping,
        Config.from_mapping(mapping),
        Config.from_mapping({}).with_dsn("host=db password=s3cret"),
    ):
        with heliosproxy.Proxy(given, helios_mode="session", helios_cache="on") as proxy:
            config = proxy.config
            assert (config.pool.mode, config.pool.server_connections) == ("session", None)
            assert config.cache.enabled
            assert config.node[0].dsn.get_secret_value() == "host=db password=s3cret"
        with pytest.raises(ConfigError, match="helios_config: a configuration is given already"):
            heliosproxy.Proxy(given, helios_config="a.toml")
        with pytest.raises(ConfigError, match='did you mean "helios_mode"'):
            heliosproxy.Proxy(given, helios_mod="session")
        with pytest.raises(ConfigError, match=r'helios_mode: pool\.mode: .* not "x"'):
            heliosproxy.Proxy(given, helios_mode="x")


def test_a_closed_proxy_says_what_to_do(dsn: str) -> None:
    proxy = heliosproxy.Proxy({"pool.mode": "transaction"})
    conn = proxy.connect(dsn)
    proxy.close()
    with pytest.raises(PoolClosed, match=r"the Proxy was closed.*open a new one"):
        conn.execute("SELECT 1")
    with pytest.raises(PoolClosed, match=r"the Proxy was closed.*open a new one"):
        proxy.connect(dsn)
    conn.close()
