"""The texts of the random test."""

from __future__ import annotations

from typing import Any

# {n} is the connection's own number: it writes and changes what nobody else locks.
TEXTS = """
SELECT 1
SELECT id, v FROM t0 ORDER BY id
SELECT id, v FROM t1 ORDER BY id
SELECT count(*) FROM t{n}
SELECT * FROM d{n}
SELECT v FROM t{n} WHERE id = 1
INSERT INTO t{n} VALUES (7, 'new') ON CONFLICT DO NOTHING
INSERT INTO t{n} VALUES (1, 'twice')
UPDATE t{n} SET v = v || 'x' WHERE id = 1 RETURNING v
DELETE FROM t{n} WHERE id = 7
SELECT 1/0
SELECT missing
SELEC
ALTER TABLE d{n} ADD COLUMN IF NOT EXISTS extra int
ALTER TABLE d{n} DROP COLUMN IF EXISTS extra
BEGIN
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY
START TRANSACTION
COMMIT
ROLLBACK
END
COMMIT AND CHAIN
ROLLBACK AND CHAIN
SAVEPOINT a
SAVEPOINT b
ROLLBACK TO a
ROLLBACK TO b
ROLLBACK TO SAVEPOINT nowhere
RELEASE a
RELEASE b
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ
SET TRANSACTION READ ONLY
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY
SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE
SHOW transaction_isolation
SHOW transaction_read_only
SET app.x = 'one'
SET app.x TO two
SET app.x TO DEFAULT
SET LOCAL app.x = 'local'
RESET app.x
SHOW app.x
SELECT current_setting('app.x', true)
SELECT set_config('app.x', 'three', false)
SELECT set_config('app.x', 'four', true)
SET search_path = other, public
SET LOCAL search_path TO other
SET search_path TO DEFAULT
SHOW search_path
SET TIME ZONE 'Asia/Tokyo'
SET timezone TO 'UTC'
SHOW timezone
SELECT '2020-01-01 00:00+00'::timestamptz::text
SET ROLE same_as_role
RESET ROLE
SET SESSION AUTHORIZATION same_as_role
RESET SESSION AUTHORIZATION
SELECT current_user, session_user
SET work_mem = '8MB'
SHOW work_mem
SET work_mem = 'nonsense'
SET client_encoding = 'LATIN1'
SET client_encoding = 'UTF8'
SELECT 'é'
SET app.y = 'é'
SHOW app.y
RESET ALL
DISCARD ALL
DEALLOCATE ALL
SELECT 1; SELECT 2
SET app.x = 'five'; SELECT 1/0
SET app.x = 'six'; SHOW app.x
SET app.x = 'seven'; ROLLBACK
BEGIN; SET app.x = 'eight'; COMMIT
BEGIN; SET LOCAL app.x = 'nine'; INSERT INTO t{n} VALUES (8, 'multi') ON CONFLICT DO NOTHING
COMMIT; BEGIN
CREATE TEMP TABLE IF NOT EXISTS mine (x int)
SELECT * FROM mine
SELECT pg_try_advisory_lock(10 + {n})
SELECT pg_advisory_unlock(10 + {n})
SELECT pg_advisory_lock(10 + {n}), 1/0
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
SELECT pg_advisory_xact_lock(20 + {n}) IS NULL
PREPARE p AS SELECT 5
EXECUTE p
DEALLOCATE p
DECLARE c CURSOR FOR SELECT generate_series(1, 3)
DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, 3)
FETCH 2 FROM c
FETCH 2 FROM h
CLOSE c
CLOSE ALL
LISTEN channel
UNLISTEN *
SELECT pg_listening_channels()
DO $$ BEGIN PERFORM 1; END $$
DO $$ BEGIN RAISE EXCEPTION 'no'; END $$
LOCK TABLE t{n} IN SHARE MODE
EXPLAIN (COSTS OFF) SELECT v FROM t{n} WHERE id = 1
VACUUM d{n}
SELECT id FROM t{n} WHERE id = 1 FOR UPDATE
WITH gone AS (DELETE FROM t{n} WHERE id = 2 RETURNING id) SELECT * FROM gone
CALL nothing_there()
SET CONSTRAINTS ALL DEFERRED
""".strip().splitlines()

PARAMETERS: list[tuple[str, tuple[Any, ...]]] = [
    ("SELECT v FROM t{n} WHERE id = %s", (1,)),
    ("SELECT %s::int + 1", ("2",)),
    ("SELECT set_config('app.x', %s, false)", ("by parameter",)),
    ("SELECT set_config(%s, %s, %s)", ("app.x", "all three", True)),
    ("SELECT set_config('search_path', %s, false)", ("other, public",)),
    ("UPDATE t{n} SET v = %s WHERE id = %s", ("p", 2)),
    ("SELECT * FROM d{n} WHERE id = %s", (1,)),
    ("SELECT %s::int", ("not a number",)),
]

AROUND = """
SELECT current_setting('app.x'), current_setting('app.y'), current_setting('search_path'),
    current_setting('timezone'), current_setting('work_mem'), current_setting('client_encoding'),
    current_setting('default_transaction_read_only'), current_user, session_user,
    to_regclass('pg_temp.mine') IS NULL, (SELECT count(*) FROM pg_listening_channels()),
    (SELECT array_agg(name) FROM pg_cursors WHERE name IN ('c', 'h')),
    (SELECT count(*) FROM pg_prepared_statements WHERE name = 'p'),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
"""
