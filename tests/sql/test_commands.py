"""Transaction control, settings, pins, blocks, verbs: one row per form."""

from __future__ import annotations

import pytest

from heliosproxy.sql.analyse import analyse
from heliosproxy.sql.statement import Kind, Parameter, Setting, Transaction, TransactionOp

T = TransactionOp
TRANSACTIONS = [
    ("BEGIN", Transaction(T.BEGIN)),
    (
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY, NOT DEFERRABLE",
        Transaction(T.BEGIN, None, {"isolation": "repeatable read", "read_only": "on", "deferrable": "off"}),
    ),
    ("START TRANSACTION READ WRITE", Transaction(T.BEGIN, None, {"read_only": "off"})),
    ("COMMIT AND CHAIN", Transaction(T.COMMIT, chain=True)),
    ("END", Transaction(T.COMMIT)),
    ("ABORT", Transaction(T.ROLLBACK)),
    ("ROLLBACK AND NO CHAIN", Transaction(T.ROLLBACK)),
    ('SAVEPOINT "A b"', Transaction(T.SAVEPOINT, "A b")),
    ("RELEASE SAVEPOINT a", Transaction(T.RELEASE, "a")),
    ("ROLLBACK TO a", Transaction(T.ROLLBACK_TO, "a")),
    ("PREPARE TRANSACTION 'g'", Transaction(T.PREPARE, "g")),
    ("COMMIT PREPARED 'g'", Transaction(T.COMMIT_PREPARED, "g")),
    ("ROLLBACK PREPARED 'g'", Transaction(T.ROLLBACK_PREPARED, "g")),
]


@pytest.mark.parametrize(("text", "expected"), TRANSACTIONS)
def test_transaction(text: str, expected: Transaction) -> None:
    facts = analyse(text)
    assert facts.kind is Kind.TRANSACTION
    assert facts.transaction == expected
    assert facts.transaction is not None
    assert facts.transaction.options == expected.options


SETTINGS = [
    ("SET search_path = a, 'B c', \"$user\"", [Setting("search_path", "'a', 'B c', '$user'")]),
    ("SET LOCAL work_mem TO '4MB'", [Setting("work_mem", "'4MB'", local=True)]),
    ('SET "TimeZone" TO DEFAULT', [Setting("timezone", None)]),
    ("SET app.x = 1.5", [Setting("app.x", "1.5")]),
    ("SET x = 'it''s \\ '", [Setting("x", " E'it''s \\\\ '")]),
    ("SET TIME ZONE -7", [Setting("timezone", "-7")]),
    ("SET TIME ZONE LOCAL", [Setting("timezone", None)]),
    ("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", [Setting("timezone", "'INTERVAL ''-08:00'''")]),
    ("SET TIME ZONE INTERVAL '1' HOUR TO MINUTE", [Setting("timezone", None, known=False)]),
    ("SET NAMES 'latin1'", [Setting("client_encoding", "'latin1'")]),
    ("SET ROLE r", [Setting("role", "'r'")]),
    ("SET LOCAL ROLE NONE", [Setting("role", "'none'", local=True)]),
    ("SET SESSION AUTHORIZATION r", [Setting("session_authorization", "'r'")]),
    ("RESET SESSION AUTHORIZATION", [Setting("session_authorization", None)]),
    ("RESET ROLE", [Setting("role", None)]),
    ("RESET work_mem", [Setting("work_mem", None)]),
    ("RESET ALL", [Setting("*", None)]),
    ("SET x FROM CURRENT", [Setting("x", None, known=False)]),
    (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, NOT DEFERRABLE",
        [
            Setting("default_transaction_isolation", "'serializable'"),
            Setting("default_transaction_read_only", "on"),
            Setting("default_transaction_deferrable", "off"),
        ],
    ),
    ("SET TRANSACTION READ ONLY", [Setting("transaction_read_only", "on", local=True)]),
    ("SET TRANSACTION SNAPSHOT 'a-1'", [Setting("transaction_snapshot", "'a-1'", local=True)]),
    ("SET CONSTRAINTS ALL DEFERRED", []),
    ("ALTER SYSTEM SET work_mem = 1", []),
    ("ALTER ROLE r SET work_mem = 1", []),
    ("SELECT set_config('A.b', 'c', false)", [Setting("a.b", "'c'")]),
    ("SELECT set_config('A.Ü', 'c', false)", [Setting("a.Ü", "'c'")]),
    ("SELECT set_config($1, 'c', false)", [Setting(Parameter(1), None, known=False)]),
    (f"SELECT set_config('a.{'b' * 63}', 'c', false)", [Setting("a." + "b" * 63, "'c'")]),
    (f"SELECT set_config('a.{'b' * 64}', 'c', false)", [Setting("a." + "b" * 64, None, known=False)]),
    ("SELECT set_config('a', NULL, true)", [Setting("a", None, local=True)]),
    ("SELECT pg_catalog.set_config('a'::text, $2, 't')", [Setting("a", Parameter(2), local=True)]),
    ("SELECT set_config($1, $2::text, true)", [Setting(Parameter(1), Parameter(2), local=True)]),
    (
        "SELECT set_config('a', '1', false), set_config('a', '2', false)",
        [Setting("a", "'1'"), Setting("a", "'2'")],
    ),
    ("SELECT set_config('search_path', 'A, \"B c\"', false)", [Setting("search_path", "'a', 'B c'")]),
    ("SELECT set_config('search_path', '', false)", [Setting("search_path", "''")]),
    ("SELECT set_config('search_path', 'a,,b', false)", [Setting("search_path", None, known=False)]),
    ("SELECT set_config('datestyle', 'ISO, MDY', false)", [Setting("datestyle", "'ISO, MDY'")]),
    ("SELECT set_config('a', '1', $1)", [Setting("a", "'1'", known=False)]),
    ("SELECT set_config('a', x, false) FROM t", [Setting("a", None, known=False)]),
    ("SELECT set_config('a', '1', false) FROM t", [Setting("a", "'1'", known=False)]),
    ("SELECT 1 WHERE set_config('a', '1', false) = ''", [Setting("a", "'1'", known=False)]),
    ("SELECT set_config(f(), '1', true)", [Setting(None, None, local=True, known=False)]),
    ("INSERT INTO t VALUES (set_config('a', '1', false))", [Setting("a", "'1'", known=False)]),
    ("EXPLAIN SELECT set_config('a', '1', false)", []),
    ("UPDATE pg_settings SET setting = '1' WHERE name = 'a'", [Setting(None, None, known=False)]),
]


