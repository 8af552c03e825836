"""The scenarios: steps, and what they have to do with each other is for plain psycopg to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EVIL = "a\"b.c'd\\e;\n--f/*%s${PATH}"
LONG = "x" * 200
MANY = 10_000_000


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


@dataclass(frozen=True)
class Step:
    """One statement, on one of two logical connections: what `b` does must not show in `a`."""

    query: Any
    params: Any = None
    who: str = "a"
    how: str = "execute"
    prepare: bool | None = None


@dataclass(frozen=True)
class Scenario:
    """Steps, made when they are needed. *block*: they need a transaction that spans statements."""

    steps: Callable[[], list[Step]]
    block: bool = False


COUNT = Step("SELECT count(*) FROM things", who="b")


def each_way(query: Any) -> list[Step]:
    copy = b"COPY (%b) TO STDOUT" % query if isinstance(query, bytes) else f"COPY ({query}) TO STDOUT"
    steps = [
        Step(query),
        Step(query, prepare=True),
        Step(query, how="stream"),
        Step(query, how="server"),
        Step(copy, how="copy"),
        Step(query, how="pipeline"),
    ]
    return [each for step in steps for each in (step, Step("ROLLBACK"))]


def deep_writes() -> list[Step]:
    # Too deep for the analysis, not for the server: what others have cached must be gone all the same.
    deep = "1" + "+1" * 1_500
    return [
        COUNT,
        COUNT,
        Step(f"INSERT INTO things VALUES ({deep}, 'deep')"),
        Step("COMMIT"),
        COUNT,
        Step(f"WITH gone AS (DELETE FROM things WHERE id = {deep} RETURNING id) SELECT * FROM gone"),
        Step("COMMIT"),
        COUNT,
    ]


def deep_settings() -> list[Step]:
    deep = "1" + "+1" * 1_500
    return [
        Step(f"SELECT set_config('app.deep', ({deep})::text, false)"),
        Step("COMMIT"),
        Step("SELECT current_setting('app.deep', true)", who="b"),
        Step("SELECT current_setting('app.deep', true)"),
    ]


def parameters(count: int) -> list[Step]:
    marks = ",".join(["%s"] * count)
    return [Step(f"SELECT count(*) FROM things WHERE id IN ({marks})", tuple(range(count)))]


def columns(count: int) -> list[Step]:
    named = ",".join(f"c{i} int" for i in range(count))
    return [
        Step(f"CREATE TABLE wide ({named})"),
        Step(f"INSERT INTO wide VALUES ({','.join(['1'] * min(count, 1600))})"),
        Step("COMMIT"),
        Step("SELECT * FROM wide", who="b"),
        Step("SELECT * FROM wide", who="b"),
        Step("ALTER TABLE wide DROP COLUMN c7"),
        Step("COMMIT"),
        Step("SELECT * FROM wide", who="b"),
        Step("DROP TABLE IF EXISTS wide"),
        Step("COMMIT"),
    ]


def savepoints(name: str, again: str) -> list[Step]:
    return [
        Step("BEGIN"),
        Step("SET app.level = 'before'"),
        Step(f"SAVEPOINT {name}"),
        Step("SET app.level = 'inside'"),
        Step("INSERT INTO things VALUES (77, 'inside')"),
        Step(f"ROLLBACK TO SAVEPOINT {again}"),
        Step("COMMIT"),
        Step("SELECT count(*), nullif(current_setting('app.level', true), '') FROM things", who="b"),
        Step("SELECT count(*), nullif(current_setting('app.level', true), '') FROM things"),
        Step("BEGIN"),
        Step(f"SAVEPOINT {name}"),
        Step(f"RELEASE {again}"),
        Step(f"ROLLBACK TO {again}"),
        Step("ROLLBACK"),
    ]


def values() -> list[Step]:
    show = "SELECT nullif(current_setting('app.value', true), ''), current_setting('application_name')"
    literal = "'" + EVIL.replace("'", "''").replace("%", "%%") + "'"
    return [
        Step(f"SET app.value = {literal}", ()),
        Step("COMMIT"),
        Step(show, who="b"),
        Step(show),
        Step("SELECT set_config('app.value', %s, false)", (EVIL + LONG,)),
        Step("SELECT set_config(%s, %s, false)", ("application_name", "quo\"te's\\ é")),
        Step("COMMIT"),
        Step(show, who="b"),
        Step(show),
        Step("SET \"App.Value\" = 'folded'"),
        Step("COMMIT"),
        Step(show, who="b"),
        Step(show),
        Step('RESET "APP.value"'),
        Step("COMMIT"),
        Step(show, who="b"),
        Step(show),
        Step("SELECT set_config('app.value', %s, false)", ("nul\0",)),
        Step(show),
    ]


def setting_names() -> list[Step]:
    # nullif() throughout: a custom setting that was set once on a server connection stays known there, as ''.
    read = "SELECT nullif(current_setting(%s, true), '')"
    names = ["app.a\nb", 'app.a"b', "app.$$", "app.1", ".", "app.", "nosuch", "app.ü", "app.Ü", "a.b.c"]
    steps = []
    for name in [*names, "app." + LONG]:
        steps += [
            Step(f"SET {quoted(name)} = 'v'", ()),
            Step("ROLLBACK"),
            Step("SELECT set_config(%s, %s, false)", (name, "w")),
            Step("COMMIT"),
            Step(read, (name,), who="b"),
            Step(read, (name,)),
            Step("ROLLBACK"),
        ]
    return steps


def search_paths() -> list[Step]:
    here = quoted(EVIL)
    read = "SELECT what FROM shadow"
    return [
        Step(read),
        Step(f"SET search_path = {here}, hostile", ()),
        Step("COMMIT"),
        Step(read, who="b"),
        Step(read),
        Step(read),
        Step(f"INSERT INTO {here}.shadow VALUES ('more')", (), who="b"),
        Step(read),
        Step(read, who="b"),
        Step("SELECT set_config(%s, 'nowhere, hostile', false)", ("search_path",)),
        Step("COMMIT"),
        Step(read, who="b"),
        Step(read),
        Step("SELECT set_config(%s, %s, false)", ("Search_Path", f"{here}, hostile".replace("%%", "%"))),
        Step("COMMIT"),
        Step(read, who="b"),
        Step(read),
    ]


def left_roles() -> list[Step]:
    # A RESET that a ROLLBACK undoes: the server connection is the other role's again.
    who = "SELECT current_user, session_user"
    steps = []
    for begin, end in (("ROLE", "ROLE NONE"), ("SESSION AUTHORIZATION", "SESSION AUTHORIZATION DEFAULT")):
        steps += [
            Step(f"SET {begin} {quoted(EVIL)}", ()),
            Step("BEGIN"),
            Step(f"SET {end}"),
            Step("SELECT 1"),
            Step("ROLLBACK"),
            Step(who, who="b"),
            Step(who),
            Step(f"SET {end}"),
        ]
    return steps


def roles() -> list[Step]:
    who = "SELECT current_user, session_user = current_user, (SELECT count(*) FROM things)"
    return [
        Step(who),
        Step(f"SET ROLE {quoted(EVIL)}", ()),
        Step("COMMIT"),
        Step(who, who="b"),
        Step(who),
        Step("SET ROLE NONE"),
        Step("COMMIT"),
        Step(who, who="b"),
        Step(who),
        Step("SELECT set_config('role', %s, false)", (EVIL,)),
        Step("COMMIT"),
        Step(who, who="b"),
        Step(who),
        Step("ROLLBACK"),
        Step("SELECT set_config('role', 'none', false)"),
        Step(f"SET SESSION AUTHORIZATION {quoted(EVIL)}", ()),
        Step("COMMIT"),
        Step(who, who="b"),
        Step(who),
        Step("ROLLBACK"),
        Step("RESET SESSION AUTHORIZATION"),
        Step("SET ROLE 'no such role'"),
        Step("ROLLBACK"),
        Step(who),
    ]


def identifiers() -> list[Step]:
    return [
        Step(f"SELECT 1 AS {LONG}"),
        Step(f'SELECT 1 AS "{LONG * 5_000}"'),
        Step(f'CREATE TABLE "{LONG}" (id int)'),
        Step(f'INSERT INTO "{LONG}" VALUES (1)'),
        Step("COMMIT"),
        Step(f'SELECT * FROM "{LONG}"', who="b"),
        Step(f'SELECT * FROM "{LONG}"', who="b"),
        Step(f'INSERT INTO "{LONG[:63]}" VALUES (2)'),
        Step("COMMIT"),
        Step(f'SELECT * FROM "{LONG}y"', who="b"),
        Step(f'DROP TABLE "{LONG}"'),
        Step("COMMIT"),
        Step('SELECT 1 AS ""'),
    ]


def large() -> list[Step]:
    text = "x" * MANY
    return [
        Step(f"SELECT octet_length('{text}')"),
        Step("SELECT octet_length(%s)", (text,)),
        Step("SELECT octet_length(%b)", (b"\0" * MANY,)),
        Step(f"SELECT 1 /* {text} */"),
        Step(f"INSERT INTO things VALUES (1, '{text}')"),
        Step("COMMIT"),
        Step("SELECT octet_length(what) FROM things WHERE id = 1 ORDER BY 1", who="b"),
        Step("DELETE FROM things WHERE id = 1"),
        Step("COMMIT"),
        Step("SELECT count(*) FROM things WHERE id IN (" + "1," * 200_000 + "1)"),
    ]


SCENARIOS = {
    "plus": Scenario(lambda: each_way("SELECT 1" + "+1" * 30_000)),
    "union": Scenario(lambda: each_way("SELECT 1" + " UNION ALL SELECT 1" * 20_000)),
    "plus, deep for us only": Scenario(lambda: each_way("SELECT 1" + "+1" * 1_500)),
    "parentheses": Scenario(
        lambda: [Step("SELECT " + "(" * n + "1" + ")" * n) for n in (500, 5_000, 100_000)]
    ),
    "queries": Scenario(lambda: each_way("SELECT " + "(SELECT " * 600 + "1" + ")" * 600)),
    "writes too deep for the analysis": Scenario(deep_writes),
    "settings too deep for the analysis": Scenario(deep_settings),
    "nul in text": Scenario(lambda: each_way("SELECT 1\0, 2")),
    "nul in bytes": Scenario(lambda: each_way(b"SELECT 1\0, 2")),
    "nul in a parameter": Scenario(
        lambda: [
            Step("SELECT %s", ("a\0b",)),
            Step("SELECT %s::text", (b"a\0b",)),
            Step("SELECT %t", ("\0",)),
        ]
    ),
    "invalid bytes": Scenario(lambda: each_way(b"SELECT 'a\xffb'")),
    "invalid bytes in a name": Scenario(lambda: each_way(b'SELECT 1 AS "\xc3"')),
    "surrogates": Scenario(lambda: each_way("SELECT 'a\ud800b'")),
    "surrogates in a parameter": Scenario(lambda: [Step("SELECT %s", ("\udc80",))]),
    "half a sequence as a parameter": Scenario(
        lambda: [Step("SELECT convert_from(%b, 'UTF8')", (b"\xe2\x82",))]
    ),
    "large": Scenario(large),
    "json": Scenario(
        lambda: [Step("SELECT length(%s::jsonb::text)", ("[" * n + "]" * n,)) for n in (1_000, 100_000)]
    ),
    "arrays": Scenario(
        lambda: [
            Step("SELECT %s::int[]", ("{" * 6 + "1" + "}" * 6,)),
            Step("SELECT %s::int[]", ("{" * 7 + "1" + "}" * 7,)),
            Step("SELECT %s::int[]", ("{" * 100_000,)),
            Step("SELECT " + "ARRAY[" * 7 + "1" + "]" * 7),
            Step("SELECT " + "ARRAY[" * 20_000 + "1" + "]" * 20_000),
            Step("SELECT %s", ([[[[[[[1]]]]]]],)),
        ]
    ),
    "65,535 parameters": Scenario(lambda: parameters(65_535)),
    "65,536 parameters": Scenario(lambda: parameters(65_536)),
    "1,600 columns": Scenario(lambda: columns(1_600)),
    "1,601 columns": Scenario(lambda: columns(1_601)[:1]),
    "1,664 and 1,665 results": Scenario(
        lambda: [Step("SELECT " + ",".join(["1"] * n)) for n in (1_664, 1_665)]
    ),
    "savepoint names": Scenario(lambda: savepoints(quoted(EVIL), quoted(EVIL)), block=True),
    "long savepoint names": Scenario(lambda: savepoints(LONG, LONG[:63].upper()), block=True),
    "setting values": Scenario(values),
    "setting names": Scenario(setting_names),
    "search_path": Scenario(search_paths),
    "roles": Scenario(roles),
    "roles, and ROLLBACK": Scenario(left_roles, block=True),
    "identifiers": Scenario(identifiers),
    "nothing": Scenario(lambda: [Step(q) for q in ("", ";", "--", "/* */", " \n", ";;")]),
    "syntax": Scenario(
        lambda: [Step(q) for q in ("SELEC", "SELECT '", 'SELECT "', "SELECT $$", "/*", "\ufeffSELECT 1")]
    ),
    "a parameter that nobody gave": Scenario(lambda: [Step("SET app.x = 'b'", who="b"), Step("SELECT $1")]),
    "a value outside ASCII in each place": Scenario(
        lambda: [Step("SELECT '€', %s AS \"ß\"", ("😀",)), Step("SELECT 'é' /* ✂ */ -- ✂")]
    ),
}
