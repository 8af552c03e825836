"""A logical connection leases late and returns early; what SQLAlchemy does to it reaches the path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import heliosproxy
from heliosproxy import HeliosError, UnsupportedError
from heliosproxy.sqlalchemy import proxy_of

NUMBER = sa.text("SELECT n FROM number WHERE id = 1")


@pytest.fixture(autouse=True)
def table(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("DROP TABLE IF EXISTS number")
        conn.execute("CREATE TABLE number (id int PRIMARY KEY, n int NOT NULL)")
        conn.execute("INSERT INTO number SELECT i, 10 * i FROM generate_series(1, 20) i")


def number(connection: Any) -> Any:
    return connection.execute(NUMBER).scalar()


def outcome(connection: sa.Connection, statement: Any = NUMBER, **options: Any) -> str:
    """How *statement* was answered."""
    seen: list[Any] = []
    sa.event.listen(
        connection,
        "after_cursor_execute",
        lambda conn, cursor, *rest: seen.append(getattr(cursor, "_cursor", cursor).helios.outcome),
    )
    connection.execute(statement, execution_options=options).all()
    return str(seen[0])


def test_a_connection_leases_with_its_first_statement_and_returns_with_its_transaction(
    colour: Any, make: Callable[..., Any], leased: Callable[[Any], int]
) -> None:
    engine = make()
    colour.run(engine, number)  # SQLAlchemy's own first look at the server

    def body(connection: sa.Connection) -> list[int]:
        seen = [leased(engine)]
        with connection.begin():
            seen.append(leased(engine))
            number(connection)
            seen.append(leased(engine))
        return [*seen, leased(engine)]

    assert colour.run(engine, body) == [0, 0, 1, 0]


def test_an_answer_from_memory_leases_nothing(
    colour: Any, make: Callable[..., Any], leases: Callable[[Any], int]
) -> None:
    engine = make(helios_cache=True)
    assert colour.run(engine, number) == 10
    before = leases(engine)
    assert [colour.run(engine, number) for _ in range(3)] == [10, 10, 10]
    assert leases(engine) == before


def test_a_write_is_seen_by_the_next_read(colour: Any, make: Callable[..., Any]) -> None:
    reader, writer = make(helios_cache=True), make(helios_cache=True)
    shared = proxy_of(reader)
    writer = colour.engine(reader.url, helios_proxy=shared)
    assert [colour.run(reader, number) for _ in range(2)] == [10, 10]

    def write(connection: sa.Connection) -> None:
        connection.execute(sa.text("UPDATE number SET n = 11 WHERE id = 1"))
        connection.commit()

    colour.run(writer, write)
    assert colour.run(reader, number) == 11
    colour.dispose(writer)


def test_parameters_in_another_order_are_the_same_question(colour: Any, make: Callable[..., Any]) -> None:
    engine = make(helios_cache=True)
    wanted = sa.text("SELECT n FROM number WHERE id = :id AND n = :n")

    def body(connection: sa.Connection) -> list[str]:
        return [
            outcome(connection, wanted.bindparams(id=1, n=10)),
            outcome(connection, wanted.bindparams(n=10, id=1)),
        ]

    assert colour.run(engine, body) == ["miss", "hit"]


def test_the_cache_may_be_switched_off_for_a_statement_a_connection_or_an_engine(
    colour: Any, make: Callable[..., Any]
) -> None:
    engine = make(helios_cache=True)
    assert [colour.run(engine, outcome) for _ in range(2)] == ["miss", "hit"]
    assert colour.run(engine, lambda connection: outcome(connection, helios_cache=False)) == "bypass"
    assert (
        colour.run(engine, lambda connection: outcome(connection.execution_options(helios_cache=False)))
        == "bypass"
    )
    assert colour.run(engine.execution_options(helios_cache=False), outcome) == "bypass"
    assert colour.run(engine, outcome) == "hit"


def test_a_statement_may_ask_for_a_younger_answer(colour: Any, make: Callable[..., Any]) -> None:
    engine = make(helios_cache=True)
    assert colour.run(engine, outcome) == "miss"
    assert colour.run(engine, lambda connection: outcome(connection, helios_ttl=60)) == "hit"
    assert colour.run(engine, lambda connection: outcome(connection, helios_ttl=0.000001)) == "miss"


@pytest.mark.parametrize("option", ["helios_route", "helios_tenant"])
def test_an_option_of_a_feature_that_is_not_built_is_refused_by_name(
    colour: Any, make: Callable[..., Any], option: str
) -> None:
    engine = make()
    given = {option: "elsewhere"}
    with pytest.raises(HeliosError, match=option) as caught:
        colour.run(engine, lambda connection: connection.execute(NUMBER, execution_options=given))
    assert isinstance(caught.value, UnsupportedError)
    with pytest.raises(HeliosError, match=option):
        colour.run(engine, lambda connection: connection.execution_options(**given))
    with pytest.raises(HeliosError, match=option):
        engine.execution_options(**given)
    with pytest.raises(HeliosError, match=option):
        colour.session(engine, lambda session: session.execute(NUMBER, execution_options=given))
    assert colour.run(engine, number) == 10


def test_an_option_of_a_new_engine_that_is_not_built_is_refused_by_name(url: sa.URL, colour: Any) -> None:
    with pytest.raises(HeliosError, match="helios_tenant"):
        colour.engine(url, execution_options={"helios_tenant": "a"})


def test_an_unknown_option_is_refused_with_a_hint(colour: Any, make: Callable[..., Any]) -> None:
    with pytest.raises(
        HeliosError, match='helios_cach: unknown execution option, did you mean "helios_cache"'
    ):
        colour.run(make(), lambda connection: outcome(connection, helios_cach=False))


def test_an_option_of_an_engine_is_no_execution_option_and_the_message_says_where_it_goes(
    colour: Any, make: Callable[..., Any]
) -> None:
    with pytest.raises(HeliosError, match=r"^helios_mode: an option of an engine.*create_engine"):
        colour.run(make(), lambda connection: outcome(connection, helios_mode="session"))


@pytest.mark.parametrize(
    ("option", "value"), [("helios_ttl", "soon"), ("helios_ttl", 0), ("helios_cache", "maybe")]
)
def test_a_wrong_value_is_refused_by_the_name_that_was_written(
    colour: Any, make: Callable[..., Any], option: str, value: Any
) -> None:
    with pytest.raises(HeliosError, match=f"^{option}: "):
        colour.run(make(), lambda connection: outcome(connection, **{option: value}))


@pytest.mark.parametrize("ours", [True, False])
def test_options_and_a_cursor_factory(colour: Any, make: Callable[..., Any], ours: bool) -> None:
    """A cursor class of psycopg's own cannot be told; without options it works."""
    module: Any = heliosproxy.dbapi if ours else psycopg
    factory = module.ClientCursor if colour.name == "sync" else module.AsyncClientCursor
    engine = make(helios_cache=True, connect_args={"cursor_factory": factory})
    assert colour.run(engine, number) == 10
    if ours:
        assert colour.run(engine, lambda connection: outcome(connection, helios_cache=False)) == "bypass"
    else:
        with pytest.raises(sa.exc.ProgrammingError, match=r"such as heliosproxy\.dbapi\.\w*ClientCursor"):
            colour.run(engine, lambda connection: outcome(connection, helios_cache=False))