@pytest.mark.parametrize(("text", "expected"), SETTINGS)
def test_settings(text: str, expected: list[Setting]) -> None:
    facts = analyse(text)
    assert list(facts.settings) == expected
    # What lasts longer than the transaction and cannot be told cannot be restored on another server connection.
    opaque = any(not change.known and not change.local for change in expected)
    assert ("opaque_setting" in facts.pins) is opaque


PINS = [
    ("SELECT pg_advisory_lock(1)", "advisory_lock"),
    ("SELECT * FROM t WHERE pg_catalog.pg_try_advisory_lock_shared(1, 2)", "advisory_lock"),
    ("SELECT pg_try_advisory_lock(1)", "advisory_lock"),
    ("SELECT pg_advisory_xact_lock(1), pg_advisory_unlock(1), s.pg_advisory_lock(1)", None),
    ("EXPLAIN SELECT pg_advisory_lock(1)", None),
    ("CREATE TEMP TABLE t (a int)", "temp_table"),
    ("CREATE LOCAL TEMPORARY TABLE t AS SELECT 1", "temp_table"),
    ("CREATE TABLE pg_temp.t (a int)", "temp_table"),
    ("CREATE TABLE pg_temp.t AS SELECT 1", "temp_table"),
    ("CREATE TEMP VIEW v AS SELECT 1", "temp_table"),
    ("CREATE VIEW pg_temp.v AS SELECT 1", "temp_table"),
    ("CREATE TEMP SEQUENCE s", "temp_table"),
    ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql RETURN 1", "temp_table"),
    ("CREATE TYPE pg_temp.x AS ENUM ('a')", "temp_table"),
    ("CREATE TYPE pg_temp.x AS (a int)", "temp_table"),
    ("CREATE DOMAIN pg_temp.d AS int CHECK (value > 0)", "temp_table"),
    ("CREATE DOMAIN d AS int", None),
    ("CREATE FOREIGN TABLE pg_temp.t () SERVER s", "temp_table"),
    ("SELECT * INTO TEMP t FROM u", "temp_table"),
    ("EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", "temp_table"),
    ("EXPLAIN CREATE TEMP TABLE t AS SELECT 1", None),
    ("CREATE TABLE t (a int)", None),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "with_hold"),
    ("DECLARE c SCROLL CURSOR FOR SELECT 1", None),
    ("PREPARE p AS SELECT 1", "prepare"),
    ("LOAD 'x'", "load"),
    ("LISTEN x", "listen"),
    ("UNLISTEN x", None),
]


@pytest.mark.parametrize(("text", "pin"), PINS)
def test_pins(text: str, pin: str | None) -> None:
    facts = analyse(text)
    assert facts.pins == (frozenset() if pin is None else {pin})
    assert facts.temp is (pin == "temp_table")


