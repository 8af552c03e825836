"""The catalogue snapshot on a real server: names, reads and the closure of writes (rows 5-7, 10-12, 18)."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from heliosproxy.sql.catalog import Catalog
from heliosproxy.sql.catalog_facts import DELETE, EVERYTHING, INSERT, TRUNCATE, UPDATE, Everything
from heliosproxy.sql.catalog_load import load, probe
from heliosproxy.sql.statement import Function, Relation

SCHEMA = """
CREATE ROLE no_usage; CREATE ROLE by_group; CREATE ROLE readers; GRANT readers TO by_group;
CREATE ROLE reads_all; GRANT pg_read_all_data TO reads_all;
CREATE SCHEMA app; CREATE SCHEMA "Mixed"; CREATE SCHEMA by_group; GRANT USAGE ON SCHEMA app TO readers;
CREATE TABLE plain (id int PRIMARY KEY, name text, at date);
CREATE TABLE app.plain (id int);
CREATE TABLE log (id int); CREATE TABLE other (id int);
CREATE VIEW v1 AS SELECT id, name FROM plain;
CREATE VIEW v2 AS SELECT v1.id FROM v1 JOIN log USING (id);
CREATE VIEW on_system AS SELECT relname FROM pg_class;
CREATE VIEW barrier WITH (security_barrier) AS SELECT id FROM plain;
CREATE MATERIALIZED VIEW matview AS SELECT id FROM plain;
CREATE VIEW on_matview AS SELECT id FROM matview;
CREATE UNLOGGED TABLE unlogged (id int);
CREATE SEQUENCE counter;
CREATE TABLE secured (id int); ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
CREATE TABLE parted (id int, at date) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
CREATE TABLE part_1_1 PARTITION OF part_1 FOR VALUES FROM (0) TO (5);
CREATE TABLE part_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
CREATE TABLE base (id int); CREATE TABLE derived () INHERITS (base);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE grandchild (child int REFERENCES child ON DELETE SET NULL);
CREATE TABLE watcher (parent int REFERENCES parent);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE was text := lower(NEW.name);
    BEGIN NEW.at := now(); NEW.name = was || 'x'; IF NEW.id > 3 THEN RAISE NOTICE '%', NEW.id; END IF;
    RETURN NEW; END $$;
