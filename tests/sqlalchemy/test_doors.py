"""Two doors: a dialect, and a plugin for an engine that an application has already."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import heliosproxy
from heliosproxy import ConfigError, UnsupportedError
from heliosproxy.config.options import FILE_OPTION, OPTIONS
from heliosproxy.sqlalchemy import HeliosDialect, HeliosDialectAsync, proxy_of
from heliosproxy.sqlalchemy.dialect import _HeliosDialect
from tests.sqlalchemy.conftest import Async

ONE = sa.text("SELECT 1")


def one(connection: sa.Connection) -> Any:
    return connection.execute(ONE).scalar()


def driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection


@pytest.fixture(autouse=True)
def shut_down() -> Any:
    """Implicit Proxies end with the test."""
    yield
    heliosproxy.shutdown()


def test_the_dialect_is_found_by_its_name(colour: Any, url: sa.URL) -> None:
    engine = colour.engine(url)
    assert colour.run(engine, one) == 1
    made = colour.run(engine, driver)
    assert isinstance(made, heliosproxy.dbapi.Connection | heliosproxy.dbapi.AsyncConnection)
    colour.dispose(engine)


def test_the_plugin_is_found_by_its_name_and_leaves_the_url_as_it_was(colour: Any, dsn: str) -> None:
    stock = sa.make_url(dsn).set(drivername="postgresql+psycopg")
    engine = colour.engine(stock, plugins=["heliosproxy"])
    assert colour.run(engine, one) == 1
    assert engine.url == stock
    assert engine.dialect.name == "postgresql"
    assert engine.dialect.driver == "psycopg"
    assert not proxy_of(engine).config.cache.enabled
    assert proxy_of(engine).config.pool.mode == "session"
    colour.dispose(engine)


def test_the_plugin_in_the_url_with_a_file(colour: Any, dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "heliosproxy.toml"
    file.write_text('[pool]\nmode = "transaction"\n[cache]\nenabled = true\n')
    stock = sa.make_url(dsn).set(drivername="postgresql+psycopg")
    asked = stock.update_query_dict({"plugin": "heliosproxy", "helios_config": str(file)})
    engine = colour.engine(asked)
    assert colour.run(engine, one) == 1
    assert proxy_of(engine).config.pool.mode == "transaction"
    assert proxy_of(engine).config.cache.enabled
    assert engine.url == stock
    colour.dispose(engine)


@pytest.mark.parametrize("name", ["postgresql+psycopg_async", "postgresql+heliosproxy_async"])
def test_the_asyncio_dialect_by_its_own_name(dsn: str, name: str) -> None:
    colour = Async()
    engine = colour.engine(sa.make_url(dsn).set(drivername=name), plugins=["heliosproxy"])
    assert colour.run(engine, one) == 1
    assert engine.url.drivername == name
    assert isinstance(engine.dialect, HeliosDialectAsync)
    colour.dispose(engine)
    colour.loop.close()


def test_the_plugin_in_the_url_of_our_own_dialect_changes_nothing(colour: Any, url: sa.URL) -> None:
    engine = colour.engine(url, plugins=["heliosproxy"])
    assert colour.run(engine, one) == 1
    colour.dispose(engine)


def test_options_in_the_url_are_beaten_by_keywords(url: sa.URL) -> None:
    asked = url.update_query_dict({"helios_mode": "statement", "helios_server_connections": "3"})
    engine = sa.create_engine(asked, helios_mode="transaction")
    pool = proxy_of(engine).config.pool
    assert (pool.mode, pool.server_connections) == ("transaction", 3)


def test_options_of_the_plugin_as_keywords(dsn: str) -> None:
    stock = sa.make_url(dsn).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(stock, plugins=["heliosproxy"], helios_mode="transaction", helios_cache=True)
    assert proxy_of(engine).config.cache.enabled


def test_options_of_engine_from_config_are_texts(url: sa.URL) -> None:
    given = {"sqlalchemy.url": url, "sqlalchemy.helios_cache": "on", "sqlalchemy.helios_mode": "transaction"}
    engine = sa.engine_from_config(given)
    assert proxy_of(engine).config.cache.enabled


def test_every_option_of_connect_is_a_keyword_of_the_dialect() -> None:
    parameters = inspect.signature(_HeliosDialect.__init__).parameters
    ours = {name for name in parameters if name.startswith("helios_")}
    assert ours == {FILE_OPTION, "helios_proxy", *OPTIONS}


def test_engines_with_the_same_options_share_a_proxy_so_that_each_hears_of_the_others_writes(
    url: sa.URL,
) -> None:
    first = sa.create_engine(url, helios_cache=True)
    second = sa.create_engine(url.update_query_dict({"helios_cache": "true"}))
    assert first.heliosproxy is second.heliosproxy


def test_the_proxy_of_an_engine(colour: Any, url: sa.URL) -> None:
    with heliosproxy.Proxy(helios_mode="transaction") as proxy:
        engine = colour.engine(url, helios_proxy=proxy)
        assert getattr(engine, "sync_engine", engine).heliosproxy is proxy
        assert proxy_of(engine.execution_options(helios_cache=False)) is proxy
        assert colour.run(engine, one) == 1
        assert proxy.stats()["connections"] == 1
        colour.dispose(engine)


def test_the_proxy_of_an_engine_behind_shutdown(url: sa.URL) -> None:
    engine = sa.create_engine(url)
    before = proxy_of(engine)
    heliosproxy.shutdown()
    assert proxy_of(engine) is not before
    with engine.connect() as connection:
        assert one(connection) == 1
    engine.dispose()


def test_the_node_of_the_configuration_where_the_url_names_no_place(dsn: str) -> None:
    with heliosproxy.Proxy({"node": [{"name": "a", "dsn": dsn}]}, helios_mode="transaction") as proxy:
        engine = sa.create_engine(
            "postgresql+heliosproxy://", helios_proxy=proxy, client_encoding="utf8", pool_size=1
        )
        with engine.connect() as connection:
            here = connection.execute(sa.text("SELECT current_database()")).scalar()
        assert here == sa.make_url(dsn).database
        engine.dispose()


def test_statement_mode_wants_autocommit(url: sa.URL, colour: Any) -> None:
    """Else a session would roll back, and nothing would come of it."""
    with pytest.raises(ConfigError, match='isolation_level="AUTOCOMMIT"'):
        colour.engine(url, helios_mode="statement")
    engine = colour.engine(url, helios_mode="statement", isolation_level="AUTOCOMMIT")
    assert colour.run(engine, one) == 1
    with pytest.raises(UnsupportedError, match="statement mode implies autocommit"):
        colour.run(engine, lambda connection: connection.execution_options(isolation_level="READ COMMITTED"))
    assert colour.run(engine, one) == 1
    colour.dispose(engine)


def test_statement_mode_finds_hstore(url: sa.URL, colour: Any, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("CREATE EXTENSION IF NOT EXISTS hstore")
    engine = colour.engine(url, helios_mode="statement", isolation_level="AUTOCOMMIT")
    asked = sa.text("SELECT 'a=>1'::hstore")
    assert colour.run(engine, lambda connection: connection.execute(asked).scalar()) == {"a": "1"}
    colour.dispose(engine)
    with psycopg.connect(dsn) as conn:
        conn.execute("DROP EXTENSION hstore")


def test_an_unknown_option_is_refused_by_name(url: sa.URL) -> None:
    with pytest.raises(ConfigError, match='helios_mod: unknown option, did you mean "helios_mode"'):
        sa.create_engine(url.update_query_dict({"helios_mod": "transaction"}))
    with pytest.raises(TypeError, match="helios_mod"):
        sa.create_engine(url, helios_mod="transaction")


@pytest.mark.parametrize("given", ["shop", {"pool.mode": "session"}])
def test_what_is_no_proxy_is_refused_as_one(url: sa.URL, given: Any) -> None:
    with pytest.raises(ConfigError, match=r"helios_proxy: a heliosproxy\.Proxy is wanted, not"):
        sa.create_engine(url, helios_proxy=given)


def test_a_proxy_in_the_url_is_refused(url: sa.URL) -> None:
    with pytest.raises(ConfigError, match="helios_proxy: a Proxy is no text"):
        sa.create_engine(url.update_query_dict({"helios_proxy": "mine"}))


def test_a_proxy_beside_options_is_refused(url: sa.URL) -> None:
    with heliosproxy.Proxy() as proxy, pytest.raises(ConfigError, match="helios_mode: helios_proxy is given"):
        sa.create_engine(url, helios_proxy=proxy, helios_mode="transaction")


def test_options_in_connect_args_are_refused(colour: Any, url: sa.URL) -> None:
    engine = colour.engine(url, connect_args={"helios_cache": True})
    with pytest.raises(sa.exc.ProgrammingError, match="helios_cache: give it to create_engine"):
        colour.run(engine, one)


def test_a_connection_of_psycopgs_own_is_refused(dsn: str, url: sa.URL) -> None:
    plain = psycopg.connect(dsn)
    engine = sa.create_engine(url, creator=lambda: plain)
    with pytest.raises(sa.exc.ProgrammingError, match="creator="):
        engine.connect()
    plain.close()


def test_a_creator_that_gives_connections_of_ours(dsn: str, url: sa.URL) -> None:
    engine = sa.create_engine(url, creator=lambda: heliosproxy.connect(dsn))
    with engine.connect() as connection:
        assert one(connection) == 1
    engine.dispose()


def test_a_creator_with_a_proxy(dsn: str, url: sa.URL) -> None:
    with heliosproxy.Proxy(helios_mode="transaction") as proxy:
        engine = sa.create_engine(url, helios_proxy=proxy, creator=lambda: proxy.connect(dsn))
        with engine.connect() as connection:
            assert one(connection) == 1
        engine.dispose()


def test_a_creator_that_gives_connections_of_another_proxy_is_refused(dsn: str, url: sa.URL) -> None:
    """Its options would be passed over, and `engine.heliosproxy.cache.invalidate()` reach nobody."""
    opened: list[Any] = []

    def creator() -> Any:
        opened.append(heliosproxy.connect(dsn, helios_cache=True))
        return opened[-1]

    engine = sa.create_engine(url, creator=creator)
    with pytest.raises(sa.exc.ProgrammingError, match="another Proxy than the engine's"):
        engine.connect()
    for connection in opened:
        connection.close()


@pytest.mark.parametrize("other", ["postgresql+asyncpg://h/d", "sqlite://", "mysql+pymysql://h/d"])
def test_the_plugin_refuses_other_drivers(other: str) -> None:
    with pytest.raises(ConfigError, match=r"it works in postgresql\+psycopg"):
        sa.create_engine(other, plugins=["heliosproxy"])


def test_an_engine_without_heliosproxy_has_no_proxy(dsn: str) -> None:
    with pytest.raises(ConfigError, match="without heliosproxy"):
        proxy_of(sa.create_engine(sa.make_url(dsn).set(drivername="postgresql+psycopg")))
    with pytest.raises(ConfigError, match="is no engine"):
        proxy_of(dsn)


def test_what_connect_is_asked_for_may_be_changed_by_an_event(url: sa.URL) -> None:
    engine = sa.create_engine(url.set(username="nobody_at_all"), helios_mode="transaction")

    @sa.event.listens_for(engine, "do_connect")
    def login(dialect: Any, record: Any, cargs: Any, cparams: dict[str, Any]) -> None:
        cparams["user"] = url.username

    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT current_user")).scalar() == url.username
    engine.dispose()


def test_an_event_may_open_the_connection_through_the_dialect(url: sa.URL) -> None:
    engine = sa.create_engine(url)

    @sa.event.listens_for(engine, "do_connect")
    def login(dialect: Any, record: Any, cargs: Any, cparams: dict[str, Any]) -> Any:
        return dialect.connect(*cargs, **cparams)

    with engine.connect() as connection:
        assert one(connection) == 1
    engine.dispose()


def test_an_event_that_asks_the_module_for_a_connection_is_told_what_to_call(url: sa.URL) -> None:
    engine = sa.create_engine(url)

    @sa.event.listens_for(engine, "do_connect")
    def login(dialect: Any, record: Any, cargs: Any, cparams: dict[str, Any]) -> Any:
        return dialect.loaded_dbapi.connect(*cargs, **cparams)

    with pytest.raises(sa.exc.ProgrammingError, match=r"call dialect\.connect"):
        engine.connect()


def test_it_compiles_as_sqlalchemys_dialect_of_psycopg_does() -> None:
    wanted = sa.select(sa.literal(1)).where(sa.literal("a") == "b")
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    assert str(wanted.compile(dialect=HeliosDialect())) == str(wanted.compile(dialect=PGDialect_psycopg()))
