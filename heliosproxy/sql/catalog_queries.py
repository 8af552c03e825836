"""The catalogue queries, for PostgreSQL 13 to 18. They run with search_path = pg_catalog."""

from __future__ import annotations

from typing import Final

_PG14: Final = 140000
_PG16: Final = 160000

DATABASE: Final = """
    SELECT oid, datdba, (SELECT system_identifier::text FROM pg_control_system())
    FROM pg_database WHERE datname = current_database()"""

# Temporary relations are left out: they come and go with sessions, and sessions that have some are bypassed.
TABLES: Final = """
    SELECT c.oid, n.nspname, relname, relkind::text, relpersistence::text, relrowsecurity,
           coalesce(EXISTS (SELECT FROM unnest(reloptions) AS option
                            WHERE option ~* '^security_barrier=(true|on|yes|1|t|y)'), false),
           relispartition
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'v', 'm', 'f', 'p', 'S') AND relpersistence <> 't'"""

INHERITS: Final = "SELECT inhrelid, inhparent FROM pg_inherits"

FOREIGN_KEYS: Final = """
    SELECT confrelid, conrelid, confdeltype::text, confupdtype::text FROM pg_constraint WHERE contype = 'f'"""

# Before PostgreSQL 15 the copies of a partitioned table's trigger on its partitions are marked internal.
TRIGGERS: Final = """
    SELECT tgrelid, tgtype, tgfoid FROM pg_trigger
    WHERE (NOT tgisinternal OR tgfoid >= 16384) AND tgenabled <> 'D'"""

RULES: Final = """
    SELECT ev_class, ev_type::text,
           array_remove(array_agg(DISTINCT refobjid) FILTER (WHERE refclassid = 'pg_class'::regclass), NULL),
           coalesce(array_agg(DISTINCT refobjid) FILTER (WHERE refclassid = 'pg_proc'::regclass), '{}')
    FROM pg_rewrite AS r JOIN pg_depend AS d ON classid = 'pg_rewrite'::regclass AND objid = r.oid
    WHERE r.oid >= 16384
    GROUP BY r.oid, ev_class, ev_type"""

VIEW_TEXTS: Final = """
    SELECT oid, pg_get_viewdef(oid) FROM pg_class
    WHERE relkind = 'v' AND relpersistence <> 't' AND oid >= 16384"""

# Functions of users in defaults, generated columns, checks (of domains: relation 0), policies, trigger
# conditions and index expressions.
EXPRESSION_FUNCTIONS: Final = """
    SELECT DISTINCT coalesce(adrelid, conrelid, polrelid, tgrelid, indrelid), refobjid
    FROM pg_depend
    LEFT JOIN pg_attrdef AS a ON classid = 'pg_attrdef'::regclass AND a.oid = objid
    LEFT JOIN pg_constraint AS c ON classid = 'pg_constraint'::regclass AND c.oid = objid
    LEFT JOIN pg_policy AS p ON classid = 'pg_policy'::regclass AND p.oid = objid
    LEFT JOIN pg_trigger AS t ON classid = 'pg_trigger'::regclass AND t.oid = objid
    LEFT JOIN pg_index AS i ON classid = 'pg_class'::regclass AND indexrelid = objid
    WHERE refclassid = 'pg_proc'::regclass AND refobjid IS DISTINCT FROM tgfoid
      AND coalesce(adrelid, conrelid, polrelid, tgrelid, indrelid) IS NOT NULL"""


def routines(version: int) -> str:
    """Functions, procedures and aggregates of users and extensions."""
    body = "prosrc" if version < _PG14 else "coalesce(pg_get_function_sqlbody(p.oid), prosrc)"
    return f"""
    SELECT p.oid, n.nspname, proname, provolatile::text, lanname, coalesce(extname, ''), prokind = 'a',
           CASE WHEN pronargs >= 1 AND pronargs - pronargdefaults <= 1 THEN coalesce(t.typrelid, 0) END,
           coalesce(t.typtype = 'p', false),
           CASE WHEN prokind = 'a' THEN NULL
                WHEN lanname = 'plpgsql' THEN pg_get_functiondef(p.oid)
                WHEN lanname = 'sql' THEN {body} END,
           ARRAY(SELECT refobjid FROM pg_depend
                 WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND refclassid = 'pg_proc'::regclass)
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = pronamespace
    JOIN pg_language AS l ON l.oid = prolang
    LEFT JOIN pg_type AS t ON t.oid = proargtypes[0]
    LEFT JOIN pg_depend AS d
           ON classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e'
    LEFT JOIN pg_extension AS e ON e.oid = d.refobjid
    WHERE p.oid >= 16384"""  # noqa: S608 - a choice between two constants


# The worst volatility of each name ('v' > 's' > 'i' by alphabet), and which may take a single argument.
BUILTINS: Final = """
    SELECT worst, string_agg(proname, ','), string_agg(proname, ',') FILTER (WHERE unary)
    FROM (SELECT proname::text, max(provolatile::text COLLATE "C") AS worst,
                 bool_or(pronargs >= 1 AND pronargs - pronargdefaults <= 1) AS unary
          FROM pg_proc WHERE oid < 16384 AND pronamespace = 'pg_catalog'::regnamespace
          GROUP BY proname) AS names
    GROUP BY worst"""

OPERATORS: Final = """
    SELECT n.nspname, oprname, oprcode::oid
    FROM pg_operator AS o JOIN pg_namespace AS n ON n.oid = oprnamespace
    WHERE o.oid >= 16384 AND oprcode <> 0"""