NOT_IN_BLOCK = [
    "VACUUM",
    "VACUUM (FULL) t",
    "CREATE DATABASE d",
    "DROP DATABASE d",
    "CREATE TABLESPACE s LOCATION '/x'",
    "DROP TABLESPACE s",
    "CREATE INDEX CONCURRENTLY i ON t (a)",
    "DROP INDEX CONCURRENTLY i",
    "REINDEX TABLE CONCURRENTLY t",
    "REINDEX (CONCURRENTLY) INDEX i",
    "REINDEX DATABASE d",
    "REINDEX SYSTEM d",
    "REINDEX SCHEMA s",
    "ALTER SYSTEM RESET ALL",
    "ALTER DATABASE d SET TABLESPACE s",
    "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
    "CLUSTER",
    "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p",
    "ALTER SUBSCRIPTION s REFRESH PUBLICATION",
    "DISCARD ALL",
    "COMMIT PREPARED 'g'",
]
IN_BLOCK = [
    "ANALYZE t",
    "CLUSTER t",
    "REINDEX TABLE t",
    "REINDEX (CONCURRENTLY false) TABLE t",
    "CREATE INDEX i ON t (a)",
    "ALTER TABLE t DETACH PARTITION p",
    "ALTER SUBSCRIPTION s ENABLE",
    "ALTER DATABASE d SET work_mem = 1",
    "DISCARD PLANS",
    "CHECKPOINT",
    "PREPARE TRANSACTION 'g'",
]


@pytest.mark.parametrize(
    ("text", "expected"), [(text, False) for text in NOT_IN_BLOCK] + [(text, True) for text in IN_BLOCK]
)
def test_in_block(text: str, expected: bool) -> None:
    assert analyse(text).in_block is expected


VERBS = [
    ("TABLE t", Kind.SELECT, "SELECT"),
    ("SELECT 1 INTO t", Kind.DDL, "SELECT INTO"),
    ("CREATE TABLE t AS SELECT 1", Kind.DDL, "CREATE TABLE AS"),
    ("CREATE MATERIALIZED VIEW t AS SELECT 1", Kind.DDL, "CREATE MATERIALIZED VIEW"),
    ("CREATE UNIQUE INDEX ON t (a)", Kind.DDL, "CREATE INDEX"),
    ("DROP MATERIALIZED VIEW t", Kind.DDL, "DROP MATERIALIZED VIEW"),
    ("DROP TABLE t", Kind.DDL, "DROP TABLE"),
    ("ALTER TABLE t RENAME TO u", Kind.DDL, "ALTER TABLE"),
    ("ALTER TABLE t RENAME COLUMN a TO b", Kind.DDL, "ALTER TABLE"),
    ("ALTER VIEW v OWNER TO r", Kind.DDL, "ALTER VIEW"),
    ("GRANT SELECT ON t TO r", Kind.DDL, "GRANT"),
    ("REVOKE r FROM s", Kind.DDL, "REVOKE ROLE"),
    ("CREATE EXTENSION x", Kind.DDL, "CREATE EXTENSION"),
    ("CREATE POLICY p ON t", Kind.DDL, "CREATE POLICY"),
    ("CREATE TRIGGER t AFTER INSERT ON t EXECUTE FUNCTION f()", Kind.DDL, "CREATE TRIGGER"),
    ("CREATE AGGREGATE a (int) (sfunc = f, stype = int)", Kind.DDL, "CREATE AGGREGATE"),
    ("DROP OWNED BY r", Kind.DDL, "DROP OWNED"),
    ("COMMENT ON TABLE t IS 'x'", Kind.DDL, "COMMENT"),
    ("VACUUM", Kind.MAINTENANCE, "VACUUM"),
    ("ANALYZE", Kind.MAINTENANCE, "ANALYZE"),
    ("RESET ALL", Kind.SET, "RESET"),
    ("DISCARD TEMP", Kind.DISCARD, "DISCARD TEMP"),
    ("MOVE 1 FROM c", Kind.FETCH, "MOVE"),
    ("START TRANSACTION", Kind.TRANSACTION, "START TRANSACTION"),
    ("ROLLBACK TO a", Kind.TRANSACTION, "ROLLBACK"),
    ("NOTIFY x", Kind.NOTIFY, "NOTIFY"),
    ("SHOW ALL", Kind.SHOW, "SHOW"),
]


@pytest.mark.parametrize(("text", "kind", "verb"), VERBS)
def test_kind_and_verb(text: str, kind: Kind, verb: str) -> None:
    facts = analyse(text)
    assert (facts.kind, facts.verb) == (kind, verb)
