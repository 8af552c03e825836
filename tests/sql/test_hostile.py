"""Hostile input (hazards/input.md): bombs, in a process that they may kill, and arbitrary text."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosproxy.errors import StatementRejected
from heliosproxy.sql.analyse import analyse
from heliosproxy.sql.statement import Kind, Statement

BOMBS = {
    "plus": "'SELECT 1' + '+1' * 30_000",
    "plus, deep for us only": "'SELECT 1' + '+1' * 1_000",
    "union": "'SELECT 1' + ' UNION ALL SELECT 1' * 20_000",
    "parentheses": "'SELECT ' + '(' * 100_000 + '1' + ')' * 100_000",
    "not": "'SELECT ' + 'NOT ' * 9_000 + 'true'",
    "queries": "'SELECT ' + '(SELECT ' * 5_000 + '1' + ')' * 5_000",
    "functions": "'SELECT ' + 'f(' * 5_000 + '1' + ')' * 5_000",
    "casts": "'SELECT 1' + '::int' * 50_000",
    "joins": "'SELECT 1 FROM a' + ' CROSS JOIN a' * 30_000",
    "with": "'WITH a AS (' * 2_000 + 'SELECT 1' + ') SELECT 1' * 2_000",
    "case": "'SELECT ' + 'CASE WHEN 1 THEN ' * 3_000 + '1' + ' END' * 3_000",
    "nested comments": "'/*' * 500_000",
    "comments, not ended": "'/*+' * 500_000 + 'SELECT 1'",
    "operators": "'SELECT ' + '+-' * 500_000 + '1'",
    "long": "'SELECT ' + '1,' * 5_000_000 + '1'",
    "constants": "'SELECT ' + '1,' * 900_000 + '1'",
}
# A small stack, as musl and macOS give their threads, and little time: a bomb that is only slow stops an
# event loop.
DROP = """
import sys, threading, time
from heliosproxy.sql.analyse import analyse
text = {bomb}
def run():
    sys.setrecursionlimit(150)
    start = time.process_time()
    facts = analyse(text)
    print(facts.kind, facts.error, "unclassified" in facts.pins, time.process_time() - start < 10)
threading.stack_size(512 * 1024)
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""


def drop(bomb: str) -> list[str]:
    code = DROP.format(bomb=bomb)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_are_survived(bomb: str) -> None:
    kind, error, pinned, quick = drop(bomb)
    assert kind == Kind.UNCLASSIFIED
    assert error in ("too_deep", "too_long")
    assert (pinned, quick) == ("True", "True")


def test_as_deep_as_the_tree_allows_needs_no_stack() -> None:
    assert drop("'SELECT 1' + '+f(1)' * 400")[:2] == ["select", "None"]


def test_a_bulk_insert_is_still_read() -> None:
    text = "INSERT INTO t VALUES " + ", ".join(f"({i}, 'name {i}', now())" for i in range(5_000))
    assert {rel.name for rel in analyse(text).writes} == {"t"}


WORDS = [
    "SELECT",
    "FROM",
    "WHERE",
    "INSERT",
    "INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "DELETE",
    "WITH",
    "RECURSIVE",
    "AS",
    "(",
    ")",
    ",",
    ";",
    "*",
    "$1",
    "'x'",
    '"Q"',
    "t",
    "u",
    "a.b",
    "=",
    "+",
    "1",
    "set_config",
    "BEGIN",
    "COMMIT",
    "SAVEPOINT",
    "LIMIT",
    "ORDER",
    "BY",
    "FOR",
    "EXPLAIN",
    "ANALYZE",
    "COPY",
    "TO",
    "CREATE",
    "TEMP",
    "TABLE",
    "VIEW",
    "ON",
    "::",
    "regclass",
    "/*",
    "*/",
    "--",
    "$$",
    "E'\\n'",
    "RETURNING",
    "MERGE",
    "USING",
    "JOIN",
    "LOCAL",
    "ROLE",
    "RESET",
    "ALL",
    "ALTER",
    "DROP",
    "VACUUM",
    "DECLARE",
    "CURSOR",
]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)))
def test_nothing_but_a_refusal_is_raised(text: str) -> None:
    try:
        assert analyse(text).text == text
    except StatementRejected:
        assert "\0" in text


QUERIES = st.sampled_from(
    [
        "SELECT * FROM a WHERE x IN (SELECT y FROM s.b)",
        "SELECT f(x) FROM a JOIN c USING (id) LIMIT 3",
        "WITH q AS (SELECT * FROM a) SELECT * FROM q, b WHERE b.d = 'today'",
        "SELECT count(*) FROM a TABLESAMPLE system (1) GROUP BY x HAVING sum(y) > $2",
        "TABLE a UNION (SELECT * FROM b ORDER BY 1)",
        "VALUES (1, now()), (2, 'x'::regclass)",
    ]
)
CHANGES = st.sampled_from(
    [
        "INSERT INTO a SELECT * FROM b RETURNING *",
        "UPDATE a SET x = $1 WHERE y = current_date RETURNING x",
        "DELETE FROM a USING b WHERE a.x = b.x RETURNING *",
    ]
)
OTHERS = st.sampled_from(["SET x = 1", "BEGIN", "CREATE TEMP TABLE a (b int)", "LISTEN é", "SELECT 'ß€'"])


def same(left: Statement, right: Statement, *but: str) -> None:
    for name in Statement.__slots__:
        if name not in ("text", "cost", *but):
            assert getattr(left, name) == getattr(right, name), name


@given(st.one_of(QUERIES, CHANGES))
def test_a_cte_hides_nothing(query: str) -> None:
    bare, wrapped = analyse(query), analyse(f"WITH wrapped AS ({query}) SELECT * FROM wrapped")
    same(bare, wrapped, "kind", "verb", "returns_rows")
    assert wrapped.kind is Kind.SELECT


SPACE = st.lists(
    st.sampled_from([" ", "\n", "\t", "/* now */", "/* é /* b */ */", "-- x;\n"]), min_size=1
).map("".join)


@given(st.one_of(QUERIES, CHANGES, OTHERS), SPACE, SPACE)
def test_comments_and_space_change_nothing(query: str, before: str, after: str) -> None:
    spaced = after.join(query.split(" ")) if "'" not in query else query
    same(analyse(query), analyse(f"{before}{spaced}{after}"))
    same(analyse(query), analyse(f"{before}{spaced} ;{after};"))


@given(st.lists(st.one_of(QUERIES, CHANGES, OTHERS), min_size=2, max_size=5), SPACE)
def test_parts_are_what_each_is_alone(queries: list[str], space: str) -> None:
    several = analyse(f"{space};{space}".join(queries))
    assert several.kind is Kind.MULTI
    assert len(several.parts) == len(queries)
    for part, query in zip(several.parts, queries, strict=True):
        same(part, analyse(query))
        assert part == analyse(part.text)
