"""What a client is answered through the proxy is what PostgreSQL answers, message by message, byte by byte."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from contextlib import suppress

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served
from tests.server.wire import Wire, bind, execute

STATEMENT, PORTAL = ord("S"), ord("P")
ATOMS: dict[str, bytes] = {
    "sync": frontend.SYNC,
    "flush": frontend.FLUSH,
    "copy data": frontend.message(b"d", b"7\n"),
    "copy data that is none": frontend.message(b"d", b"x\n"),
    "copy done": frontend.message(b"c", b""),
    "copy fail": frontend.copy_fail(b"enough"),
    "function call": frontend.message(b"F", b"\0\0\7\x23\0\0\0\0\0\0"),  # now(): wrong number of arguments
    "bind that lies": frontend.message(b"B", b"\0s\0\0\0\0\1\0\0\0\x091\0\0"),
    "describe of what is none": frontend.message(b"D", b"X\0"),
}
for _text in (
    "BEGIN",
    "BEGIN READ ONLY",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "COMMIT",
    "ROLLBACK",
    "COMMIT AND CHAIN",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "RELEASE a",
    "SELECT 1/0",
    "SELECT FROM nowhere",
    "SELEC",
    "",
    "SELECT n FROM same ORDER BY n",
    "INSERT INTO same VALUES (1)",
    "INSERT INTO same VALUES (NULL)",
    "UPDATE same SET n = n + 1 RETURNING n",
    "DELETE FROM same",
    "SELECT written(5)",
    "WITH w AS (INSERT INTO same VALUES (8) RETURNING n) SELECT n FROM w",
    "DO $$BEGIN INSERT INTO same VALUES (6); END$$",
    "SELECT sum(n) FROM seen",
    "COPY same FROM STDIN",
    "COPY (SELECT n FROM same ORDER BY n) TO STDOUT",
    "SET DateStyle TO 'SQL, DMY'",
    "SET LOCAL DateStyle TO 'German'",
    "SELECT set_config('DateStyle', 'Postgres, DMY', false)",
    "RESET ALL",
    "RESET DateStyle",
    "DISCARD ALL",
    "DEALLOCATE ALL",
    "DEALLOCATE s",
    "SET search_path TO other",
    "SET work_mem TO 'nonsense'",
    "SET application_name TO 'x'",
    "SHOW DateStyle",
    "SHOW search_path",
    "SELECT '01/02/2020'::date",
    "INSERT INTO same VALUES (2); SELECT n FROM same ORDER BY n; SELECT 1/0",
    "INSERT INTO same VALUES (3); COMMIT; INSERT INTO same VALUES (4); SELECT 1/0",
    "SELECT 1; BEGIN; SET LOCAL DateStyle TO 'German'; SHOW DateStyle",
    "CREATE TABLE made (a int)",
    "DROP TABLE made",
    "ALTER TABLE same ADD m int DEFAULT 3",
    "SELECT * FROM same",
    "CREATE TEMP TABLE same (n text)",
    "DECLARE c CURSOR FOR SELECT n FROM seen ORDER BY n",
    "DECLARE c CURSOR WITH HOLD FOR SELECT n FROM seen ORDER BY n",
    "FETCH 1 FROM c",
    "CLOSE c",
    "LISTEN heard",
    "UNLISTEN *",
    "NOTIFY heard, 'x'",
    "SET ROLE lesser",
    "RESET ROLE",
    "SELECT current_user",
    "PREPARE of_sql AS SELECT 9",  # a name of the protocol is another
    "EXECUTE of_sql",
    "VACUUM same",
    "SELECT pg_advisory_lock(5), pg_advisory_unlock(5)",
    "LOCK TABLE same",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SHOW transaction_isolation",
    "SHOW transaction_read_only",
    "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) INSERT INTO same VALUES (9)",
):
    ATOMS[f"Q {_text}"] = frontend.query(_text.encode())
    ATOMS[f"X {_text}"] = frontend.parse(b"", _text.encode()) + bind() + execute()
    if _text.startswith(("DISCARD", "DEALLOCATE")):
        del ATOMS[f"X {_text}"]  # in a pipeline it is a server's affair, which knows other names
        ATOMS[f"Q {_text}"] = frontend.SYNC + ATOMS[f"Q {_text}"]
for _name in (b"", b"s", b"t"):
    for _text in (
        "SELECT $1::int + 1",
        "SELECT n FROM same WHERE n > $1 ORDER BY n",
        "SELECT n FROM seen WHERE n > $1 ORDER BY n",
        "INSERT INTO same VALUES ($1) RETURNING n",
        "SELECT '01/02/2020'::date, $1::text",
        "SELECT FROM nowhere WHERE $1",
        "SELECT * FROM same WHERE n > $1 ORDER BY n",
    ):
        if not _name or "nowhere" not in _text:  # of two errors in one Parse the other may be told
            ATOMS[f"P {_name.decode()} {_text}"] = frontend.parse(_name, _text.encode())
    shown = _name.decode()
    ATOMS[f"B {shown} 1"] = bind(_name, b"1")
    ATOMS[f"B {shown} none"] = bind(_name)
    ATOMS[f"B {shown} to p"] = bind(_name, b"0", portal=b"p")
    ATOMS[f"D {shown}"] = frontend.describe(STATEMENT, _name)
    ATOMS[f"C {shown}"] = frontend.close(STATEMENT, _name)
    ATOMS[f"run {shown}"] = bind(_name, b"0") + frontend.describe(PORTAL, b"") + execute() + frontend.SYNC
for _name in (b"", b"p", b"c"):
    shown = _name.decode()
    ATOMS[f"E {shown}"] = execute(_name)
    ATOMS[f"E {shown} 1"] = execute(_name, 1)
    ATOMS[f"DP {shown}"] = frontend.describe(PORTAL, _name)
    ATOMS[f"CP {shown}"] = frontend.close(PORTAL, _name)

FRESH = """
    ROLLBACK;
    DROP TABLE IF EXISTS made;
    DROP VIEW IF EXISTS seen;
    DROP TABLE IF EXISTS same CASCADE;
    CREATE TABLE same (n int NOT NULL);
    CREATE TABLE IF NOT EXISTS numbers AS SELECT n FROM generate_series(1, 4) AS n;
    CREATE VIEW seen AS SELECT n FROM numbers;
    CREATE SCHEMA IF NOT EXISTS other;
    CREATE TABLE IF NOT EXISTS other.same (n int);
    DELETE FROM other.same;
    CREATE OR REPLACE FUNCTION written(n int) RETURNS int LANGUAGE sql AS 'INSERT INTO same VALUES (n) RETURNING n';
