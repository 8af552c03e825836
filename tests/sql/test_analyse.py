"""The facts of a text, one row per fact; each row names what goes wrong without it (hazards/cache.md by number)."""

from __future__ import annotations

import dataclasses

import pytest

from heliosproxy.errors import StatementRejected
from heliosproxy.sql.analyse import analyse, fingerprint
from heliosproxy.sql.statement import Function, Kind, Relation, Statement
from heliosproxy.sql.tree import _Draft


def rels(*names: str) -> frozenset[Relation]:
    return frozenset(Relation(*(n.split(".") if "." in n else (None, n))) for n in names)


def funcs(*names: str) -> frozenset[Function]:
    return frozenset(
        Function(*(n.rsplit(".", 1) if n[:1].isalpha() and "." in n else (None, n))) for n in names
    )


READS = [
    ("scope: a CTE hides the table", "WITH t AS (SELECT 1) SELECT * FROM t", ()),
    ("scope: not recursive, so it reads the table", "WITH t AS (SELECT * FROM t) SELECT * FROM t", ("t",)),
    ("scope: recursive", "WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT * FROM t) SELECT * FROM t", ()),
    ("scope: a later CTE is not defined yet", "WITH a AS (SELECT * FROM b), b AS (SELECT 1) TABLE a", ("b",)),
    ("scope: recursive sees later ones", "WITH RECURSIVE a AS (TABLE b), b AS (SELECT 1) TABLE a", ()),
    ("scope: ends with its query", "SELECT * FROM (WITH t AS (SELECT 1) TABLE t) x, t", ("t",)),
    ("scope: nested sees outer", "WITH t AS (SELECT 1) SELECT (SELECT 1 FROM (TABLE t) x)", ()),
    ("scope: a schema names a table", "WITH t AS (SELECT 1) SELECT * FROM t, s.t", ("s.t",)),
    ("scope: arm of a union", "(WITH t AS (SELECT 1) TABLE t) UNION TABLE t", ("t",)),
    ("scope: over both arms", "WITH t AS (SELECT 1) TABLE t UNION TABLE t", ()),
    ("scope: quoted case", 'WITH t AS (SELECT 1) SELECT * FROM "T"', ("T",)),
    (
        "6: sublinks anywhere",
        "SELECT (TABLE a) FROM b WHERE x IN (TABLE c) ORDER BY (TABLE d)",
        ("a", "b", "c", "d"),
    ),
    (
        "6: joins, laterals",
        "SELECT 1 FROM a JOIN b USING (x) LEFT JOIN LATERAL (TABLE c) y ON true",
        ("a", "b", "c"),
    ),
    ("DELETE USING", "DELETE FROM a USING b WHERE a.x = b.x", ("a", "b")),
    ("UPDATE FROM", "UPDATE a SET x = (SELECT 1 FROM c) FROM b", ("a", "b", "c")),
    (
        "INSERT SELECT",
        "INSERT INTO a SELECT * FROM b ON CONFLICT DO UPDATE SET x = (SELECT 1 FROM c)",
        ("b", "c"),
    ),
    ("MERGE", "MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN DELETE", ("a", "b")),
    ("FOR UPDATE OF is an alias", "SELECT * FROM a AS b FOR UPDATE OF b", ("a",)),
    ("COPY TO", "COPY a TO STDOUT", ("a",)),
    ("COPY query", "COPY (TABLE a) TO STDOUT", ("a",)),
    ("EXPLAIN", "EXPLAIN SELECT * FROM a", ("a",)),
    ("DECLARE", "DECLARE c CURSOR FOR SELECT * FROM a", ("a",)),
    ("LOCK", "LOCK TABLE a, b", ("a", "b")),
    (
        "FROM ONLY, TABLESAMPLE, functions",
        "SELECT * FROM ONLY a, b TABLESAMPLE system (1), f((TABLE c))",
        ("a", "b", "c"),
    ),
    (
        "window, filter",
        "SELECT count(*) FILTER (WHERE x IN (TABLE b)) OVER (ORDER BY (TABLE c)) FROM a",
        ("a", "b", "c"),
    ),
    ("catalogue name is dropped", "SELECT * FROM d.s.t", ("s.t",)),
]


