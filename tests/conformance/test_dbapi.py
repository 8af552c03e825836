"""The DB-API 2.0 compliance suite (the package dbapi-compliance) over ``heliosproxy.dbapi``."""

from __future__ import annotations

from typing import Any

import dbapi20
import pytest

from heliosproxy import dbapi


@pytest.fixture(scope="class", autouse=True)
def connect_args(request: pytest.FixtureRequest, dsn: str) -> None:
    request.cls.connect_args = (dsn,)


class Compliance(dbapi20.DatabaseAPI20Test):
    """The suite leaves two tests to the driver, and says of a third that "reasonable persons differ"."""

    driver = dbapi

    def _connect(self) -> dbapi.Connection[Any]:
        # Two of the suite's tests leave theirs to the garbage collector, which warns.
        connection: dbapi.Connection[Any] = super()._connect()
        self.addCleanup(connection.close)
        return connection

    def test_nextset(self) -> None:
        """A driver's own: the suite knows no portable way to several result sets."""
        con = self._connect()
        try:
            cur = con.cursor()
            cur.execute("SELECT 1; SELECT 2 UNION ALL SELECT 3")
            assert cur.fetchall() == [(1,)]
            assert cur.nextset()
            assert cur.fetchall() == [(2,), (3,)]
            assert cur.nextset() is None
        finally:
            con.close()

    def test_setoutputsize(self) -> None:
        """A driver's own: PostgreSQL has no use for it, a column of any size comes whole."""
        con = self._connect()
        try:
            cur = con.cursor()
            cur.setoutputsize(10)
            cur.execute("SELECT repeat('x', 100000)")
            assert cur.fetchall() == [("x" * 100_000,)]
        finally:
            con.close()

    def test_non_idempotent_close(self) -> None:
        """The suite wants an error, psycopg (and its own suite) wants none."""
        con = self._connect()
        con.close()
        con.close()
        assert con.closed
