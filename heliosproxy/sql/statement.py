"""What the path knows about a statement: facts read from the parse tree, nothing decided.

One `Statement` describes one *text* (after placeholders became ``$1``). It holds no parameter value and
depends on no catalogue, so one object serves every session that sends the text. Names are as written,
folded to lower case unless quoted; which object a name means is the catalogue's to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """The kind of a statement; of several in one text: MULTI."""

    SELECT = "select"  # also VALUES and TABLE
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    MERGE = "merge"
    COPY = "copy"
    EXPLAIN = "explain"
    CALL = "call"
    DO = "do"
    SHOW = "show"
    SET = "set"  # SET, RESET, SET TRANSACTION, SET CONSTRAINTS
    DISCARD = "discard"
    TRANSACTION = "transaction"
    PREPARE = "prepare"
    EXECUTE = "execute"
    DEALLOCATE = "deallocate"
    DECLARE = "declare"
    FETCH = "fetch"  # also MOVE
    CLOSE = "close"
    LISTEN = "listen"
    UNLISTEN = "unlisten"
    NOTIFY = "notify"
    LOCK = "lock"
    TRUNCATE = "truncate"
    REFRESH = "refresh"  # REFRESH MATERIALIZED VIEW
    DDL = "ddl"  # CREATE, ALTER, DROP, GRANT, REVOKE, COMMENT, ...
    MAINTENANCE = "maintenance"  # VACUUM, ANALYZE, CHECKPOINT, REINDEX, CLUSTER
    LOAD = "load"
    MULTI = "multi"
    EMPTY = "empty"
    UNCLASSIFIED = "unclassified"  # a syntax error, or too deep for us: it may do anything


class TransactionOp(StrEnum):
    """A transaction control statement (PostgreSQL, SQL Commands: BEGIN, SAVEPOINT, ...)."""

    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    RELEASE = "release"
    ROLLBACK_TO = "rollback_to"
    PREPARE = "prepare_transaction"
    COMMIT_PREPARED = "commit_prepared"
    ROLLBACK_PREPARED = "rollback_prepared"


class Relation(NamedTuple):
    """A relation as the text names it; *schema* None means: found by search_path."""

    schema: str | None
    name: str


class Function(NamedTuple):
    """A function or operator as the text names it; *schema* None means: found by search_path."""

    schema: str | None
    name: str


class Parameter(NamedTuple):
    """The value is that of parameter *number* (1-based)."""

    number: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """Transaction control: what is asked for.

    Attributes:
        name: savepoint name or gid, else None.
        options: what BEGIN or SET TRANSACTION asks for, lower case: ``{"isolation": "serializable",
            "read_only": "on", "deferrable": "off"}``; only what was written.
        chain: AND CHAIN.
    """

    op: TransactionOp
    name: str | None = None
    options: dict[str, str] = field(default_factory=dict, hash=False)
    chain: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """One change of a setting by SET, RESET or a top-level ``set_config()``.

    Attributes:
        name: lower case; ``"*"`` for RESET ALL; ``"role"`` and ``"session_authorization"`` too. A `Parameter`
            when set_config takes it from one; None when it is computed (nobody can know it from the text).
        value: the right-hand side as SQL text, ready for ``SET name TO …`` (already quoted: ``'a', 'b'``);
            None is RESET / DEFAULT; a `Parameter` when set_config takes it from one.
        local: SET LOCAL or ``is_local`` true.
        known: False when name, value or is_local of set_config cannot be told from text and parameters.
    """

    name: str | Parameter | None
    value: str | Parameter | None
    local: bool = False
    known: bool = True


@dataclass(frozen=True, slots=True)
class Statement:
    """The facts of one text.

    Attributes:
        text: the SQL, placeholders as ``$1``.
        verb: the first word of the command as its tag has it, upper case (``"SELECT"``, ``"CREATE TABLE"``).
        reads: relations read anywhere in the tree, CTE names resolved by scope and left out. A target of
            UPDATE, DELETE or MERGE is read as well as written.
        writes: relations written by the statement itself (INSERT, UPDATE, DELETE, MERGE, TRUNCATE, COPY FROM,
            SELECT INTO, data-modifying CTEs, EXPLAIN ANALYZE of these). Catalogue closure is not applied.
        writes_anything: it may write what the text does not name (DO, CALL, unclassified, EXECUTE, …).
        functions: every function called, aggregates and window functions included, except set_config's
            effect which is in `settings`. SQL value functions (CURRENT_DATE, …) are named as the keyword,
            in lower case, in schema pg_catalog.
        operators: operators named, ``schema`` as in OPERATOR(schema.+).
        type_casts: names of types cast to (last part, lower case): regclass and kin depend on search_path.
        parameters: highest parameter number; 0 when there is none.
        clock: CURRENT_DATE and its kin, or a string constant holding now, today, tomorrow or yesterday as a
            word.
        row_locks: FOR UPDATE / NO KEY UPDATE / SHARE / KEY SHARE anywhere.
        tablesample: TABLESAMPLE anywhere.
        unordered_limit: LIMIT/OFFSET/FETCH, at any level, without ORDER BY at that level; DISTINCT ON without
            ORDER BY too.
        transaction: for Kind.TRANSACTION (and SET TRANSACTION: op None is not used; see settings).
        settings: changes of settings, in order.
        pins: reasons why it binds the session to its server connection: "temp_table", "advisory_lock" (of the
            session level), "with_hold", "prepare" (SQL PREPARE), "load", "listen", "opaque_setting".
        temp: it creates a temporary relation (CREATE TEMP, SELECT INTO TEMP, pg_temp.x).
        in_block: False for what PostgreSQL refuses inside a transaction block (VACUUM, CREATE DATABASE, …).
        portal: a cursor name for DECLARE, FETCH, CLOSE, else None.
        name: the channel of LISTEN and UNLISTEN, the statement of PREPARE, EXECUTE (EXPLAIN EXECUTE, CREATE TABLE AS
            EXECUTE) and DEALLOCATE; None is all of them, or none.
        notice: channel and payload, where it is one NOTIFY, or a pg_notify() by itself, of constants and parameters.
        simple_only: it has several statements, so only the simple protocol takes it.
        parts: for MULTI, one Statement each (text spliced by position); else empty.
        hints: from ``/* helios:cache=off ttl=5s */`` comments: {"cache": "off", "ttl": "5s"}; last one wins.
        returns_rows: SELECT, SHOW, EXPLAIN, RETURNING, FETCH, VALUES, EXECUTE (maybe).
        error: why it is UNCLASSIFIED, for the statistics; None otherwise.
        cost: bytes this object holds, for the memo's bound (an estimate from the text's and sets' sizes).
    """

    text: str
    kind: Kind
    verb: str = ""
    reads: frozenset[Relation] = frozenset()
    writes: frozenset[Relation] = frozenset()
    writes_anything: bool = False
    functions: frozenset[Function] = frozenset()
    operators: frozenset[Function] = frozenset()
    type_casts: frozenset[str] = frozenset()
    parameters: int = 0
    clock: bool = False
    row_locks: bool = False
    tablesample: bool = False
    unordered_limit: bool = False
    transaction: Transaction | None = None
    settings: tuple[Setting, ...] = ()
    pins: frozenset[str] = frozenset()
    temp: bool = False
    in_block: bool = True
    portal: str | None = None
    name: str | None = None
    notice: tuple[str | Parameter, str | Parameter] | None = None
    simple_only: bool = False
    parts: tuple[Statement, ...] = ()
    hints: dict[str, str] = field(default_factory=dict, hash=False)
    returns_rows: bool = False
    error: str | None = None
    cost: int = 0