@pytest.mark.parametrize(("why", "text", "names"), READS, ids=[row[0] for row in READS])
def test_reads(why: str, text: str, names: tuple[str, ...]) -> None:
    assert analyse(text).reads == rels(*names)


WRITES = [
    ("4: INSERT", "INSERT INTO a VALUES (1)", ("a",)),
    ("4: DML in a CTE", "WITH x AS (DELETE FROM a RETURNING *) SELECT * FROM x", ("a",)),
    (
        "4: a target is never a CTE",
        "WITH t AS (INSERT INTO t VALUES (1) RETURNING *) INSERT INTO t TABLE t",
        ("t",),
    ),
    ("4: MERGE", "MERGE INTO s.a USING b ON true WHEN MATCHED THEN DELETE", ("s.a",)),
    ("4: SELECT INTO", "SELECT * INTO a FROM b", ("a",)),
    ("4: CREATE TABLE AS", "CREATE TABLE a AS TABLE b", ("a",)),
    ("4: COPY FROM", "COPY a FROM STDIN", ("a",)),
    ("4: COPY of DML", "COPY (DELETE FROM a RETURNING *) TO STDOUT", ("a",)),
    ("4: EXPLAIN ANALYZE", "EXPLAIN (VERBOSE, ANALYZE) UPDATE a SET x = 1", ("a",)),
    ("4: EXPLAIN ANALYZE, last option", "EXPLAIN (ANALYZE off, ANALYZE 1) DELETE FROM a", ("a",)),
    ("4: EXPLAIN does not run", "EXPLAIN DELETE FROM a", ()),
    ("4: EXPLAIN (ANALYZE false) does not run", "EXPLAIN (ANALYZE false) DELETE FROM a", ()),
    ("8: TRUNCATE", "TRUNCATE a, s.b CASCADE", ("a", "s.b")),
    ("10: REFRESH", "REFRESH MATERIALIZED VIEW CONCURRENTLY a", ("a",)),
    ("PREPARE does not run", "PREPARE p AS DELETE FROM a", ()),
    ("a rule's action does not run", "CREATE RULE r AS ON INSERT TO a DO DELETE FROM b", ()),
]


@pytest.mark.parametrize(("why", "text", "names"), WRITES, ids=[row[0] for row in WRITES])
def test_writes(why: str, text: str, names: tuple[str, ...]) -> None:
    assert analyse(text).writes == rels(*names)


@pytest.mark.parametrize(
    "text",
    [
        "DO $$BEGIN END$$",
        "CALL f(1)",
        "EXECUTE p",
        "selct 1",
        "CREATE TABLE t AS EXECUTE p",
        "EXPLAIN ANALYZE EXECUTE p",
        "EXPLAIN ANALYZE SELECT 1 INTO t",
    ],
)
def test_4_writes_anything(text: str) -> None:
    assert analyse(text).writes_anything


FUNCTIONS = [
    ("SELECT f(x), s.g(1), count(*) OVER () FROM h(1)", ("f", "s.g", "count", "h")),
    (
        "SELECT current_date, localtime(2), session_user",
        ("pg_catalog.current_date", "pg_catalog.localtime", "pg_catalog.session_user"),
    ),
    ("SELECT extract(year FROM x), x AT TIME ZONE 'z'", ("pg_catalog.extract", "pg_catalog.timezone")),
    ("INSERT INTO t VALUES (nextval('s'))", ("nextval",)),
    ("CALL p(f(1))", ("p", "f")),
    ("EXECUTE x(f(1))", ("f",)),
    ("DECLARE c CURSOR FOR SELECT f(1)", ("f",)),
]


@pytest.mark.parametrize(("text", "names"), FUNCTIONS)
def test_1_functions(text: str, names: tuple[str, ...]) -> None:
    assert analyse(text).functions == funcs(*names)