CASTS: Final = "SELECT castfunc FROM pg_cast WHERE castfunc >= 16384"

DOMAINS: Final = """
    SELECT typname FROM pg_type AS t
    WHERE typtype = 'd' AND EXISTS (SELECT FROM pg_constraint WHERE contypid = t.oid) AND t.oid >= 16384"""

# Temporary relations, of whatever session, that do more than keep rows: a write to them may reach others.
HOOKED_TEMPORARY: Final = f"""
    SELECT DISTINCT relname FROM pg_class AS c
    WHERE relpersistence = 't' AND relkind NOT IN ('i', 'I', 't', 'S', 'c')
      AND (relkind = 'v' OR relhasrules
           OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal)
           OR EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid)
           OR c.oid IN (SELECT relation FROM ({EXPRESSION_FUNCTIONS}) AS e (relation, function)))
    ORDER BY relname"""  # noqa: S608 - made of constants

EVENT_TRIGGERS: Final = "SELECT evtfoid FROM pg_event_trigger WHERE evtenabled <> 'D'"

SCHEMAS: Final = """
    SELECT nspname, nspowner,
           ARRAY(SELECT grantee FROM aclexplode(nspacl) WHERE privilege_type = 'USAGE')
    FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'"""


def roles(version: int) -> str:
    """Roles, and the roles whose privileges each inherits."""
    inherits = "rolinherit" if version < _PG16 else "inherit_option"
    return f"""
    SELECT rolname, oid, rolsuper,
           ARRAY(SELECT roleid FROM pg_auth_members AS m WHERE m.member = r.oid AND {inherits})
    FROM pg_roles AS r"""  # noqa: S608 - a choice between two constants


def probe(version: int) -> str:
    """A digest of everything a snapshot holds, or a result depends on besides table contents.

    Rows are told apart by OID and xmin: a changed row has a new one. Statistics kept in pg_class are updated
    in place and leave xmin alone. Temporary objects are left out.
    """
    digests = [_digest(table, where) for table, where in _WATCHED.items()]
    digests += [
        # Columns: DROP, RENAME and GRANT on a column leave pg_class alone.
        "(SELECT coalesce(sum(hashint8extended((attrelid::int8 << 32) | a.xmin::text::int8, attnum)), 0)"
        " FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = attrelid"
        " WHERE attrelid >= 16384 AND attnum > 0 AND relpersistence <> 't'"
        " AND relkind IN ('r','v','m','f','p'))",
        # Passwords are no business of ours, and pg_authid not ours to read.
        "(SELECT sum(hashtextextended(concat_ws(',', oid, rolname, rolsuper, rolinherit, rolbypassrls,"
        " rolconfig), 0)) FROM pg_roles)",
        "(SELECT coalesce(sum(hashtextextended(s::text, 0)), 0) FROM pg_db_role_setting AS s"
        " WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())))",
        "(SELECT hashtextextended(concat_ws(',', xmin, oid, datdba, datacl), 0) FROM pg_database"
        " WHERE datname = current_database())",
        "(SELECT coalesce(sum(hashtextextended(m::text, 0)), 0) FROM pg_auth_members AS m)",
        "(SELECT coalesce(sum(hashtextextended(i::text, 0)), 0) FROM pg_inherits AS i)",
        "(SELECT sum(hashtextextended(m::text, 0)) FROM pg_ts_config_map AS m)",
        f"(SELECT string_agg(relname, ',') FROM ({HOOKED_TEMPORARY}) AS h)",  # noqa: S608 - constants
        "extract(epoch FROM pg_conf_load_time())",
        "extract(epoch FROM pg_postmaster_start_time())",
        "(SELECT system_identifier FROM pg_control_system())",
        # CASE decides first: a standby refuses pg_current_wal_lsn().
        "CASE WHEN pg_is_in_recovery() THEN (SELECT 'standby' || timeline_id FROM pg_control_checkpoint())"
        " ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END",
    ]
    return f"SELECT concat_ws(':', {', '.join(digests)})"


_RELATIONS: Final = "relkind IN ('r', 'v', 'm', 'f', 'p', 'S') AND relpersistence <> 't'"
_LASTING: Final = f"(SELECT oid FROM pg_class WHERE {_RELATIONS})"  # noqa: S608 - made of constants
_WATCHED: Final = {
    "pg_class": _RELATIONS,
    "pg_proc": "oid >= 16384",
    "pg_trigger": "NOT tgisinternal OR tgfoid >= 16384",
    "pg_constraint": f"oid >= 16384 AND (conrelid = 0 OR conrelid IN {_LASTING})",
    "pg_rewrite": f"oid >= 16384 AND ev_class IN {_LASTING}",
    "pg_operator": "oid >= 16384",
    "pg_cast": "oid >= 16384",
    "pg_namespace": "nspname !~ '^pg_(toast|temp)'",
    "pg_policy": "true",
    "pg_type": "typtype IN ('d', 'e', 'r') AND oid >= 16384",
    "pg_enum": "true",
    "pg_collation": "oid >= 16384",
    "pg_ts_config": "true",
    "pg_ts_dict": "true",
    "pg_extension": "true",
    "pg_event_trigger": "true",
}


def _digest(table: str, where: str) -> str:
    digest = "coalesce(sum(hashint8extended((oid::int8 << 32) | xmin::text::int8, 0)), 0)"
    return f"(SELECT {digest} FROM {table} WHERE {where})"  # noqa: S608 - made of constants
