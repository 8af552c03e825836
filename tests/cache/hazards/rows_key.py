"""Rows 16 to 23 of hazards/cache.md: what is in the key."""

KEY = {
    "16 search_path": """
        a+: SET search_path TO one
        a: SELECT v FROM same -> miss
        b+: SET search_path TO two
        b: SELECT v FROM same -> miss
        a+: SET search_path TO two
        a: SELECT v FROM same -> hit
        b: UPDATE one.same SET v = v
        a: SELECT v FROM same -> hit
        b: UPDATE same SET v = v
        a: SELECT v FROM same -> miss
        a+: RESET search_path
        a: SELECT v FROM same -> error 42P01""",
    "16 set_config and SET LOCAL": """
        a+: SELECT set_config('search_path', 'one', false)
        a: SELECT v FROM same -> any
        a+: SELECT set_config('search_path', %s, false) % ('two',)
        a: SELECT v FROM same -> any
        b+: BEGIN
        b+: SET LOCAL search_path TO one
        b: SELECT v FROM same -> never
        b+: COMMIT
        b: SELECT v FROM same -> error 42P01""",
    "16 ROLLBACK undoes SET": """
        a+: SET search_path TO one
        a+: BEGIN
        a+: SET search_path TO two
        a: SELECT v FROM same -> any
        a+: ROLLBACK
        a: SELECT v FROM same -> any
        a+: BEGIN
        a+: SAVEPOINT x
        a+: SET search_path TO two
        a: SELECT v FROM same -> any
        a+: ROLLBACK TO x
        a: SELECT v FROM same -> any
        a+: COMMIT
        a: SELECT v FROM same -> any
        a: SELECT v FROM same -> hit""",
    "17 SET ROLE": """
        a: SELECT v FROM one.same -> miss
        b+: SET ROLE helios_a
        b: SELECT v FROM one.same -> error 42501
        b: SELECT v FROM t WHERE id = 1 -> miss
        a: SELECT v FROM t WHERE id = 1 -> miss
        b+: RESET ROLE
        b: SELECT v FROM t WHERE id = 1 -> hit""",
    "17 a SET that the server refuses": """
        a+: SET ROLE helios_a
        a: SET ROLE postgres_and_more -> error 22023
        a: SELECT v FROM one.same -> error 42501
        a+: RESET ROLE""",
    "17 SET SESSION AUTHORIZATION": """
        a: SELECT v FROM one.same -> miss
        b+: SET SESSION AUTHORIZATION helios_a
        b: SELECT v FROM one.same -> error 42501
        b+: RESET SESSION AUTHORIZATION
        b: SELECT v FROM one.same -> hit""",
    "17 REVOKE": """
        a: CREATE TABLE s.granted (v int)
        a: GRANT SELECT ON s.granted TO helios_a
        b+: SET ROLE helios_a
        b: SELECT v FROM s.granted -> miss
        b: SELECT v FROM s.granted -> hit
        a: REVOKE SELECT ON s.granted FROM helios_a
        b: SELECT v FROM s.granted -> error 42501
        b+: RESET ROLE""",
    "18 row-level security": """
        a+: SET ROLE helios_a
        a: SELECT id FROM secured -> never
        b+: SET ROLE helios_b
        b: SELECT id FROM secured -> never
        a+: RESET ROLE
        b+: RESET ROLE""",
    "18 current_setting": """
        a+: SET app.tenant TO 'x'
        a: SELECT id FROM guarded -> never
        a+: SET app.tenant TO 'helios_b'
        a: SELECT id FROM guarded -> never""",
    "19 settings that change what is shown": """
        a: SELECT at, d FROM t ORDER BY id -> miss
        a+: SET TimeZone TO 'Asia/Tokyo'
        a: SELECT at, d FROM t ORDER BY id -> miss
        a+: SET DateStyle TO 'German'
        a: SELECT at, d FROM t ORDER BY id -> miss
        a+: SET extra_float_digits TO -3
        a: SELECT f FROM t ORDER BY id -> miss
        b: SELECT f FROM t ORDER BY id -> miss
        a+: SET bytea_output TO escape
        a: SELECT b FROM t ORDER BY id -> miss
        b: SELECT b FROM t ORDER BY id -> miss
        a+: RESET ALL
        a: SELECT at, d FROM t ORDER BY id -> hit
        a: SELECT b FROM t ORDER BY id -> hit""",
    "19 settings that change nothing share entries": """
        a: SELECT v FROM u ORDER BY id -> miss
        a+: SET application_name TO 'other'
        a: SELECT v FROM u ORDER BY id -> hit""",
    "19 settings of the application": """
        a: SELECT v FROM u ORDER BY id -> miss
        a+: SET app.who TO 'x'
        a: SELECT v FROM u ORDER BY id -> miss
        b+: SET app.who TO 'x'
        b: SELECT v FROM u ORDER BY id -> hit""",
    "19 a setting made by code we do not see": """
        a: SELECT at FROM t ORDER BY id -> miss
        a+: BEGIN
        a+: DO $$ BEGIN PERFORM set_config('TimeZone', 'Asia/Tokyo', false); END $$
        a: SELECT at FROM t ORDER BY id -> never
        a+: COMMIT""",
    "20 and 21 parameters": """
        a: SELECT v FROM t WHERE name = %s % ('one',) -> miss
        a: SELECT v FROM t WHERE name = %s % ('ONE',) -> miss
        a: SELECT v FROM t WHERE name = %s % ('',) -> miss
        a: SELECT v FROM t WHERE name = %s % (None,) -> miss
        a: SELECT v FROM t WHERE id > 0 AND name = %s % ('one',) -> miss
        a: SELECT pg_typeof(%s), id FROM t % (1,) -> miss
        a: SELECT pg_typeof(%s), id FROM t % (True,) -> miss
        a: SELECT pg_typeof(%s), id FROM t % (1.0,) -> miss
        a: SELECT pg_typeof(%s), id FROM t % (70000,) -> miss
        a: SELECT pg_typeof(%s), id FROM t % (1,) -> hit
        a: SELECT %s + 0.0::float8, id FROM t % (0.0,) -> miss
        a: SELECT %s + 0.0::float8, id FROM t % (-0.0,) -> miss
        a: SELECT v FROM t WHERE id = %(x)s AND v = %(y)s % {'x': 1, 'y': 10} -> miss
        a: SELECT v FROM t WHERE id = %(x)s AND v = %(y)s % {'y': 10, 'x': 1} -> hit
        a: SELECT v FROM t WHERE id = %(x)s AND v = %(y)s % {'y': 1, 'x': 10} -> miss
        a: SELECT v FROM t WHERE id = %(x)s AND v = %(y)s % {'y': 10, 'x': 1, 'z': 1} -> any
        a: SELECT v FROM t WHERE id = %(x)s AND v = %(y)s % {'y': 10, 'x': 1, 2: 1} -> any
        a: SELECT v FROM t WHERE id = %(x)s AND v = %(y)s % {'y': 10, 'x': 1.0} -> any
        a: SELECT v FROM t WHERE id = ANY(%s) % ([1, 2],) -> miss
        a: SELECT v FROM t WHERE id = ANY(%s) % ([1, 3],) -> miss""",
    "21 literals": """
        a: SELECT id FROM t WHERE name <> 'a--b' AND id = 1 -> miss
        a: SELECT id FROM t WHERE name <> 'a--c' AND id = 1 -> miss
        a: SELECT v AS "A" FROM t WHERE id = 1 -> miss
        a: SELECT v AS "a" FROM t WHERE id = 1 -> miss
        a: SELECT id FROM t WHERE id = 1 AND name = '2' -> miss
        a: SELECT id FROM t WHERE id = 2 AND name = '1' -> miss
        a: SELECT id FROM t WHERE name = %s AND name <> %s % ('a', 'bc') -> miss
        a: SELECT id FROM t WHERE name = %s AND name <> %s % ('ab', 'c') -> miss""",
    "23 statements prepared by repetition": """
        a: SELECT v FROM u WHERE id = %s % (1,) -> miss
        b: UPDATE u SET v = v + 1 WHERE id = %s % (1,)
        b: UPDATE u SET v = v + 1 WHERE id = %s % (1,)
        b: UPDATE u SET v = v + 1 WHERE id = %s % (1,)
        b: UPDATE u SET v = v + 1 WHERE id = %s % (1,)
        b: UPDATE u SET v = v + 1 WHERE id = %s % (1,)
        b: UPDATE u SET v = v + 1 WHERE id = %s % (1,)
        a: SELECT v FROM u WHERE id = %s % (1,) -> miss
        b: UPDATE u SET v = v + 1 WHERE id = %s % (1,)
        a: SELECT v FROM u WHERE id = %s % (1,) -> miss
        a: SELECT v FROM u WHERE id = %s % (2,) -> miss
        a: SELECT v FROM u WHERE id = %s % (2,) -> hit""",
}
