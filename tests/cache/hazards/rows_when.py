"""Rows 24 to 35 of hazards/cache.md: when an entry is true."""

WHEN = {
    "25 in flux until the outcome is known": """
        a: SELECT v FROM u WHERE id = 1 -> miss
        b: BEGIN
        b: UPDATE u SET v = v + 1
        a: SELECT v FROM u WHERE id = 1 -> in_flux
        a: SELECT v FROM t WHERE id = 1 -> miss
        b: COMMIT
        a: SELECT v FROM u WHERE id = 1 -> miss
        a: SELECT v FROM u WHERE id = 1 -> hit""",
    "25 psycopg's own transactions": """
        a: SELECT v FROM u WHERE id = 1 -> miss
        n: UPDATE u SET v = v + 1
        a: SELECT v FROM u WHERE id = 1 -> in_flux
        n: .commit()
        a: SELECT v FROM u WHERE id = 1 -> miss
        n: SELECT v FROM u WHERE id = 1 -> hit
        n: UPDATE u SET v = v + 1
        n: .rollback()
        a: SELECT v FROM u WHERE id = 1 -> miss""",
    "25 COMMIT AND CHAIN": """
        b: BEGIN
        b: UPDATE u SET v = v + 1
        b: COMMIT AND CHAIN
        a: SELECT v FROM u WHERE id = 1 -> any
        b: UPDATE u SET v = v + 1
        a: SELECT v FROM u WHERE id = 1 -> in_flux
        b: ROLLBACK AND CHAIN
        a: SELECT v FROM u WHERE id = 1 -> any
        b: COMMIT
        a: SELECT v FROM u WHERE id = 1 -> any""",
    "29 own uncommitted writes": """
        a: SELECT v FROM u WHERE id = 1 -> miss
        b: BEGIN
        b: SELECT v FROM u WHERE id = 1 -> hit
        b: UPDATE u SET v = 100 WHERE id = 1
        b*: SELECT v FROM u WHERE id = 1 -> own_writes
        b*: SELECT v FROM t WHERE id = 1 -> own_writes
        b: ROLLBACK
        a: SELECT v FROM u WHERE id = 1 -> miss
        b: SELECT v FROM t WHERE id = 1 -> miss""",
    "30 ROLLBACK TO changes nothing": """
        a: SELECT v FROM u WHERE id = 1 -> miss
        b: BEGIN
        b: UPDATE u SET v = 100 WHERE id = 1
        b: SAVEPOINT x
        b: UPDATE t SET v = 100 WHERE id = 1
        b: ROLLBACK TO x
        a: SELECT v FROM u WHERE id = 1 -> in_flux
        a: SELECT v FROM t WHERE id = 1 -> in_flux
        b*: SELECT v FROM u WHERE id = 1 -> own_writes
        b: RELEASE x
        b*: SELECT v FROM u WHERE id = 1 -> own_writes
        b: COMMIT
        a: SELECT v FROM u WHERE id = 1 -> miss
        a: SELECT v FROM t WHERE id = 1 -> miss""",
    "30 a savepoint undone after an error": """
        b: BEGIN
        b: SAVEPOINT x
        b: UPDATE u SET v = 100 WHERE id = 1
        b: SELECT nothing FROM u -> error 42703
        a: SELECT v FROM u WHERE id = 1 -> in_flux
        b: ROLLBACK TO x
        b*: SELECT v FROM u WHERE id = 1 -> own_writes
        b: COMMIT
        a: SELECT v FROM u WHERE id = 1 -> miss""",
    "31 BEGIN with a level": """
        a: SELECT v FROM u WHERE id = 1 -> miss
        b+: BEGIN ISOLATION LEVEL REPEATABLE READ
        b: SELECT v FROM u WHERE id = 1 -> isolation
        a: UPDATE u SET v = v + 1
        a: SELECT v FROM u WHERE id = 1 -> miss
        b: SELECT v FROM u WHERE id = 1 -> isolation
        b+: COMMIT
        b: SELECT v FROM u WHERE id = 1 -> hit""",
    "31 COMMIT AND CHAIN keeps the level": """
        a: SELECT v FROM u WHERE id = 1 -> miss
        b+: BEGIN ISOLATION LEVEL REPEATABLE READ
        b: SELECT v FROM u WHERE id = 1 -> isolation
        b+: COMMIT AND CHAIN
        b: SELECT v FROM u WHERE id = 1 -> isolation
        a: UPDATE u SET v = v + 1
        a: SELECT v FROM u WHERE id = 1 -> miss
        b: SELECT v FROM u WHERE id = 1 -> isolation
        b+: COMMIT
        b: SELECT v FROM u WHERE id = 1 -> hit""",
    "31 SET TRANSACTION": """
        a: SELECT v FROM u WHERE id = 1 -> miss
        b+: BEGIN
        b+: SET TRANSACTION ISOLATION LEVEL SERIALIZABLE
        b: SELECT v FROM u WHERE id = 1 -> isolation
        b+: COMMIT
        b+: BEGIN
        b+: SET transaction_isolation TO 'repeatable read'
        b: SELECT v FROM u WHERE id = 1 -> isolation
        b+: ROLLBACK
        b: SELECT v FROM u WHERE id = 1 -> hit""",
    "30 a read under SET LOCAL invalidates nothing": """
        a: SELECT v FROM u WHERE id = 1 -> miss
        b: BEGIN
        b: SET LOCAL app.who TO 'x'
        b: SELECT v FROM u WHERE id = 1 -> local_setting
        b: COMMIT
        b: BEGIN
        b: SET LOCAL ROLE helios_a
        b: SELECT v FROM u WHERE id = 1 -> local_setting
        b: COMMIT
        a: SELECT v FROM u WHERE id = 1 -> hit
        a: SELECT v FROM two.same -> miss
        a: SELECT v FROM one.same -> miss
        b: BEGIN
        b: SET LOCAL search_path TO two
        b: UPDATE same SET v = v
        a: SELECT v FROM one.same -> hit
        a: SELECT v FROM two.same -> in_flux
        b: ROLLBACK""",
    "31 levels of the session": """
        a: SELECT v FROM u WHERE id = 1 -> miss
        b+: SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE
        b: SELECT v FROM u WHERE id = 1 -> isolation
        b+: SET default_transaction_isolation TO 'read committed'
        b: SELECT v FROM u WHERE id = 1 -> any
        b+: SET default_transaction_isolation TO 'repeatable read'
        b: SELECT v FROM u WHERE id = 1 -> isolation""",
    "32 a failed transaction": """
        a: SELECT v FROM u WHERE id = 1 -> miss
        b: BEGIN
        b: SELECT nothing FROM u -> error 42703
        b: SELECT v FROM u WHERE id = 1 -> error 25P02
        b: ROLLBACK
        b: SELECT v FROM u WHERE id = 1 -> hit""",
    "34 lock, then read": """
        a: SELECT v FROM u WHERE id = 1 -> miss
        b: BEGIN
        b: SELECT v FROM u WHERE id = 1 -> hit
        b: SELECT id FROM u WHERE id = 1 FOR UPDATE
        b: SELECT v FROM u WHERE id = 1 -> locked
        b: COMMIT
        b: SELECT v FROM u WHERE id = 1 -> hit
        b: BEGIN
        b: LOCK TABLE t IN SHARE MODE
        b: SELECT v FROM u WHERE id = 1 -> locked
        b: COMMIT
        b: BEGIN
        b: SELECT pg_advisory_xact_lock(7)
        b: SELECT v FROM u WHERE id = 1 -> locked
        b: ROLLBACK
        b: SELECT v FROM u WHERE id = 1 -> hit""",
    "34 an advisory lock of the session": """
        a: SELECT v FROM u WHERE id = 1 -> miss
        b: SELECT pg_advisory_lock(7)
        b: SELECT v FROM u WHERE id = 1 -> never
        b: SELECT pg_advisory_unlock_all()""",
    "35 temporary tables": """
        a: SELECT v FROM u WHERE id = 1 -> miss
        b+: CREATE TEMP TABLE u (id int, v int)
        b+: INSERT INTO u VALUES (1, 4711)
        b: SELECT v FROM u WHERE id = 1 -> never
        a: SELECT v FROM u WHERE id = 1 -> any
        b+: DISCARD TEMP
        b: SELECT v FROM u WHERE id = 1 -> hit""",
    "35 temporary tables made by code we do not see": """
        a: SELECT v AS hidden FROM u WHERE id = 1 -> miss
        b+: BEGIN
        b+: DO $$ BEGIN CREATE TEMP TABLE u (id int, v int) ON COMMIT DROP; END $$
        b: SELECT v AS hidden FROM u WHERE id = 1 -> never
        b+: COMMIT""",
    "41 errors are not kept": """
        a: SELECT 10 / (v - 10) FROM t WHERE id = 1 -> error 22012
        b: UPDATE t SET v = 11 WHERE id = 1
        a: SELECT 10 / (v - 10) FROM t WHERE id = 1 -> miss
        a: SELECT 10 / (v - 10) FROM t WHERE id = 1 -> hit""",
}