"""
END = frontend.copy_fail(b"the end") + frontend.SYNC + frontend.SYNC + frontend.query(b"SELECT 'the end'")
LENIENT = (
    b"terminating connection because protocol synchronization was lost",  # a COPY fails, and no more
    b"StartTransactionCommand: unexpected state STARTED",  # PostgreSQL loses count behind a Query in a batch
    b"SET TRANSACTION ISOLATION LEVEL must be called before any query",  # a Parse need not reach the server
    b'portal "" does not exist',  # that of the BEGIN ahead does
    b"unnamed prepared statement does not exist",  # a Query does not take it away
)
"""Where the proxy goes on although PostgreSQL does not."""
Messages = list[tuple[bytes, bytes]]


def play(dsn: str, program: list[str], *, at_once: bool) -> Messages:
    """What *program* is answered, sent all at once or message by message."""
    found: Messages = []
    with Wire(dsn) as wire:
        if at_once:
            with suppress(ConnectionError):
                wire.send(*(ATOMS[name] for name in program))
        else:
            with suppress(ConnectionError):
                for name in program:
                    wire.send(ATOMS[name])
                    # How much of the answer has come by then decides how it is split, and must decide nothing else.
                    select.select([wire.sock], [], [], 0.004)
        with suppress(ConnectionError):
            wire.send(END, frontend.TERMINATE)
        found = wire.rest()
    return [shown(*message) for message in found]


def shown(kind: bytes, body: bytes) -> tuple[bytes, bytes]:
    """A message without what is never twice the same, or about the source of the server."""
    if kind == b"A":
        return kind, body[4:]
    if kind in b"EN":
        return kind, b"\0".join(part for part in body.split(b"\0") if part[:1] not in b"FLR")
    if kind == b"T":
        fields, at = [body[:2]], 2
        while at < len(body):
            end = body.index(0, at) + 1
            fields += [body[at:end], body[end + 4 : end + 18]]  # without the table's OID
            at = end + 18
        return kind, b"".join(fields)
    return kind, body


@pytest.fixture(scope="module")
def direct(dsn: str) -> Callable[[list[str], bool], Messages]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DROP ROLE IF EXISTS lesser; CREATE ROLE lesser; ")

    def played(program: list[str], at_once: bool) -> Messages:
        fresh(dsn)
        return play(dsn, program, at_once=at_once)

    return played


def fresh(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SET client_min_messages TO 'error'")
        for statement in FRESH.split(";\n"):
            conn.execute(statement.encode())
        conn.execute("GRANT SELECT ON numbers TO lesser")


PROGRAMS = st.lists(st.sampled_from(sorted(ATOMS)), min_size=1, max_size=14)


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_any_program_is_answered_as_directly(
    served: Callable[..., Served],
    direct: Callable[[list[str], bool], Messages],
    mode: str,
    cache: bool,
) -> None:
    server = served(mode, helios_server_connections=2, helios_cache=cache)

    @settings(
        max_examples=int(os.environ.get("HELIOS_PROGRAMS", "45")),  # more by hand, or by night
        deadline=None,
        derandomize="HELIOS_PROGRAMS" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(PROGRAMS, st.booleans())
    def check(program: list[str], at_once: bool) -> None:
        expected = direct(program, at_once)
        assume(expected[-1][0] == b"Z")  # else PostgreSQL has hung up
        assume(not any(part in body for part in LENIENT for _, body in expected))
        fresh(server.dsn)
        if server.proxy.cache is not None:
            server.proxy.cache.flush()  # of what was written past the proxy
        assert play(server.url, program, at_once=at_once) == expected

    check()
    assert server.settles(0)