OPERATORS = [
    ("SELECT a + b * -c", ("+", "*", "-")),
    ("SELECT a OPERATOR(s.+) b", ("s.+",)),
    ("SELECT a IN (1), b NOT IN (2)", ("=", "<>")),
    ("SELECT a IN (TABLE t)", ("=",)),
    ("SELECT a > ALL (TABLE t)", (">",)),
    ("SELECT a LIKE 'x', b NOT ILIKE 'y', c SIMILAR TO 'z'", ("~~", "!~~*", "~")),
    ("SELECT a BETWEEN 1 AND 2", (">=", "<=")),
    ("SELECT a NOT BETWEEN SYMMETRIC 1 AND 2", ("<", ">")),
    ("SELECT a <@ ANY ($1)", ("<@",)),
    ("SELECT CASE a WHEN 1 THEN 2 END", ("=",)),
    ("SELECT CASE WHEN a THEN 2 END", ()),
    ("SELECT 1 FROM a JOIN b USING (x)", ("=",)),
    ("SELECT 1 FROM a NATURAL JOIN b", ("=",)),
    ("SELECT 1 FROM a ORDER BY x USING OPERATOR(s.<)", ("s.<",)),
    ("SELECT a IS DISTINCT FROM b, nullif(a, b)", ("=",)),
]


@pytest.mark.parametrize(("text", "names"), OPERATORS)
def test_1_operators(text: str, names: tuple[str, ...]) -> None:
    expected = frozenset(Function(*(n.split(".") if n.startswith("s.") else (None, n))) for n in names)
    assert analyse(text).operators == expected


CLOCK = [
    ("SELECT CURRENT_DATE", True),
    ("SELECT LOCALTIMESTAMP(3)", True),
    ("SELECT CURRENT_USER", False),
    ("SELECT * FROM t WHERE d = 'today'", True),
    ("SELECT * FROM t WHERE d = ' ToDay 04:00'", True),
    ("SELECT 'today12:00'::timestamp", True),
    ("SELECT date 'yesterday'", True),
    ("SELECT '[now,)'::tsrange", True),
    (r"SELECT '{n\ow}'::timestamp[]", True),
    ("""SELECT '(n"o"w)'::rec""", True),
    ("SELECT 'known', 'nowhere', 'mañana', now FROM today", False),
    ("SELECT U&'n\\006fw'::date", True),
    ("INSERT INTO t VALUES (1, $$tomorrow$$)", True),
]


@pytest.mark.parametrize(("text", "clock"), CLOCK)
def test_2_clock(text: str, clock: bool) -> None:
    assert analyse(text).clock is clock


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("SELECT 't'::regclass, CAST(x AS s.RegProc)", {"regclass", "regproc"}),
        ("SELECT * FROM json_to_record('{}') AS x(a regclass)", {"regclass"}),
        ("SELECT '{t}'::regclass[]", {"regclass"}),
        ("SELECT * FROM json_table('[]', '$' COLUMNS (a regclass PATH '$'))", {"regclass"}),
    ],
)
def test_2_types_that_depend_on_the_search_path(text: str, types: set[str]) -> None:
    assert types <= analyse(text).type_casts


FLAGS = [
    ("13: row locks", "SELECT * FROM a WHERE x IN (SELECT 1 FROM b FOR KEY SHARE)", "row_locks", True),
    ("13: tablesample", "SELECT * FROM (SELECT * FROM t TABLESAMPLE bernoulli (1)) x", "tablesample", True),
    ("14: limit", "SELECT * FROM t LIMIT 1", "unordered_limit", True),
    ("14: offset", "SELECT * FROM t OFFSET $1", "unordered_limit", True),
    ("14: fetch", "SELECT * FROM t FETCH FIRST ROW ONLY", "unordered_limit", True),
    ("14: ordered", "SELECT * FROM t ORDER BY 1 LIMIT 1", "unordered_limit", False),
    ("14: inner", "SELECT * FROM (SELECT * FROM t LIMIT 1) x ORDER BY 1 LIMIT 1", "unordered_limit", True),
    ("14: arm", "(SELECT * FROM t LIMIT 1) UNION TABLE u", "unordered_limit", True),
    ("14: with a CTE", "WITH a AS (SELECT 1) SELECT * FROM t LIMIT 1", "unordered_limit", True),
    ("14: LIMIT ALL is none", "SELECT * FROM t LIMIT ALL", "unordered_limit", False),
    ("14: DISTINCT ON", "SELECT DISTINCT ON (a) a, b FROM t", "unordered_limit", True),
    ("14: DISTINCT", "SELECT DISTINCT a FROM t", "unordered_limit", False),
    ("15: several", "SELECT 1; SELECT 2", "simple_only", True),
    ("15: a portal", "FETCH 3 FROM c", "portal", "c"),
    ("15: a portal closed", "CLOSE c", "portal", "c"),
    ("parameters", "SELECT $2 FROM t WHERE x = $10", "parameters", 10),
    ("parameters of PREPARE are its own", "PREPARE p(int) AS SELECT $3", "parameters", 0),
    ("rows", "INSERT INTO t VALUES (1) RETURNING *", "returns_rows", True),
    ("rows with a CTE", "WITH a AS (SELECT 1) DELETE FROM t RETURNING *", "returns_rows", True),
    ("no rows", "UPDATE t SET x = 1", "returns_rows", False),
    ("no rows of MOVE", "MOVE 3 FROM c", "returns_rows", False),
    ("rows of VALUES", "VALUES (1)", "returns_rows", True),
]