CREATE TABLE touched (id int, name text, at date);
CREATE TRIGGER t BEFORE INSERT OR UPDATE ON touched FOR EACH ROW EXECUTE FUNCTION touch();
CREATE FUNCTION helper(int) RETURNS void LANGUAGE sql AS 'INSERT INTO other VALUES ($1)';
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO log VALUES (OLD.id); PERFORM helper(OLD.id); RETURN NULL; END $$;
CREATE TABLE audited (id int);
CREATE TRIGGER t AFTER DELETE ON audited FOR EACH ROW EXECUTE FUNCTION audit();
CREATE FUNCTION dynamic() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN EXECUTE format('INSERT INTO %I VALUES (1)', TG_ARGV[0]); RETURN NULL; END $$;
CREATE TABLE wild (id int);
CREATE TRIGGER t AFTER UPDATE ON wild FOR EACH ROW EXECUTE FUNCTION dynamic('log');
CREATE TABLE tamed (id int);
CREATE TRIGGER t AFTER UPDATE ON tamed FOR EACH ROW EXECUTE FUNCTION dynamic('log');
ALTER TABLE tamed DISABLE TRIGGER t;
CREATE TRIGGER t AFTER INSERT ON parted FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TABLE ruled (id int);
CREATE RULE r AS ON INSERT TO ruled DO ALSO INSERT INTO other SELECT id FROM plain;
CREATE VIEW hooked AS SELECT id FROM plain;
CREATE TRIGGER t INSTEAD OF INSERT ON hooked FOR EACH ROW EXECUTE FUNCTION dynamic('log');
CREATE FUNCTION stamp() RETURNS int LANGUAGE sql BEGIN ATOMIC INSERT INTO log VALUES (1); SELECT 1; END;
CREATE TABLE defaulted (id int DEFAULT stamp());
CREATE FUNCTION short(int) RETURNS int LANGUAGE sql RETURN $1 + 1;
CREATE TABLE checked (id int CHECK (short(id) > 0));
CREATE OPERATOR === (leftarg = int, rightarg = int, function = int4eq);
CREATE FUNCTION cmp(int, text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN true; END';
CREATE OPERATOR = (leftarg = int, rightarg = text, function = cmp);
"""
PATH = ("public",)


@pytest.fixture(scope="module")
def conn(dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA)
        yield connection
        connection.execute("DROP OWNED BY readers, reads_all")
        connection.execute("DROP ROLE no_usage, by_group, readers, reads_all")


@pytest.fixture(scope="module")
def catalog(conn: psycopg.Connection) -> Catalog:
    return load(conn, epoch=7)


def oid(catalog: Catalog, name: str) -> int:
    found = catalog.resolve(Relation(None, name), PATH)
    assert found is not None
    return found


def names(catalog: Catalog, oids: frozenset[int] | Everything) -> set[str]:
    assert not isinstance(oids, Everything)
    return {catalog.rows.tables[one].name for one in oids}


def test_says_what_it_is_a_snapshot_of(conn: psycopg.Connection, catalog: Catalog) -> None:
    row = conn.execute(
        "SELECT d.oid, system_identifier::text FROM pg_database d, pg_control_system()"
        " WHERE datname = current_database()"
    ).fetchone()
    assert (catalog.database_oid, catalog.system_identifier) == row
    assert catalog.epoch == 7
    assert catalog.server_version >= 130000


@pytest.mark.parametrize(
    ("setting", "user"),
    [
        ('"$user", public', "postgres"),
        ('"$user", public', "by_group"),
        ("app, public, app", "no_usage"),
        ("app, public", "by_group"),
        ("app, public", "reads_all"),
        ('"Mixed", PUBLIC , nowhere', "postgres"),
        ("mixed", "postgres"),
        ("public, pg_catalog", "no_usage"),
        ('""', "postgres"),
    ],
)
def test_search_path_is_that_of_the_server(
    conn: psycopg.Connection, catalog: Catalog, setting: str, user: str
) -> None:
    with conn.transaction(force_rollback=True):
        conn.execute("SELECT set_config('search_path', %s, true)", (setting,))
        conn.execute(f"SET LOCAL ROLE {user}")
        row = conn.execute("SELECT current_schemas(false)::text[]").fetchone()
        assert row is not None
        assert list(catalog.search_path(setting, user)) == row[0]


def test_resolves_as_the_server_does(catalog: Catalog) -> None:
    assert catalog.relation_name(oid(catalog, "plain")) == ("public", "plain")
    first = catalog.resolve(Relation(None, "plain"), ("app", "public"))
    assert first is not None
    assert catalog.relation_name(first) == ("app", "plain")
    assert catalog.resolve(Relation("app", "plain"), ()) == first
    assert catalog.resolve(Relation(None, "pg_class"), PATH) == 1259
    assert catalog.resolve(Relation(None, "nowhere"), PATH) is None
    assert catalog.resolve(Relation(None, "plain"), ()) is None
    assert catalog.relations_named("plain") == {first, oid(catalog, "plain")}
    assert catalog.relations_named("app.plain") == {first}
    assert catalog.relation_name(1) is None


@pytest.mark.parametrize(
    ("name", "reads", "reasons"),
    [
        ("plain", {"plain"}, set()),
        ("v2", {"v2", "v1", "plain", "log"}, set()),
        ("on_system", {"on_system", "pg_class"}, {"system"}),
        ("barrier", {"barrier", "plain"}, {"security_barrier"}),
        ("matview", {"matview"}, {"materialised_view"}),
        ("on_matview", {"on_matview", "matview"}, {"materialised_view"}),
        ("unlogged", {"unlogged"}, {"unlogged"}),
        ("counter", {"counter"}, {"sequence"}),
        ("secured", {"secured"}, {"row_security"}),
        ("parted", {"parted"}, set()),
    ],
)
def test_reads(catalog: Catalog, name: str, reads: set[str], reasons: set[str]) -> None:
    base = catalog.reads([oid(catalog, name)])
    assert names(catalog, base.oids) == reads
    assert base.reasons == reasons


def test_reads_of_the_unknown(catalog: Catalog) -> None:
    assert catalog.reads([4]).reasons == {"unknown_relation"}


@pytest.mark.parametrize(
    ("name", "ops", "writes"),
    [
        ("plain", INSERT, {"plain"}),
        ("parted", TRUNCATE, {"parted", "part_1", "part_1_1", "part_2"}),
        ("part_1_1", DELETE, {"parted", "part_1", "part_1_1"}),
        ("derived", DELETE, {"derived", "base"}),
        ("base", UPDATE, {"derived", "base"}),
        ("parent", INSERT, {"parent"}),
        ("parent", DELETE, {"parent", "child", "grandchild"}),
        ("parent", UPDATE, {"parent", "child"}),
        ("parent", TRUNCATE, {"parent", "child", "grandchild", "watcher"}),
        ("child", DELETE, {"child", "grandchild"}),
        ("touched", INSERT | UPDATE, {"touched"}),
        ("audited", INSERT, {"audited"}),
        ("audited", DELETE, {"audited", "log", "other"}),
        ("wild", INSERT, {"wild"}),
        ("wild", UPDATE, None),
        ("tamed", UPDATE, {"tamed"}),
        ("part_2", INSERT, {"parted", "part_2", "log", "other"}),
        ("ruled", DELETE, {"ruled"}),
        ("ruled", INSERT, {"ruled", "other", "plain"}),
        ("v1", UPDATE, {"v1", "plain"}),
        ("hooked", INSERT, None),
        ("hooked", DELETE, {"hooked", "plain"}),
        ("defaulted", INSERT, {"defaulted", "log"}),
        ("checked", INSERT, {"checked"}),
    ],
)
def test_writes(catalog: Catalog, name: str, ops: int, writes: set[str] | None) -> None:
    found = catalog.writes([oid(catalog, name)], ops)
    if writes is None:
        assert found is EVERYTHING
    else:
        assert names(catalog, found) == writes


def test_writes_of_the_unknown(catalog: Catalog) -> None:
    assert catalog.writes([4]) is EVERYTHING


def test_family_goes_up_and_down_without_triggers(catalog: Catalog) -> None:
    assert names(catalog, catalog.family([oid(catalog, "part_1")])) == {"parted", "part_1", "part_1_1"}
    assert names(catalog, catalog.family([oid(catalog, "wild")])) == {"wild"}


def test_functions_by_their_worst_overload(catalog: Catalog) -> None:
    assert catalog.functions(Function(None, "lower"), PATH).builtin == "i"
    assert catalog.functions(Function(None, "age"), PATH).builtin == "s"
    assert catalog.functions(Function("pg_catalog", "random"), PATH).builtin == "v"
    assert [f.language for f in catalog.functions(Function(None, "helper"), PATH).user] == ["sql"]
    assert catalog.functions(Function(None, "helper"), ("app",)) == (None, ())
    assert catalog.functions(Function("app", "lower"), PATH) == (None, ())


def test_operators_of_other_schemas(catalog: Catalog) -> None:
    assert catalog.operator_is_foreign(Function(None, "="), PATH)
    assert not catalog.operator_is_foreign(Function(None, "="), ("app",))
    assert not catalog.operator_is_foreign(Function("pg_catalog", "="), PATH)
    assert not catalog.operator_is_foreign(Function(None, "==="), PATH)  # by PostgreSQL's own function
    assert not catalog.operator_is_foreign(Function(None, "<"), PATH)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE extra (id int)",
        "ALTER TABLE plain RENAME COLUMN name TO label",
        "ALTER TABLE plain DROP COLUMN name CASCADE",
        "CREATE OR REPLACE VIEW v1 AS SELECT id, upper(name) AS name FROM plain",
        "CREATE OR REPLACE FUNCTION helper(int) RETURNS void LANGUAGE sql AS 'SELECT NULL::void'",
        "GRANT SELECT ON plain TO readers",
        "GRANT SELECT (id) ON plain TO readers",
        "REVOKE readers FROM by_group",
        "ALTER ROLE readers BYPASSRLS",
        "ALTER TABLE parted DETACH PARTITION part_2",
        "ALTER TABLE wild DISABLE TRIGGER t",
        "CREATE POLICY p ON plain USING (true)",
        "ALTER ROLE readers SET work_mem = '1MB'",
        'DROP SCHEMA "Mixed"',
        "CREATE TYPE mood AS ENUM ('sad')",
        "ALTER TABLE watcher DROP CONSTRAINT watcher_parent_fkey",
        "CREATE TEMP VIEW shadow AS SELECT * FROM plain",
    ],
)
def test_fingerprint_moves_with(conn: psycopg.Connection, catalog: Catalog, change: str) -> None:
    before = probe(conn)
    with conn.transaction(force_rollback=True):
        conn.execute(change)
        assert probe(conn) != before
    assert probe(conn) == before == catalog.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO plain VALUES (1)",
        "ANALYZE",
        "CREATE TEMP TABLE scratch (id serial PRIMARY KEY, n int CHECK (n > 0))",
        "CREATE INDEX ON plain (name)",
    ],
)
def test_fingerprint_stays_with(conn: psycopg.Connection, change: str) -> None:
    before = probe(conn)
    with conn.transaction(force_rollback=True):
        conn.execute(change)
        assert probe(conn) == before


def test_a_plain_role_may_load(conn: psycopg.Connection, catalog: Catalog) -> None:
    conn.execute("SET ROLE no_usage")
    try:
        assert load(conn).fingerprint == catalog.fingerprint
    finally:
        conn.execute("RESET ROLE")
