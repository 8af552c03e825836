"""What a feature may do in the path, shown by stages made for these tests, on a real server.

A recovery swaps the server connection in mid-statement and in mid-transaction; what the client then holds
works on the new one, and everything happened once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

import heliosproxy
from heliosproxy.call import Call, Flight
from heliosproxy.effects import Lease, Run, Steps
from heliosproxy.session import Edge, Session


class Adds:
    """Adds a command before the statement and one behind it, and sees each result."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.outcomes: list[str] = []

    def compose(self, session: Session, call: Call, flight: Flight) -> None:
        if call.kind == "execute":
            flight.state = (*flight.state, b"SET application_name TO 'composed'")
            flight.behind = (b"SELECT 'behind'",)

    def result(self, session: Session, call: Call, results: list[Any] | None) -> None:
        if call.kind == "execute" and results:
            self.rows.append(results[0].get_value(0, 0))

    def settled(self, session: Session, outcome: str) -> None:
        self.outcomes.append(outcome)


class Recovers:
    """When its server connection breaks, goes on with another one, where it repeats the open transaction."""

    def __init__(self) -> None:
        self.journal: list[Call] = []
        self.recovered = 0

    def result(self, session: Session, call: Call, results: list[Any] | None) -> None:
        if call.kind == "execute":
            self.journal.append(call)

    def settled(self, session: Session, outcome: str) -> None:
        self.journal.clear()

    def failed(self, session: Session, call: Call, error: BaseException, edge: Edge) -> Steps | None:
        if not isinstance(error, psycopg.OperationalError) or call.kind != "execute":
            return None
        return self._go_on(session, edge)

    def _go_on(self, session: Session, edge: Edge) -> Steps:
        broken = session.let_go()
        broken.pool.discard(broken)
        session.take((yield Lease(session.pool)), edge)
        for number, done in enumerate(self.journal):
            again = edge.repeat(done)
            again.flight = Flight(begin=(b"BEGIN",)) if number == 0 else Flight()
            yield Run(again)
        self.recovered += 1
        return True


def break_server(conn: Any, dsn: str) -> Callable[[], None]:
    """End the server process that *conn* is leased to, from outside."""
    pid = conn.pgconn.backend_pid

    def end() -> None:
        with psycopg.connect(dsn, autocommit=True) as outside:
            outside.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))

    return end


@pytest.fixture
def table(dsn: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as outside:
        outside.execute("DROP TABLE IF EXISTS ledger")
        outside.execute("CREATE TABLE ledger (n int)")
    return "ledger"


def numbers(dsn: str) -> list[int]:
    with psycopg.connect(dsn, autocommit=True) as outside:
        return [n for (n,) in outside.execute("SELECT n FROM ledger ORDER BY n")]


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_a_stage_adds_commands_to_the_flight_and_sees_the_result(dsn: str, mode: str) -> None:
    stage = Adds()
    with heliosproxy.Proxy(helios_mode=mode, stages=(stage,)) as proxy, proxy.connect(dsn) as conn:
        row = conn.execute("SELECT current_setting('application_name')").fetchone()
        assert row == ("composed",)
        assert stage.rows == [b"composed"]
        conn.commit()
        assert stage.outcomes == ([] if mode == "statement" else ["commit"])


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_recovery_swaps_the_server_connection_in_mid_statement(dsn: str, table: str, mode: str) -> None:
    stage = Recovers()
    with (
        heliosproxy.Proxy(helios_mode=mode, stages=(stage,)) as proxy,
        proxy.connect(dsn, autocommit=True) as conn,
    ):
        cursor = conn.cursor()
        query = "WITH killed AS (SELECT pg_backend_pid() AS pid) SELECT pid FROM killed"
        before = cursor.execute(query).fetchone()
        # The statement kills its own server process the first time; the second finds nothing to kill.
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND pid = pg_backend_pid()",
            before,
        )
        assert cursor.fetchall() == []
        assert stage.recovered == 1
        assert cursor.execute(query).fetchone() != before
        assert not conn.closed


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_recovery_swaps_the_server_connection_in_mid_transaction(dsn: str, table: str, mode: str) -> None:
    stage = Recovers()
    notices: list[str] = []
    with heliosproxy.Proxy(helios_mode=mode, stages=(stage,)) as proxy, proxy.connect(dsn) as conn:
        conn.add_notice_handler(lambda diag: notices.append(diag.message_primary or ""))
        cursor = conn.cursor()
        cursor.execute("INSERT INTO ledger VALUES (%s)", (1,))
        cursor.execute("INSERT INTO ledger VALUES (%s)", (2,))
        break_server(conn, dsn)()
        cursor.execute("INSERT INTO ledger VALUES (%s) RETURNING n", (3,))
        assert cursor.fetchall() == [(3,)]
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        conn.execute("DO $$ BEGIN RAISE NOTICE 'heard'; END $$")
        conn.commit()
        assert notices == ["heard"]
    assert stage.recovered == 1
    assert numbers(dsn) == [1, 2, 3]


def test_a_recovery_works_under_asyncio(dsn: str, table: str) -> None:
    stage = Recovers()

    async def main() -> None:
        proxy = heliosproxy.Proxy(helios_mode="transaction", stages=(stage,))
        async with proxy, await proxy.connect_async(dsn) as conn:
            await conn.execute("INSERT INTO ledger VALUES (1)")
            await asyncio.to_thread(break_server(conn, dsn))
            await conn.execute("INSERT INTO ledger VALUES (2)")

    asyncio.run(main())
    assert stage.recovered == 1
    assert numbers(dsn) == [1, 2]


def test_without_a_recovery_a_lost_transaction_is_over_and_the_connection_lives_on(
    dsn: str, table: str
) -> None:
    with heliosproxy.Proxy(helios_mode="transaction") as proxy, proxy.connect(dsn) as conn:
        conn.execute("INSERT INTO ledger VALUES (1)")
        break_server(conn, dsn)()
        with pytest.raises(psycopg.OperationalError):
            conn.execute("INSERT INTO ledger VALUES (2)")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            conn.execute("INSERT INTO ledger VALUES (3)")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            conn.commit()
        conn.rollback()
        conn.execute("INSERT INTO ledger VALUES (4)")
        conn.commit()
    assert numbers(dsn) == [4]


def test_the_path_of_a_proxy_without_features_is_empty() -> None:
    with heliosproxy.Proxy() as proxy:
        assert not proxy.path
        assert all(getattr(proxy.path, hook) == () for hook in ("before", "lookup", "compose", "result"))
