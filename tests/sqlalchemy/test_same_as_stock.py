"""Programs of Core statements, made up by hypothesis: two connections with the cache see what psycopg's see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import heliosproxy

CONNECTIONS = st.integers(0, 1)
KEYS = st.integers(0, 5)
VALUES = st.one_of(st.none(), st.integers(-3, 3))
OPTIONS = st.sampled_from([{}, {}, {"helios_cache": False}, {"helios_ttl": 60}])
COLUMNS = (sa.Column("id", sa.Integer, primary_key=True), sa.Column("v", sa.Integer))
TABLE = sa.Table("same", sa.MetaData(), *COLUMNS)

READS: list[Callable[[int], Any]] = [
    lambda key: sa.select(TABLE).order_by(TABLE.c.id),
    lambda key: sa.select(TABLE.c.v).where(TABLE.c.id == key),
    lambda key: sa.select(sa.func.count(), sa.func.sum(TABLE.c.v)).select_from(TABLE),
    lambda key: sa.select(TABLE).where(TABLE.c.v.is_(None)).order_by(TABLE.c.id),
    lambda key: sa.select(TABLE.c.id).where(TABLE.c.id.in_([key, key + 1])).order_by(TABLE.c.id),
    lambda key: sa.text("SELECT v FROM same WHERE id = :id OR id = :id + 1 ORDER BY id").bindparams(id=key),
]


class Programs(RuleBasedStateMachine):
    """Two pairs of connections, one of stock psycopg, one of ours, each pair in a schema of its own."""

    stock: sa.Engine
    ours: sa.Engine

    @initialize()
    def begin(self) -> None:
        for engine in (self.stock, self.ours):
            with engine.begin() as connection:
                connection.execute(sa.text("TRUNCATE same"))
                connection.execute(sa.insert(TABLE), [{"id": key, "v": key} for key in range(4)])
        self.pairs = [(self.stock.connect(), self.ours.connect()) for _ in range(2)]
        self.savepoints: list[list[tuple[Any, Any]]] = [[], []]

    def both(self, number: int, do: Callable[[sa.Connection], Any]) -> None:
        """*do* with each of a pair; the same must come of it."""
        expected, given = (self._outcome(connection, do) for connection in self.pairs[number])
        assert given == expected

    def _outcome(self, connection: sa.Connection, do: Callable[[sa.Connection], Any]) -> Any:
        try:
            return do(connection)
        except sa.exc.DBAPIError as error:
            return type(error.orig), getattr(error.orig, "sqlstate", None)

    # Often, or there would be more writing than remembering.
    @rule(number=CONNECTIONS, read=st.sampled_from(READS), key=KEYS, options=OPTIONS)
    def read_more(self, number: int, read: Callable[[int], Any], key: int, options: dict[str, Any]) -> None:
        for _ in range(2):
            self.read(number, read, key, options)

    @rule(number=CONNECTIONS, read=st.sampled_from(READS), key=KEYS, options=OPTIONS)
    def read(self, number: int, read: Callable[[int], Any], key: int, options: dict[str, Any]) -> None:
        def do(connection: sa.Connection) -> Any:
            return [tuple(row) for row in connection.execute(read(key), execution_options=options)]

        self.both(number, do)
        self.both(1 - number, do)

    # Each connection writes keys of its own: nobody has to wait for the other.
    @rule(number=CONNECTIONS, key=KEYS, value=VALUES)
    def insert(self, number: int, key: int, value: int | None) -> None:
        row = {"id": 2 * key + number, "v": value}
        self.both(number, lambda connection: connection.execute(sa.insert(TABLE), row).rowcount)

    @rule(number=CONNECTIONS, key=KEYS, value=VALUES)
    def update(self, number: int, key: int, value: int | None) -> None:
        wanted = sa.update(TABLE).where(TABLE.c.id == 2 * key + number).values(v=value)
        self.both(number, lambda connection: connection.execute(wanted).rowcount)

    @rule(number=CONNECTIONS, key=KEYS)
    def delete(self, number: int, key: int) -> None:
        wanted = sa.delete(TABLE).where(TABLE.c.id == 2 * key + number).returning(TABLE.c.v)
        self.both(number, lambda connection: connection.execute(wanted).all())

    @rule(number=CONNECTIONS)
    def savepoint(self, number: int) -> None:
        stock, ours = self.pairs[number]
        if len(self.savepoints[number]) < 2 and not self._failed(stock):
            self.savepoints[number].append((stock.begin_nested(), ours.begin_nested()))

    @rule(number=CONNECTIONS, kept=st.booleans())
    def end_savepoint(self, number: int, kept: bool) -> None:
        if self.savepoints[number]:
            failed = self._failed(self.pairs[number][0])
            for savepoint in self.savepoints[number].pop():
                savepoint.commit() if kept and not failed else savepoint.rollback()

    @rule(number=CONNECTIONS, committed=st.booleans())
    def end(self, number: int, committed: bool) -> None:
        self.savepoints[number].clear()
        self.both(number, lambda connection: connection.commit() if committed else connection.rollback())

    @rule(number=CONNECTIONS)
    def reconnect(self, number: int) -> None:
        self.savepoints[number].clear()
        for connection in self.pairs[number]:
            connection.close()
        self.pairs[number] = (self.stock.connect(), self.ours.connect())

    def _failed(self, connection: sa.Connection) -> bool:
        status = connection.connection.driver_connection.info.transaction_status
        return bool(status == psycopg.pq.TransactionStatus.INERROR)

    @invariant()
    def they_are_in_the_same_kind_of_transaction(self) -> None:
        for stock, ours in getattr(self, "pairs", ()):
            assert self._failed(stock) == self._failed(ours)

    def teardown(self) -> None:
        for pair in getattr(self, "pairs", ()):
            for connection in pair:
                connection.close()


@pytest.mark.slow
def test_with_the_cache_programs_do_what_they_do_without(url: sa.URL, dsn: str) -> None:
    for schema in ("stock", "ours"):
        with psycopg.connect(dsn) as conn:
            conn.execute(f"CREATE SCHEMA {schema}")
            conn.execute(f"CREATE TABLE {schema}.same (id int PRIMARY KEY, v int CHECK (v <> -3))")
    with heliosproxy.Proxy(helios_mode="transaction", helios_cache=True) as proxy:
        path = {"connect_args": {"options": "-c search_path=stock"}}
        Programs.stock = sa.create_engine(url.set(drivername="postgresql+psycopg"), **path)
        path = {"connect_args": {"options": "-c search_path=ours"}}
        Programs.ours = sa.create_engine(url, helios_proxy=proxy, **path)
        run_state_machine_as_test(
            Programs,
            settings=settings(
                max_examples=100,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
        stats = proxy.stats()
        assert stats["cache"]["hits"] > 10
        assert sum(pool["pool_size"] - pool["pool_available"] for pool in stats["pools"].values()) == 0
        Programs.stock.dispose()
        Programs.ours.dispose()