@pytest.mark.parametrize(("why", "text", "fact", "value"), FLAGS, ids=[row[0] for row in FLAGS])
def test_flags(why: str, text: str, fact: str, value: object) -> None:
    assert getattr(analyse(text), fact) == value


def test_hints_come_from_comments_alone() -> None:
    text = "/* helios:cache=off ttl=5s */ SELECT 'x /* helios:cache=on */', $$/* helios:a=b */$$ -- helios:ttl=6s"
    assert analyse(text).hints == {"cache": "off", "ttl": "6s"}
    assert analyse("SELECT 1 /* see helios:cache=off */").hints == {}


@pytest.mark.parametrize("text", ["", "  ", ";;", "-- helios:x=1", "/* a /* b */ */;"])
def test_empty(text: str) -> None:
    assert analyse(text).kind is Kind.EMPTY


def test_parts_are_spliced_by_bytes() -> None:
    facts = analyse("SELECT 'äöü€'; INSERT INTO ü VALUES ('𝄞') ;; /* ß */ SELECT now() -- é")
    assert facts.kind is Kind.MULTI
    assert [part.text for part in facts.parts] == [
        "SELECT 'äöü€'",
        "INSERT INTO ü VALUES ('𝄞')",
        "SELECT now() -- é",
    ]
    assert facts.writes == rels("ü")
    assert facts.functions == funcs("now")


def test_several_cannot_be_in_a_block_when_one_cannot() -> None:
    assert not analyse("SELECT 1; VACUUM").in_block


@pytest.mark.parametrize("text", ["SELECT 1\0; DROP TABLE t", "\0"])
def test_what_no_server_takes_is_rejected(text: str) -> None:
    with pytest.raises(StatementRejected) as caught:
        analyse(text)
    assert caught.value.sqlstate == "22021"


def test_bytes_outside_the_encoding_are_the_servers_to_judge() -> None:
    facts = analyse(b"SELECT '\xff'".decode("utf-8", "surrogateescape"))
    assert (facts.kind, facts.error, facts.writes_anything) == (Kind.UNCLASSIFIED, "encoding", True)
    assert facts.pins == {"unclassified"}


def test_a_syntax_error_may_do_anything_but_does_not_pin() -> None:
    facts = analyse("SELECT FROM WHERE")
    assert (facts.kind, facts.error, facts.writes_anything) == (Kind.UNCLASSIFIED, "syntax", True)
    assert facts.pins == frozenset()
    assert facts.cost > 0


def test_a_draft_fills_every_slot() -> None:
    assert _Draft.__slots__ == Statement.__slots__
    for text in ("SELECT 1", "DROP TABLE t", "BEGIN", "CLOSE c"):
        facts = analyse(text)
        assert type(facts) is Statement
        assert facts == dataclasses.replace(facts)  # reads every field


def test_fingerprint_is_for_statistics() -> None:
    assert fingerprint("SELECT a FROM t WHERE x = 1") == fingerprint("select a from t where x = 2")
    assert fingerprint("selct") is None
