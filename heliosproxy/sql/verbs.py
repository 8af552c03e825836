"""Tags of statements: their kind, and the first words of their command tag."""

from __future__ import annotations

import re

from heliosproxy.sql.parser import Node
from heliosproxy.sql.statement import Kind, TransactionOp

# Kind, verb, and whether it returns rows; DML with RETURNING and FETCH say more in their trees.
PLAIN: dict[str, tuple[Kind, str, bool]] = {
    "SelectStmt": (Kind.SELECT, "SELECT", True),
    "InsertStmt": (Kind.INSERT, "INSERT", False),
    "UpdateStmt": (Kind.UPDATE, "UPDATE", False),
    "DeleteStmt": (Kind.DELETE, "DELETE", False),
    "MergeStmt": (Kind.MERGE, "MERGE", False),
    "CopyStmt": (Kind.COPY, "COPY", False),
    "ExplainStmt": (Kind.EXPLAIN, "EXPLAIN", True),
    "CallStmt": (Kind.CALL, "CALL", True),
    "DoStmt": (Kind.DO, "DO", False),
    "VariableShowStmt": (Kind.SHOW, "SHOW", True),
    "VariableSetStmt": (Kind.SET, "SET", False),
    "ConstraintsSetStmt": (Kind.SET, "SET CONSTRAINTS", False),
    "DiscardStmt": (Kind.DISCARD, "DISCARD", False),
    "TransactionStmt": (Kind.TRANSACTION, "", False),
    "PrepareStmt": (Kind.PREPARE, "PREPARE", False),
    "ExecuteStmt": (Kind.EXECUTE, "EXECUTE", True),
    "DeallocateStmt": (Kind.DEALLOCATE, "DEALLOCATE", False),
    "DeclareCursorStmt": (Kind.DECLARE, "DECLARE CURSOR", False),
    "FetchStmt": (Kind.FETCH, "FETCH", True),
    "ClosePortalStmt": (Kind.CLOSE, "CLOSE CURSOR", False),
    "ListenStmt": (Kind.LISTEN, "LISTEN", False),
    "UnlistenStmt": (Kind.UNLISTEN, "UNLISTEN", False),
    "NotifyStmt": (Kind.NOTIFY, "NOTIFY", False),
    "LockStmt": (Kind.LOCK, "LOCK TABLE", False),
    "TruncateStmt": (Kind.TRUNCATE, "TRUNCATE TABLE", False),
    "RefreshMatViewStmt": (Kind.REFRESH, "REFRESH MATERIALIZED VIEW", False),
    "VacuumStmt": (Kind.MAINTENANCE, "ANALYZE", False),
    "CheckPointStmt": (Kind.MAINTENANCE, "CHECKPOINT", False),
    "ReindexStmt": (Kind.MAINTENANCE, "REINDEX", False),
    "ClusterStmt": (Kind.MAINTENANCE, "CLUSTER", False),
    "LoadStmt": (Kind.LOAD, "LOAD", False),
}

TRANSACTIONS: dict[str, tuple[TransactionOp, str]] = {
    "TRANS_STMT_BEGIN": (TransactionOp.BEGIN, "BEGIN"),
    "TRANS_STMT_START": (TransactionOp.BEGIN, "START TRANSACTION"),
    "TRANS_STMT_COMMIT": (TransactionOp.COMMIT, "COMMIT"),
    "TRANS_STMT_ROLLBACK": (TransactionOp.ROLLBACK, "ROLLBACK"),
    "TRANS_STMT_SAVEPOINT": (TransactionOp.SAVEPOINT, "SAVEPOINT"),
    "TRANS_STMT_RELEASE": (TransactionOp.RELEASE, "RELEASE"),
    "TRANS_STMT_ROLLBACK_TO": (TransactionOp.ROLLBACK_TO, "ROLLBACK"),
    "TRANS_STMT_PREPARE": (TransactionOp.PREPARE, "PREPARE TRANSACTION"),
    "TRANS_STMT_COMMIT_PREPARED": (TransactionOp.COMMIT_PREPARED, "COMMIT PREPARED"),
    "TRANS_STMT_ROLLBACK_PREPARED": (TransactionOp.ROLLBACK_PREPARED, "ROLLBACK PREPARED"),
}

