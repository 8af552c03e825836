"""The judgement on statements, row by row of hazards/cache.md, on a real catalogue."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from heliosproxy.cache.functions import STABLE_BY_SETTINGS
from heliosproxy.cache.policy import Policy
from heliosproxy.cache.policy_verdict import Verdict
from heliosproxy.sql.analyse import analyse
from heliosproxy.sql.catalog import Catalog
from heliosproxy.sql.catalog_facts import EVERYTHING, Everything
from heliosproxy.sql.catalog_load import load

SCHEMA = """
CREATE SCHEMA app; CREATE SCHEMA ops;
CREATE TABLE t (id int PRIMARY KEY, name text, at timestamptz, day date, n numeric, doc jsonb, age int);
CREATE TABLE u (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE);
CREATE TABLE log (id int);
CREATE VIEW fine AS SELECT id, upper(name) AS name FROM t;
CREATE VIEW clocked AS SELECT id, now() AS at FROM t;
CREATE VIEW worded AS SELECT id FROM t WHERE day > ('to' || 'day')::text::date OR name = 'now';
CREATE VIEW nested AS SELECT * FROM clocked;
CREATE VIEW top AS SELECT id FROM t LIMIT 1;
CREATE MATERIALIZED VIEW mat AS SELECT id FROM t;
CREATE SEQUENCE seq;
CREATE TABLE secured (id int); ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION app.slug(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
CREATE FUNCTION app.writes() RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES (1) RETURNING id';
CREATE FUNCTION app.dynamic() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT 1'; END $$;
CREATE FUNCTION app.computed(t) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM u WHERE u.t = $1.id';
CREATE FUNCTION ops.plus(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE OPERATOR ops.+ (leftarg = int, rightarg = int, function = ops.plus);
CREATE DOMAIN future AS date CHECK (value > '2000-01-01');
CREATE FUNCTION app.lower(int) RETURNS text LANGUAGE sql AS $$ SELECT '' $$;
"""
PATH = ("public",)
WITH_APP = ("app", "public")
WITH_OPS = ("ops", "public")


@dataclass
class Rule:
    name: str
    enabled: bool = True


@pytest.fixture(scope="module")
def conn(dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA)
        yield connection


@pytest.fixture(scope="module")
def catalog(conn: psycopg.Connection) -> Catalog:
    return load(conn)


def judge(catalog: Catalog, text: str, path: tuple[str, ...] = PATH, policy: Policy | None = None) -> Verdict:
    return (policy or Policy()).judge(analyse(text), catalog, path)


def names(catalog: Catalog, verdict: Verdict) -> set[str]:
    assert not isinstance(verdict.writes, Everything)
    return {catalog.rows.tables[oid].name for oid in verdict.writes}


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM t WHERE id = $1",
        "TABLE t",
        "WITH x AS (SELECT id FROM t) SELECT count(*), max(x.id) FROM x JOIN u USING (id)",
        "SELECT to_char(at, 'YYYY'), date_trunc('day', at), extract(year FROM at) FROM t",
        "SELECT length(name), concat(name, id), format('%s', id), upper(trim(name)) FROM t",
        "SELECT json_agg(t), jsonb_build_object('a', id), row_to_json(t) FROM t GROUP BY id",
        "SELECT at AT TIME ZONE 'UTC', name LIKE 'a%', name ~ 'b', coalesce(name, 'x') FROM t",
        "SELECT id FROM t WHERE day BETWEEN '2020-01-01' AND '2021-01-01' AND id = ANY($1)",
        "SELECT id FROM t ORDER BY id LIMIT 3",
        "SELECT rank() OVER (ORDER BY id), t.age, t.name FROM t",
        "SELECT upper(x.name), x.age, t.age FROM t AS x JOIN t USING (id)",
        "SELECT (name).upper, doc ->> 'a', doc @> '{}' FROM t",
        "SELECT id, name FROM fine",
        "SELECT 'nowhere', 'knowledge' FROM t",
        "SELECT id::text, CAST(name AS int), at::date FROM t",
    ],
)
def test_cacheable(catalog: Catalog, text: str) -> None:
    verdict = judge(catalog, text)
    assert verdict.reason == ""
    assert verdict == Verdict(True, reads=verdict.reads)
    assert verdict.reads


@pytest.mark.parametrize(
    ("row", "text", "path", "reason"),
    [
        (1, "SELECT app.slug(name) FROM t", PATH, "user_function"),
        (1, "SELECT slug(name) FROM t", WITH_APP, "user_function"),
        (1, "SELECT lower(name) FROM t", WITH_APP, "user_function"),
        (1, "SELECT slug(name) FROM t", PATH, "unknown_function"),
        (1, "SELECT random() FROM t", PATH, "volatile_function"),
        (1, "SELECT pg_backend_pid() FROM t", PATH, "stable_function"),
        (1, "SELECT current_user FROM t", PATH, "stable_function"),
        (1, "SELECT age(at, at) FROM t", PATH, "stable_function"),
        (1, "SELECT id + 1 FROM t", WITH_OPS, "operator"),
        (1, "SELECT id OPERATOR(ops.+) 1 FROM t", PATH, "operator"),
        (1, "SELECT t.computed FROM t", PATH, "attribute_function"),
        (1, 'SELECT (t)/**/."computed" FROM t', PATH, "attribute_function"),
        (1, 'SELECT (t).U&"comp\\0075ted" FROM t', PATH, "attribute_function"),
        (1, "SELECT (0.1::float8).pg_sleep FROM t", PATH, "attribute_function"),
        (1, "SELECT g.age FROM t, generate_series($1::timestamptz, $2, $3) AS g", PATH, "attribute_function"),
        (1, "SELECT id FROM t WHERE day = '2020-01-01'::future", PATH, "domain_cast"),
        (2, "SELECT now() FROM t", PATH, "stable_function"),
        (2, "SELECT id FROM t WHERE day = CURRENT_DATE", PATH, "clock"),
        (2, "SELECT id FROM t WHERE day = 'today'", PATH, "clock"),
        (2, "SELECT id FROM t WHERE day = ' ToMorrow '", PATH, "clock"),
        (2, "SELECT 't'::regclass FROM t", PATH, "name_cast"),
        (2, "SELECT id FROM worded", PATH, "clock"),
        (3, "SELECT nextval('seq') FROM t", PATH, "volatile_function"),
        (3, "SELECT pg_notify('a', name) FROM t", PATH, "volatile_function"),
        (3, "SELECT set_config('a.b', name, false) FROM t", PATH, "setting"),
        (4, "WITH x AS (DELETE FROM u RETURNING id) SELECT * FROM x", PATH, "writes"),
        (4, "SELECT * INTO fresh FROM t", PATH, "not_select"),
        (4, "EXPLAIN SELECT * FROM t", PATH, "not_select"),
        (4, "UPDATE t SET id = 1 RETURNING id", PATH, "not_select"),
        (4, "SELEKT", PATH, "not_select"),
        (6, "SELECT * FROM clocked", PATH, "stable_function"),
        (6, "SELECT * FROM nested", PATH, "stable_function"),
        (6, "SELECT * FROM top", PATH, "unordered_limit"),
        (10, "SELECT * FROM mat", PATH, "materialised_view"),
        (10, "SELECT last_value FROM seq", PATH, "sequence"),
        (12, "SELECT relname FROM pg_class", PATH, "system"),
        (12, "SELECT * FROM pg_stat_activity", PATH, "system"),
        (12, "SELECT table_name FROM information_schema.tables", PATH, "system"),
        (13, "SELECT * FROM t FOR UPDATE", PATH, "locks"),
        (13, "SELECT * FROM t TABLESAMPLE system (10)", PATH, "tablesample"),
        (14, "SELECT * FROM t LIMIT 1", PATH, "unordered_limit"),
        (14, "SELECT DISTINCT ON (id) * FROM t", PATH, "unordered_limit"),
        (15, "SELECT * FROM t; SELECT * FROM u", PATH, "several_statements"),
        (15, "DECLARE c CURSOR FOR SELECT * FROM t", PATH, "not_select"),
        (18, "SELECT * FROM secured", PATH, "row_security"),
        (18, "SELECT current_setting('app.user') FROM t", PATH, "stable_function"),
        (0, "SELECT 1", PATH, "no_relation"),
        (0, "SELECT * FROM nowhere", PATH, "unknown_relation"),
        (0, "/* helios:cache=off */ SELECT * FROM t", PATH, "hint"),
    ],
)
def test_denied(catalog: Catalog, row: int, text: str, path: tuple[str, ...], reason: str) -> None:
    verdict = judge(catalog, text, path)
    assert (verdict.cacheable, verdict.reason) == (False, reason), f"row {row}"


@pytest.mark.parametrize(
    ("text", "writes"),
    [
        ("INSERT INTO t VALUES (1)", {"t"}),
        ("INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x'", {"t"}),
        ("DELETE FROM t", {"t", "u"}),
        ("WITH x AS (DELETE FROM t RETURNING id) INSERT INTO log SELECT id FROM x", {"t", "u", "log"}),
        ("TRUNCATE t CASCADE", {"t", "u"}),
        ("COPY t FROM STDIN", {"t"}),
        ("COPY t TO STDOUT", set()),
        ("MERGE INTO log USING t ON t.id = log.id WHEN MATCHED THEN DELETE", {"log"}),
        ("EXPLAIN ANALYZE DELETE FROM log", {"log"}),
        ("SELECT app.writes()", {"log"}),
        ("SELECT nextval('seq')", set()),
        ("UPDATE fine SET id = 2", {"fine", "t"}),
        ("REFRESH MATERIALIZED VIEW mat", {"mat"}),
        ("VACUUM t", set()),
        ("BEGIN", set()),
        ("SET TimeZone = 'UTC'", set()),
        ("CREATE TEMP TABLE x (id int)", set()),
        ("LOCK t", set()),
        ("CREATE TEMP TABLE x AS SELECT * FROM t WHERE name LIKE 'a'", set()),
        ("SELECT * INTO TEMP x FROM t WHERE name LIKE 'a'", set()),
    ],
)
def test_writes(catalog: Catalog, text: str, writes: set[str]) -> None:
    assert names(catalog, judge(catalog, text)) == writes


@pytest.mark.parametrize(
    ("text", "ddl", "opaque"),
    [
        ("DO 'BEGIN END'", True, True),
        ("CALL p()", True, True),
        ("EXECUTE x", True, True),
        ("SELEKT", True, True),
        ("SELECT app.dynamic()", True, True),
        ("SELECT query_to_xml('x', true, true, '')", True, True),
        ("DROP TABLE t", True, False),
        ("CREATE TABLE x AS SELECT 1", True, False),
        ("GRANT SELECT ON t TO PUBLIC", True, False),
        ("SELECT * INTO fresh FROM t", True, False),
        ("INSERT INTO nowhere VALUES (1)", False, False),
        ("COMMIT PREPARED 'x'", False, False),
        ("VACUUM FULL t", False, False),
        ("CREATE TEMP VIEW x AS SELECT * FROM t", True, False),
        ("DROP TABLE u; SELECT * FROM t", True, False),
        ("EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1", True, False),
    ],
)
def test_writes_everything(catalog: Catalog, text: str, ddl: bool, opaque: bool) -> None:
    verdict = judge(catalog, text)
    assert verdict.writes is EVERYTHING
    assert (verdict.ddl, verdict.opaque) == (ddl, opaque)


@pytest.mark.parametrize(
    ("text", "locks"),
    [
        ("SELECT * FROM t FOR SHARE", True),
        ("LOCK t", True),
        ("SELECT pg_advisory_xact_lock(1)", True),
        ("SELECT pg_try_advisory_lock(1)", True),
        ("SELECT pg_advisory_unlock(1)", False),
        ("SELECT * FROM t", False),
    ],
)
def test_locks(catalog: Catalog, text: str, locks: bool) -> None:
    assert judge(catalog, text).locks is locks


def test_options(catalog: Catalog) -> None:
    policy = Policy(["app.slug"], True, ["values", "(?i)big_report"], [Rule("public.u", False), Rule("t")])

    def reason(text: str, path: tuple[str, ...] = PATH) -> str:
        return judge(catalog, text, path, policy).reason

    assert reason("SELECT slug(name) FROM t", WITH_APP) == ""
    assert reason("SELECT app.writes() FROM t") == "user_function"
    assert reason("SELECT * FROM t LIMIT 1") == ""
    assert reason("SELECT * FROM t /* BIG_REPORT */") == "excluded"
    assert reason("SELECT * FROM u") == "table_disabled"
    assert judge(catalog, "SELECT * FROM t", policy=Policy(exclude_patterns=["select"])).reason == "excluded"
    assert judge(catalog, "SELECT selects FROM t", policy=Policy(exclude_patterns=["UPDATE"])).reason == ""
    # A name, or several words that begin no command, are expressions.
    for pattern in ("selects", "FROM t"):
        policy = Policy(exclude_patterns=[pattern])
        assert judge(catalog, "SELECT selects FROM t", policy=policy).reason == "excluded"


def test_sessions_with_temporary_tables(catalog: Catalog) -> None:
    policy = Policy()
    read = policy.judge(analyse("SELECT * FROM t"), catalog, PATH, True)
    assert (read.cacheable, read.reason) == (False, "temporary_tables")
    assert policy.judge(analyse("INSERT INTO scratch VALUES (1)"), catalog, PATH, True).writes == frozenset()
    assert policy.judge(analyse("INSERT INTO public.x VALUES (1)"), catalog, PATH, True).writes is EVERYTHING


def test_a_temporary_view_leads_elsewhere(conn: psycopg.Connection) -> None:
    conn.execute("CREATE TEMP VIEW shadow AS SELECT * FROM t")
    try:
        with_view = load(conn, epoch=1)
        assert Policy().judge(analyse("DELETE FROM shadow"), with_view, PATH, True).writes is EVERYTHING
    finally:
        conn.execute("DROP VIEW shadow")


def test_extensions_that_overload_built_in_names_leave_them_cacheable(conn: psycopg.Connection) -> None:
    available = conn.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'").fetchone()
    if available == (0,):
        pytest.skip("this server has no citext")
    conn.execute("CREATE EXTENSION citext")
    try:
        with_citext = load(conn, epoch=2)
        text = "SELECT max(name) FROM t WHERE id = 1 AND name LIKE 'a%' AND replace(name, 'a', 'b') ~ 'c'"
        assert judge(with_citext, text) == Verdict(True, reads=judge(with_citext, "TABLE t").reads)
    finally:
        conn.execute("DROP EXTENSION citext")


def test_the_memo_is_bounded_and_knows_what_it_depends_on(conn: psycopg.Connection, catalog: Catalog) -> None:
    policy = Policy(memo_size=10_000)
    for number in range(100):
        assert policy.judge(analyse(f"SELECT {number} FROM t"), catalog, PATH).cacheable
    assert len(policy._memo) < 25
    statement = analyse("SELECT slug(name) FROM t")
    assert policy.judge(statement, catalog, PATH).reason == "unknown_function"
    assert policy.judge(statement, catalog, WITH_APP).reason == "user_function"


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        (None, True),
        (b"2020-01-01", True),
        (b"knowledge", True),
        (b"today", False),
        ("Tomorrow 12:00", False),
        (b"today12:00", False),
        (b'{"n\\ow"}', False),
    ],
)
def test_parameters(value: bytes | str | None, allowed: bool) -> None:
    assert Policy().parameters_ok([b"1", value]) is allowed


def test_reviewed_functions_are_functions_of_postgresql(catalog: Catalog) -> None:
    """A name that no version has would be a slip; one that became volatile must go."""
    assert {name for name in STABLE_BY_SETTINGS if catalog.rows.builtins.get(name, "v") == "v"} <= {
        "date_add",  # since PostgreSQL 16
        "date_subtract",
    }


CHANGES = """
CREATE SCHEMA net; SET search_path = net;
CREATE TABLE a (id int PRIMARY KEY, n int DEFAULT 0);
CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE c (id serial, b int REFERENCES b ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE d (id int, n int);
CREATE TABLE e (id int, n int) PARTITION BY LIST (n);
CREATE TABLE e0 PARTITION OF e FOR VALUES IN (0); CREATE TABLE e1 PARTITION OF e DEFAULT;
CREATE TABLE f (id int); CREATE TABLE f1 () INHERITS (f);
CREATE TABLE g (id int);
CREATE VIEW av AS SELECT id, n FROM a WHERE n < 1000;
CREATE RULE r AS ON UPDATE TO d DO ALSO INSERT INTO f VALUES (OLD.id);
CREATE FUNCTION on_c() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'DELETE' THEN DELETE FROM d WHERE id = OLD.b; ELSE INSERT INTO d VALUES (NEW.b, 1); END IF;
    RETURN NULL; END $$;
CREATE TRIGGER t AFTER INSERT OR UPDATE OR DELETE ON c FOR EACH ROW EXECUTE FUNCTION on_c();
CREATE FUNCTION put(int) RETURNS void LANGUAGE sql AS 'INSERT INTO net.g VALUES ($1)';
CREATE FUNCTION on_e() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM put(1); RETURN NULL; END $$;
CREATE TRIGGER t AFTER DELETE ON e FOR EACH ROW EXECUTE FUNCTION on_e();
"""
TABLES = ("a", "b", "c", "d", "e", "e0", "e1", "f", "f1", "g")


def test_every_table_whose_content_changed_is_in_the_closure(dsn: str) -> None:
    chance = random.Random(17)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(CHANGES)
        catalog = load(conn)
        path = catalog.search_path("net", "postgres")
        contents = " UNION ALL ".join(
            f"SELECT '{t}', coalesce(string_agg({t}::text, ',' ORDER BY {t}::text), '') FROM {t}"
            for t in TABLES
        )
        before = dict(conn.execute(contents).fetchall())
        changed_more_than_named = 0
        for number in range(400):
            i, j = chance.randrange(9), chance.randrange(3)
            text = chance.choice(
                [
                    f"INSERT INTO a VALUES ({i}, {j}) ON CONFLICT (id) DO UPDATE SET n = a.n + 1",
                    f"INSERT INTO b SELECT {number} * 9 + id % 9, id FROM a WHERE n >= {j} AND id < 9",
                    f"INSERT INTO c (b) SELECT id FROM b WHERE a = {i}",
                    f"INSERT INTO e VALUES ({i}, {j})",
                    f"INSERT INTO f1 VALUES ({i})",
                    f"INSERT INTO av VALUES ({i + 100}, {j}) ON CONFLICT DO NOTHING",
                    f"UPDATE a SET id = {number + 1000} WHERE id = {i}",
                    f"UPDATE av SET n = n + 1 WHERE id = {i}",
                    f"UPDATE e SET n = {j} WHERE id = {i}",
                    f"UPDATE f SET id = id + 1 WHERE id = {i}",
                    f"UPDATE d SET n = n + 1 WHERE id % 9 = {i}",
                    f"DELETE FROM a WHERE id % 9 = {i}",
                    f"DELETE FROM b WHERE id % 9 = {i}",
                    f"DELETE FROM e0 WHERE id = {i}",
                    f"WITH x AS (DELETE FROM c WHERE id % 9 = {i} RETURNING id) INSERT INTO e SELECT id, {j} FROM x",
                    f"MERGE INTO a USING d ON a.id = d.id WHEN MATCHED AND a.n > {j} THEN DELETE",
                ]
            )
            verdict = Policy().judge(analyse(text), catalog, path)
            conn.execute(text)
            after = dict(conn.execute(contents).fetchall())
            changed = {table for table in TABLES if before[table] != after[table]}
            assert changed <= names(catalog, verdict), text
            changed_more_than_named += len(changed) > 1
            before = after
        assert changed_more_than_named > 50
