"""The database the hazards are played in. `ROWS` brings the data back before each case; `s` is for DDL."""

SCHEMA = """
CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL, name text, at timestamptz, d date, f float8, b bytea);
CREATE TABLE u (id int PRIMARY KEY, v int NOT NULL);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE grandchild (id int PRIMARY KEY, child int REFERENCES child ON DELETE CASCADE);
CREATE TABLE log (v int);
CREATE TABLE triggered (id int PRIMARY KEY, v int);
CREATE FUNCTION to_log() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO log VALUES (NEW.v); RETURN NEW; END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON triggered FOR EACH ROW EXECUTE FUNCTION to_log();
CREATE TABLE dynamic (id int PRIMARY KEY, v int);
CREATE FUNCTION to_anything() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'UPDATE u SET v = v + 1'; RETURN NEW; END $$;
CREATE TRIGGER note AFTER INSERT ON dynamic FOR EACH ROW EXECUTE FUNCTION to_anything();
CREATE TABLE pure (id int PRIMARY KEY, v int);
CREATE FUNCTION only_new() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.v := abs(NEW.v); RETURN NEW; END $$;
CREATE TRIGGER fix BEFORE INSERT OR UPDATE ON pure FOR EACH ROW EXECUTE FUNCTION only_new();
CREATE TABLE ruled (id int PRIMARY KEY, v int);
CREATE RULE also AS ON INSERT TO ruled DO ALSO INSERT INTO log VALUES (NEW.v);
CREATE VIEW view1 AS SELECT id, v FROM t;
CREATE VIEW view2 AS SELECT x.id, x.v + u.v AS v FROM view1 x JOIN u USING (id);
CREATE MATERIALIZED VIEW mat AS SELECT id, v FROM t;
CREATE TABLE part (id int, v int) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (100) TO (200);
CREATE TABLE heir (extra int) INHERITS (u);
CREATE UNLOGGED TABLE unlogged (id int, v int);
CREATE SEQUENCE seq;
CREATE FUNCTION f_immutable(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE FUNCTION f_stable() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM u';
CREATE FUNCTION f_writes() RETURNS int LANGUAGE sql AS 'UPDATE u SET v = v + 1; SELECT 1';
CREATE FUNCTION f_sets() RETURNS text LANGUAGE sql AS $$ SELECT set_config('TimeZone', 'Asia/Tokyo', false) $$;
CREATE PROCEDURE p_writes() LANGUAGE sql AS 'UPDATE u SET v = v + 1';
CREATE SCHEMA one; CREATE SCHEMA two; CREATE SCHEMA s;
CREATE TABLE one.same (v int); CREATE TABLE two.same (v int);
INSERT INTO one.same VALUES (1); INSERT INTO two.same VALUES (2);
CREATE TABLE secured (id int, owner name); ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secured USING (owner = current_user);
CREATE VIEW guarded WITH (security_barrier) AS SELECT id FROM secured
    WHERE owner = current_setting('app.tenant', true);
CREATE FUNCTION ops_plus(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE OPERATOR one.+ (leftarg = int, rightarg = int, function = ops_plus);
GRANT USAGE ON SCHEMA one, two, s TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC;
CREATE EXTENSION postgres_fdw;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;
"""

ROWS = """
DELETE FROM t; DELETE FROM u; DELETE FROM grandchild; DELETE FROM child; DELETE FROM parent; DELETE FROM log;
DELETE FROM triggered; DELETE FROM dynamic; DELETE FROM pure; DELETE FROM ruled; DELETE FROM part;
DELETE FROM unlogged; DELETE FROM secured;
INSERT INTO t VALUES
    (1, 10, 'one', '2020-01-01 12:00+00', '2020-01-01', 0.1, 'a'),
    (2, 20, 'two', '2020-06-01 12:00+00', '2020-06-01', 1e-7, '\\x00ff'),
    (3, 30, '', NULL, NULL, NULL, NULL), (4, 40, NULL, NULL, NULL, NULL, NULL);
INSERT INTO u VALUES (1, 1), (2, 2);
INSERT INTO heir VALUES (3, 3, 3);
INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1, 1), (2, 2); INSERT INTO grandchild VALUES (1, 1);
INSERT INTO log VALUES (0);
INSERT INTO part VALUES (1, 1), (101, 2);
INSERT INTO unlogged VALUES (1, 1);
INSERT INTO secured VALUES (1, 'helios_a'), (2, 'helios_b'), (3, 'x');
"""

ROLES = ("helios_a", "helios_b")