_DDL_VERBS = {
    "CreateTableAsStmt": "CREATE TABLE AS",
    "CreateStmt": "CREATE TABLE",
    "ViewStmt": "CREATE VIEW",
    "IndexStmt": "CREATE INDEX",
    "CreateSeqStmt": "CREATE SEQUENCE",
    "AlterSeqStmt": "ALTER SEQUENCE",
    "CreateTrigStmt": "CREATE TRIGGER",
    "CreateEventTrigStmt": "CREATE EVENT TRIGGER",
    "AlterEventTrigStmt": "ALTER EVENT TRIGGER",
    "CreatePLangStmt": "CREATE LANGUAGE",
    "CreateAmStmt": "CREATE ACCESS METHOD",
    "CreateFdwStmt": "CREATE FOREIGN DATA WRAPPER",
    "AlterFdwStmt": "ALTER FOREIGN DATA WRAPPER",
    "CreateForeignServerStmt": "CREATE SERVER",
    "AlterForeignServerStmt": "ALTER SERVER",
    "CreateTableSpaceStmt": "CREATE TABLESPACE",
    "DropTableSpaceStmt": "DROP TABLESPACE",
    "AlterTableSpaceOptionsStmt": "ALTER TABLESPACE",
    "AlterTableMoveAllStmt": "ALTER TABLE",
    "AlterDatabaseSetStmt": "ALTER DATABASE",
    "AlterDatabaseRefreshCollStmt": "ALTER DATABASE",
    "AlterRoleSetStmt": "ALTER ROLE",
    "AlterEnumStmt": "ALTER TYPE",
    "CompositeTypeStmt": "CREATE TYPE",
    "CreateEnumStmt": "CREATE TYPE",
    "CreateRangeStmt": "CREATE TYPE",
    "RuleStmt": "CREATE RULE",
    "AlterExtensionContentsStmt": "ALTER EXTENSION",
    "AlterStatsStmt": "ALTER STATISTICS",
    "CreateStatsStmt": "CREATE STATISTICS",
    "AlterTSDictionaryStmt": "ALTER TEXT SEARCH DICTIONARY",
    "AlterTSConfigurationStmt": "ALTER TEXT SEARCH CONFIGURATION",
    "AlterOpFamilyStmt": "ALTER OPERATOR FAMILY",
    "CreateOpFamilyStmt": "CREATE OPERATOR FAMILY",
    "CreateOpClassStmt": "CREATE OPERATOR CLASS",
    "SecLabelStmt": "SECURITY LABEL",
    "ImportForeignSchemaStmt": "IMPORT FOREIGN SCHEMA",
    "ReassignOwnedStmt": "REASSIGN OWNED",
    "DropdbStmt": "DROP DATABASE",
    "CreatedbStmt": "CREATE DATABASE",
    "CommentStmt": "COMMENT",
    "AlterDefaultPrivilegesStmt": "ALTER DEFAULT PRIVILEGES",
    "AlterCollationStmt": "ALTER COLLATION",
}
_OBJECTS = {
    "ATTRIBUTE": "TYPE",
    "DOMCONSTRAINT": "DOMAIN",
    "FDW": "FOREIGN DATA WRAPPER",
    "FOREIGN_SERVER": "SERVER",
    "MATVIEW": "MATERIALIZED VIEW",
    "OPCLASS": "OPERATOR CLASS",
    "OPFAMILY": "OPERATOR FAMILY",
    "STATISTIC_EXT": "STATISTICS",
    "TABCONSTRAINT": "TABLE",
    "TSCONFIGURATION": "TEXT SEARCH CONFIGURATION",
    "TSDICTIONARY": "TEXT SEARCH DICTIONARY",
    "TSPARSER": "TEXT SEARCH PARSER",
    "TSTEMPLATE": "TEXT SEARCH TEMPLATE",
}
# The object of these is in the statement.
_BY_OBJECT = {
    "DropStmt": ("DROP", "removeType"),
    "RenameStmt": ("ALTER", "renameType"),
    "AlterTableStmt": ("ALTER", "objtype"),
    "AlterOwnerStmt": ("ALTER", "objectType"),
    "AlterObjectSchemaStmt": ("ALTER", "objectType"),
    "AlterObjectDependsStmt": ("ALTER", "objectType"),
    "AlterFunctionStmt": ("ALTER", "objtype"),
    "DefineStmt": ("CREATE", "kind"),
}
_DDL = re.compile("(?:Create|Alter|Drop)[A-Za-z]*Stmt")
_WORDS = re.compile("[A-Z][a-z]*")


def ddl_verb(tag: str, body: Node) -> str | None:
    """The verb of a DDL statement, or None when *tag* is none that we know: then it may do anything."""
    if tag in _BY_OBJECT:
        word, key = _BY_OBJECT[tag]
        what = body.get(key, "").removeprefix("OBJECT_")
        if what == "COLUMN":
            what = body.get("relationType", "").removeprefix("OBJECT_")
        return f"{word} {_OBJECTS.get(what, what.replace('_', ' '))}"
    if tag in ("GrantStmt", "GrantRoleStmt"):
        role = " ROLE" if tag == "GrantRoleStmt" else ""
        return ("GRANT" if body.get("is_grant") else "REVOKE") + role
    if tag == "CreateTableAsStmt" and body.get("objtype") == "OBJECT_MATVIEW":
        return "CREATE MATERIALIZED VIEW"
    if tag == "CreateFunctionStmt" and body.get("is_procedure"):
        return "CREATE PROCEDURE"
    if tag in _DDL_VERBS:
        return _DDL_VERBS[tag]
    if _DDL.fullmatch(tag):
        return " ".join(_WORDS.findall(tag.removesuffix("Stmt"))).upper()
    return None
