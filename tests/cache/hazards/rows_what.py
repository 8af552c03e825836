"""Rows 1 to 15 of hazards/cache.md: what may be cached, and what a write reaches."""

WHAT = {
    "1 operators and functions of settings are kept": """
        a: SELECT to_char(at, 'YYYY'), date_trunc('day', at), format('%%s', v) FROM t WHERE id = %s % (1,) -> miss
        a: SELECT to_char(at, 'YYYY'), date_trunc('day', at), format('%%s', v) FROM t WHERE id = %s % (1,) -> hit
        a: SELECT count(*), max(v), json_agg(v ORDER BY v) FROM t -> miss
        a: SELECT count(*), max(v), json_agg(v ORDER BY v) FROM t -> hit""",
    "1 functions of the user": """
        a: SELECT f_immutable(v) FROM t -> user_function
        a: SELECT f_stable(), v FROM t -> user_function
        a: UPDATE u SET v = v + 1
        a: SELECT f_stable(), v FROM t -> never""",
    "1 operators of another schema": """
        a+: SET search_path TO one, public, pg_catalog
        a: SELECT v + 1 FROM t -> operator
        a: SELECT v OPERATOR(pg_catalog.+) 1 FROM t -> any""",
    "1 functions that write are writes": """
        a: SELECT sum(v) FROM u -> miss
        b: SELECT f_writes() FROM t WHERE id = 1
        a: SELECT sum(v) FROM u -> miss""",
    "2 the clock": """
        a: SELECT id FROM t WHERE at < now() -> never
        a: SELECT id FROM t WHERE d < CURRENT_DATE -> never
        a: SELECT id FROM t WHERE d < 'tomorrow' -> clock
        a: SELECT id FROM t WHERE d < %s % ('tomorrow',) -> clock
        a: SELECT id FROM t WHERE at < %s % (' NOW ',) -> clock
        a: SELECT 't'::regclass::oid, id FROM t -> never
        a: SELECT id FROM t WHERE name = %s % ('nowhere',) -> miss""",
    "3 side effects inside SELECT": """
        a: SELECT nextval('seq') IS NOT NULL, id FROM t -> never
        a: SELECT setval('seq', 5), id FROM t -> never
        a: SELECT pg_sleep(0), id FROM t -> never
        a: SELECT pg_notify('somewhere', ''), id FROM t -> never
        a: SELECT random() < 2, id FROM t -> never
        a: SELECT pg_try_advisory_xact_lock(1), id FROM t -> never""",
    "4 writes in disguise": """
        a: SELECT sum(v) FROM t -> miss
        b: WITH x AS (UPDATE t SET v = v + 1 RETURNING v) SELECT sum(v) FROM x
        a: SELECT sum(v) FROM t -> miss
        b: EXPLAIN (ANALYZE, COSTS OFF) UPDATE t SET v = v + 1
        a: SELECT sum(v) FROM t -> miss
        b: MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN UPDATE SET v = t.v + 1
        a: SELECT sum(v) FROM t -> miss
        b: DO $$ BEGIN UPDATE t SET v = v + 1; END $$
        a: SELECT sum(v) FROM t -> miss
        b: PREPARE hidden AS UPDATE t SET v = v + 1
        b: EXECUTE hidden
        b: DEALLOCATE hidden
        a: SELECT sum(v) FROM t -> miss
        a: SELECT sum(v) FROM t -> hit""",
    "4 CALL": """
        a: SELECT sum(v) FROM u -> miss
        b: CALL p_writes()
        a: SELECT sum(v) FROM u -> miss""",
    "4 SELECT INTO": """
        a: SELECT sum(v) FROM t -> miss
        b: SELECT id, v INTO s.made FROM t
        a: SELECT sum(v) FROM s.made -> miss
        b: INSERT INTO s.made VALUES (9, 9)
        a: SELECT sum(v) FROM s.made -> miss
        b: DROP TABLE s.made
        a: SELECT sum(v) FROM s.made -> error 42P01""",
    "5 triggers": """
        a: SELECT v FROM log ORDER BY v -> miss
        b: INSERT INTO triggered VALUES (1, 7)
        a: SELECT v FROM log ORDER BY v -> miss
        a: SELECT v FROM log ORDER BY v -> hit
        b: INSERT INTO triggered VALUES (1, 8) ON CONFLICT (id) DO UPDATE SET v = 9
        a: SELECT v FROM log ORDER BY v -> miss
        a: SELECT sum(v) FROM u -> miss
        b: INSERT INTO dynamic VALUES (1, 1)
        a: SELECT sum(v) FROM u -> miss""",
    "5 a trigger that only assigns to NEW writes nothing": """
        a: SELECT sum(v) FROM u -> miss
        b: INSERT INTO pure VALUES (1, -5)
        a: SELECT sum(v) FROM u -> hit
        a: SELECT v FROM pure ORDER BY id -> miss""",
    "5 foreign-key cascades": """
        a: SELECT count(*) FROM child -> miss
        a: SELECT count(*) FROM grandchild -> miss
        a: SELECT sum(parent) FROM child -> miss
        b: DELETE FROM parent WHERE id = 1
        a: SELECT count(*) FROM child -> miss
        a: SELECT count(*) FROM grandchild -> miss
        b: UPDATE parent SET id = 5 WHERE id = 2
        a: SELECT sum(parent) FROM child -> miss""",
    "5 rules": """
        a: SELECT sum(v) FROM log -> miss
        b: INSERT INTO ruled VALUES (1, 3)
        a: SELECT sum(v) FROM log -> miss""",
    "6 views": """
        a: SELECT sum(v) FROM view1 -> miss
        a: SELECT sum(v) FROM view2 -> miss
        a: SELECT sum(v) FROM view2 -> hit
        b: UPDATE t SET v = v + 1
        a: SELECT sum(v) FROM view1 -> miss
        a: SELECT sum(v) FROM view2 -> miss
        b: UPDATE u SET v = v + 1
        a: SELECT sum(v) FROM view1 -> hit
        a: SELECT sum(v) FROM view2 -> miss
        b: UPDATE view1 SET v = 0 WHERE id = 1
        a: SELECT v FROM t WHERE id = 1 -> miss
        a: SELECT sum(v) FROM view1 -> miss""",
    "6 materialised views": """
        a: SELECT sum(v) FROM mat -> never""",
    "7 partitions": """
        a: SELECT sum(v) FROM part -> miss
        a: SELECT sum(v) FROM part_1 -> miss
        b: UPDATE part SET v = v + 1
        a: SELECT sum(v) FROM part_1 -> miss
        b: UPDATE part_1 SET v = v + 1
        a: SELECT sum(v) FROM part -> miss
        b: UPDATE part SET id = 102 WHERE id = 1
        a: SELECT count(*) FROM part_2 -> miss""",
    "7 inheritance": """
        a: SELECT sum(v) FROM u -> miss
        b: INSERT INTO heir VALUES (9, 9, 9)
        a: SELECT sum(v) FROM u -> miss
        a: SELECT sum(v) FROM heir -> miss
        b: UPDATE u SET v = v + 1
        a: SELECT sum(v) FROM heir -> miss""",
    "8 DDL": """
        a: CREATE TABLE s.x (id int, v int)
        a: INSERT INTO s.x VALUES (1, 1)
        a: SELECT * FROM s.x -> miss
        a: SELECT * FROM s.x -> hit
        b: ALTER TABLE s.x ADD w int DEFAULT 5
        a: SELECT * FROM s.x -> miss
        b: ALTER TABLE s.x ALTER v TYPE text
        a: SELECT * FROM s.x -> miss
        b: ALTER TABLE s.x RENAME TO y
        a: SELECT * FROM s.x -> error 42P01
        b: CREATE VIEW s.x AS SELECT 1 AS one FROM t
        a: SELECT * FROM s.x -> miss
        b: CREATE OR REPLACE VIEW s.x AS SELECT 2 AS one FROM t
        a: SELECT * FROM s.x -> miss
        b: DROP VIEW s.x
        a: SELECT * FROM s.x -> error 42P01""",
    "8 DETACH": """
        a: CREATE TABLE s.p (id int, v int) PARTITION BY LIST (id)
        a: CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES IN (1)
        a: INSERT INTO s.p VALUES (1, 1)
        a: SELECT sum(v) FROM s.p -> miss
        b: ALTER TABLE s.p DETACH PARTITION s.p1
        a: SELECT sum(v) FROM s.p -> miss
        b: ALTER TABLE s.p ATTACH PARTITION s.p1 FOR VALUES IN (1)
        a: SELECT sum(v) FROM s.p -> miss
        b: UPDATE s.p1 SET v = 2
        a: SELECT sum(v) FROM s.p -> miss""",
    "8 DDL in a transaction, undone": """
        a: CREATE TABLE s.z (id int)
        a: SELECT * FROM s.z -> miss
        b: BEGIN
        b: ALTER TABLE s.z ADD v int
        b*: SELECT * FROM s.z -> never
        b: ROLLBACK
        a: SELECT * FROM s.z -> miss""",
    "8 a function that is replaced": """
        a: CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'
        a: CREATE TABLE s.q (v int)
        a: CREATE TRIGGER x BEFORE INSERT ON s.q FOR EACH ROW EXECUTE FUNCTION s.f()
        a: SELECT sum(v) FROM u -> miss
        b: INSERT INTO s.q VALUES (1)
        a: SELECT sum(v) FROM u -> hit
        b: CREATE OR REPLACE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS \
            'BEGIN UPDATE u SET v = v + 1; RETURN NEW; END'
        a: SELECT sum(v) FROM u -> miss
        b: INSERT INTO s.q VALUES (1)
        a: SELECT sum(v) FROM u -> miss""",
    "8 CREATE TEMP does not move the epoch": """
        a: SELECT sum(v) FROM u -> miss
        b: CREATE TEMP TABLE passing (id int)
        b: DROP TABLE passing
        a: SELECT sum(v) FROM u -> any
        b: DISCARD TEMP""",
    "8 TRUNCATE": """
        a: SELECT count(*) FROM grandchild -> miss
        a: SELECT count(*) FROM child -> miss
        b: TRUNCATE parent CASCADE
        a: SELECT count(*) FROM grandchild -> miss
        a: SELECT count(*) FROM child -> miss""",
    "10 what decoding does not see": """
        a: SELECT last_value FROM seq -> never
        a: SELECT sum(v) FROM mat -> never
        b: UPDATE t SET v = 0
        b: REFRESH MATERIALIZED VIEW mat
        a: SELECT sum(v) FROM mat -> never
        a: SELECT loid FROM pg_largeobject -> never""",
    "10 unlogged tables": """
        a: SELECT sum(v) FROM unlogged -> any
        b: UPDATE unlogged SET v = v + 1
        a: SELECT sum(v) FROM unlogged -> any""",
    "11 foreign tables": """
        a: CREATE FOREIGN TABLE s.far (id int) SERVER elsewhere
        a: SELECT id FROM t WHERE EXISTS (SELECT FROM s.far) -> error 42704""",
    "12 catalogues": """
        a: SELECT count(*) FROM pg_class -> never
        a: SELECT count(*) >= 0 FROM pg_stat_activity -> never
        a: SELECT count(*) FROM information_schema.tables -> never
        a: SELECT relname FROM pg_catalog.pg_class JOIN t ON false -> never""",
    "13 locks": """
        a: SELECT id FROM t WHERE id = 1 FOR UPDATE -> never
        a: SELECT id FROM t WHERE id = 1 FOR SHARE -> never
        a: SELECT count(*) >= 0 FROM t TABLESAMPLE SYSTEM (50) -> never""",
    "14 LIMIT without ORDER BY": """
        a: SELECT id FROM u LIMIT 1 -> unordered_limit
        a: SELECT DISTINCT ON (v) v, id FROM u -> unordered_limit
        a: SELECT id FROM u ORDER BY id LIMIT 1 -> miss
        a: SELECT id FROM (SELECT id FROM u OFFSET 1) x -> unordered_limit""",
    "15 several statements": """
        a: SELECT sum(v) FROM u -> miss
        b: UPDATE u SET v = v + 1; SELECT 1
        a: SELECT sum(v) FROM u -> miss
        a: SELECT v FROM t WHERE id = 1; SELECT v FROM u WHERE id = 1 -> several_statements
        b: BEGIN; UPDATE u SET v = v + 1; COMMIT
        a: SELECT sum(v) FROM u -> miss""",
    "15 cursors": """
        n: DECLARE c CURSOR FOR SELECT v FROM u WHERE id = 1
        n: FETCH 1 FROM c
        n: .rollback()
        b: UPDATE u SET v = v + 1
        n: DECLARE c CURSOR FOR SELECT v FROM u WHERE id = 1
        n*: FETCH 0 FROM c -> never
        n: .rollback()""",
}
