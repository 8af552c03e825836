"""The rows of a catalogue snapshot, and what a write may do to a relation."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from heliosproxy.sql.statement import Statement

# The bits of pg_trigger.tgtype.
INSERT: Final = 4
DELETE: Final = 8
UPDATE: Final = 16
TRUNCATE: Final = 32
ALL_OPS: Final = INSERT | DELETE | UPDATE | TRUNCATE

FIRST_USER_OID: Final = 16384  # FirstNormalObjectId of PostgreSQL: below it nothing was made by a user


class Everything(Enum):
    """The type of `EVERYTHING`."""

    EVERYTHING = "everything"


EVERYTHING: Final = Everything.EVERYTHING  # it may have written any relation of the database

Writes = frozenset[int] | Everything


class Table(NamedTuple):
    """A row of pg_class; *kind* and *persistence* are relkind and relpersistence."""

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    row_security: bool
    security_barrier: bool
    is_partition: bool


class Routine(NamedTuple):
    """A function, procedure or aggregate that a user, or an extension, made.

    Attributes:
        volatility: provolatile: "i", "s" or "v".
        extension: name of the extension it belongs to, or "".
        aggregate: whether its own code is that of *calls*.
        one_argument: None: it cannot be called with one argument; 0: with a scalar, or with a row of any
            relation; else the OID of the relation whose rows it takes.
        polymorphic: its one argument may be a row of any relation.
        source: CREATE FUNCTION of a plpgsql function, the body of an SQL one, else None.
        calls: OIDs of user functions it needs (arguments' defaults, an aggregate's steps).
    """

    oid: int
    schema: str
    name: str
    volatility: str
    language: str
    extension: str
    aggregate: bool
    one_argument: int | None
    polymorphic: bool
    source: str | None
    calls: tuple[int, ...]


class Operator(NamedTuple):
    """An operator that a user, or an extension, made; *function* is its oprcode."""

    schema: str
    name: str
    function: int


class Trigger(NamedTuple):
    """A trigger that may fire; *ops* as bits."""

    ops: int
    function: int


class ForeignKey(NamedTuple):
    """A foreign key seen from the referenced table; actions as in pg_constraint."""

    child: int
    on_delete: str
    on_update: str


class Rule(NamedTuple):
    """A rewrite rule other than a view's SELECT rule, with everything it names, read or written."""

    ops: int
    relations: frozenset[int]
    functions: frozenset[int]


class Base(NamedTuple):
    """What a query reads, views expanded.

    Attributes:
        oids: every relation that is read, views among them. Partitions and inheritance children are not
            listed: whatever writes them writes their parents, too (`Catalog.writes`, `Catalog.family`).
        views: the views among them, whose definitions have to be judged like statements.
        reasons: why a result must not be kept; empty when nothing speaks against it.
    """

    oids: frozenset[int]
    views: tuple[int, ...]
    reasons: frozenset[str]


class Overloads(NamedTuple):
    """What a name may call.

    Attributes:
        builtin: the worst volatility of the overloads that PostgreSQL itself brings, None without any.
        user: the overloads of users and extensions that may be meant.
    """

    builtin: str | None
    user: tuple[Routine, ...]


def words(text: str) -> frozenset[str]:
    """Return the words of *text*: a readable way to write down many names."""
    return frozenset(text.split())


def operations(statement: Statement) -> int:
    """Return what *statement* may do to the relations it writes, as bits.

    No statement inserts, updates, deletes or truncates without the keyword, and a keyword has only one
    spelling, so its absence from the text is a proof. Its presence is none: the answer may be too wide.
    """
    text = statement.text.lower()
    ops = 0
    if "insert" in text or "into" in text or "copy" in text:
        ops |= INSERT
    if "update" in text:
        ops |= UPDATE
    if "delete" in text:
        ops |= DELETE
    if "truncate" in text:
        ops |= TRUNCATE
    return ops or ALL_OPS