def test_read_only_transactions(colour: Any, make: Callable[..., Any]) -> None:
    engine = make().execution_options(postgresql_readonly=True)

    def body(connection: sa.Connection) -> Any:
        assert connection.connection.driver_connection.read_only is True
        connection.execute(sa.text("UPDATE number SET n = 0"))

    with pytest.raises(sa.exc.InternalError, match="read-only transaction"):
        colour.run(engine, body)


@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"])
def test_isolation_levels(colour: Any, make: Callable[..., Any], level: str) -> None:
    engine = make(isolation_level=level)

    def body(connection: sa.Connection) -> Any:
        return connection.get_isolation_level(), connection.execute(
            sa.text("SHOW transaction_isolation")
        ).scalar()

    assert colour.run(engine, body) == (level, level.lower())


def test_autocommit(colour: Any, make: Callable[..., Any], leased: Callable[[Any], int]) -> None:
    engine = make()

    def body(connection: sa.Connection) -> Any:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(sa.text("UPDATE number SET n = 12 WHERE id = 1"))
        return leased(engine)

    assert colour.run(engine, body) == 0
    assert colour.run(engine, number) == 12


def test_one_that_holds_no_server_connection_is_pinged_without_one(
    colour: Any, make: Callable[..., Any], leases: Callable[[Any], int]
) -> None:
    engine = make(pool_pre_ping=True, pool_size=1)
    colour.run(engine, number)
    before = leases(engine)
    for _ in range(5):
        colour.run(engine, lambda connection: None)
    assert leases(engine) == before


def _kill(engine: Any, dsn: str) -> None:
    """End every server connection of *engine*."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database()"
        )


def test_in_session_mode_a_dead_one_is_replaced_when_it_is_pinged(
    colour: Any, make: Callable[..., Any], dsn: str
) -> None:
    engine = make("session", pool_pre_ping=True, pool_size=1)
    assert colour.run(engine, number) == 10
    _kill(engine, dsn)
    assert colour.run(engine, number) == 10


def test_one_that_healed_itself_is_no_disconnect(colour: Any, make: Callable[..., Any], dsn: str) -> None:
    engine = make(pool_size=1)

    def body(connection: sa.Connection) -> Any:
        number(connection)
        driver = connection.connection.driver_connection
        _kill(engine, dsn)
        with pytest.raises(sa.exc.OperationalError) as caught:
            number(connection)
        assert not caught.value.connection_invalidated
        connection.rollback()
        assert number(connection) == 10
        return connection.connection.driver_connection is driver

    assert colour.run(engine, body)


def test_in_session_mode_it_is_one(colour: Any, make: Callable[..., Any], dsn: str) -> None:
    engine = make("session", pool_size=1)

    def body(connection: sa.Connection) -> Any:
        number(connection)
        _kill(engine, dsn)
        with pytest.raises(sa.exc.OperationalError) as caught:
            number(connection)
        assert caught.value.connection_invalidated
        connection.rollback()
        return number(connection)

    assert colour.run(engine, body) == 10


def test_more_connections_than_the_server_has(
    make: Callable[..., Any], colour: Any, leased: Callable[[Any], int]
) -> None:
    engine = make(helios_server_connections=1, pool_size=5)
    if colour.name == "async":
        pytest.skip("one task at a time here")
    held = [engine.connect() for _ in range(5)]
    for connection in held:
        assert number(connection) == 10
        connection.rollback()
    assert leased(engine) == 0
    for connection in held:
        connection.close()


def test_the_text_of_a_compiled_statement_is_analysed_once(colour: Any, make: Callable[..., Any]) -> None:
    engine = make()
    table = sa.table("number", sa.column("id"), sa.column("n"))
    wanted = sa.select(table.c.n).where(table.c.id == sa.bindparam("id"))
    memo = proxy_of(engine).memo
    texts: list[str] = []
    get = memo.get

    def counted(text: str) -> Any:
        texts.append(text)
        return get(text)

    memo.get = counted
    for key in range(1, 20):
        assert (
            colour.run(engine, lambda connection, key=key: connection.execute(wanted, {"id": key}).scalar())
            == 10 * key
        )
    assert sum("FROM number" in text for text in texts) == 1
