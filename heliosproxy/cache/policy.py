"""Which statements may be answered from the cache, and what the others invalidate: hazards/cache.md. Pure.

Default deny: a statement is cacheable only when it is proven to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from heliosproxy.cache.functions import STABLE_BY_SETTINGS
from heliosproxy.cache.policy_verdict import Verdict, union
from heliosproxy.cache.policy_writes import Trust, effects, resolved
from heliosproxy.sql.catalog import Catalog
from heliosproxy.sql.catalog_facts import EVERYTHING, Base, Everything, words
from heliosproxy.sql.catalog_names import aliases, attributes
from heliosproxy.sql.hint_values import checked
from heliosproxy.sql.statement import Kind, Statement

_CATALOG_PATH = ("pg_catalog",)
_ENTRY_BYTES = 400

# Their input looks names up in the catalogue: by search_path, by role.
_NAME_TYPES = frozenset(
    [
        "regclass",
        "regproc",
        "regprocedure",
        "regoper",
        "regoperator",
        "regtype",
        "regnamespace",
        "regrole",
        "regconfig",
        "regdictionary",
        "regcollation",
        "regdatabase",
        "aclitem",
        "refcursor",
    ]
)
_VERB = re.compile(r"[A-Za-z]+(?: [A-Za-z]+)*")
# What a command begins with (PostgreSQL, SQL Commands). "users", or "FROM users", is no verb but an expression.
_COMMANDS = words(
    """
    abort alter analyze begin call checkpoint close cluster comment commit copy create deallocate declare delete
    discard do drop end execute explain fetch grant import insert listen load lock merge move notify prepare
    reassign refresh reindex release reset revoke rollback savepoint security select set show start table
    truncate unlisten update vacuum values
    """
)
_CLOCK_WORD = re.compile(rb"(?<![a-z])(?:now|today|tomorrow|yesterday)(?![a-z])", re.IGNORECASE)


class TableRule(Protocol):
    """One ``[[cache.table]]`` of the configuration."""

    @property
    def name(self) -> str:
        """The table, schema-qualified or not."""

    @property
    def enabled(self) -> bool:
        """Whether results that read it are kept."""


class Policy:
    """The judge of statements, for one configuration.

    Args:
        trusted_functions: user functions whose result depends on their arguments and the tables alone
            (``"app.slugify"``, or ``"slugify"`` in any schema).
        allow_unordered_limit: whether LIMIT without ORDER BY may be kept (row 14).
        exclude_patterns: a bare verb (``"SELECT"``) names a kind of statement; anything else is a regular
            expression, searched in the text.
        tables: rules; those with ``enabled`` false are never kept.
        memo_size: bytes, about, for the verdicts remembered.
    """

    def __init__(
        self,
        trusted_functions: Sequence[str] = (),
        allow_unordered_limit: bool = False,
        exclude_patterns: Sequence[str] = (),
        tables: Iterable[TableRule] = (),
        memo_size: int = 8_000_000,
    ) -> None:
        self._trust = Trust(tuple(trusted_functions))
        self._allow_unordered_limit = allow_unordered_limit
        self._excluded_verbs = tuple(p.upper() for p in exclude_patterns if _is_verb(p))
        self._excluded = tuple(re.compile(p) for p in exclude_patterns if not _is_verb(p))
        self._disabled = tuple(rule.name for rule in tables if not rule.enabled)
        self._memo: dict[tuple[str, int, int, tuple[str, ...], bool], Verdict] = {}
        self._memo_size = memo_size
        self._memo_bytes = 0

    def judge(
        self, statement: Statement, catalog: Catalog, search_path: tuple[str, ...], temp: bool = False
    ) -> Verdict:
        """Return the verdict on *statement*.

        Args:
            search_path: what `Catalog.search_path` says of the session's setting and effective role.
            temp: the session has, or may have, temporary tables, which shadow names (row 35).
        """
        key = (statement.text, catalog.database_oid, catalog.epoch, search_path, temp)
        verdict = self._memo.get(key)
        if verdict is None:
            verdict = self._judge(statement, catalog, search_path, temp)
            written = () if isinstance(verdict.writes, Everything) else verdict.writes
            size = _ENTRY_BYTES + len(statement.text) + 64 * (len(verdict.reads) + len(written))
            if self._memo_bytes + size > self._memo_size:
                self._memo.clear()
                self._memo_bytes = 0
            self._memo_bytes += size
            self._memo[key] = verdict
        return verdict

    def parameters_ok(self, values: Iterable[bytes | str | None]) -> bool:
        """Whether no parameter may be a clock word (row 2): ``$1 = 'today'`` compared with a date.

        Args:
            values: text parameters as dumped; binary ones need no look.
        """
        return not any(value is not None and is_clock_word(value) for value in values)

    def _judge(self, statement: Statement, catalog: Catalog, path: tuple[str, ...], temp: bool) -> Verdict:
        if statement.parts:
            return self._several(statement, catalog, path, temp)
        verdict = effects(statement, catalog, path, self._trust, temp)
        oids, known = resolved(statement.reads, catalog, path)
        base = catalog.reads(oids)
        reason = self._shape(statement) or self._body(statement, catalog, path)
        if not reason:
            views = (self._body(catalog.view_statement(oid), catalog, _CATALOG_PATH) for oid in base.views)
            reason = next(filter(None, views), "")
        if not reason:
            reason = self._relations(base, known, catalog)
        if not reason and (verdict.locks or verdict.opaque or verdict.ddl or verdict.writes):
            reason = "writes"
        if not reason and temp:
            reason = "temporary_tables"
        return replace(verdict, cacheable=not reason, reason=reason, reads=base.oids)

    def _several(self, statement: Statement, catalog: Catalog, path: tuple[str, ...], temp: bool) -> Verdict:
        verdict = Verdict(False, "several_statements")
        for part in statement.parts:
            one = self._judge(part, catalog, path, temp)
            moved = verdict.ddl or verdict.opaque or any(earlier.settings for earlier in statement.parts)
            if moved and (one.writes or one.reads):
                # What went before may have changed what names mean.
                one = replace(one, writes=EVERYTHING)
            temp |= part.temp
            verdict = replace(
                verdict,
                reads=verdict.reads | one.reads,
                writes=union(verdict.writes, one.writes),
                locks=verdict.locks or one.locks,
                ddl=verdict.ddl or one.ddl,
                opaque=verdict.opaque or one.opaque,
            )
        return verdict

    def _relations(self, base: Base, known: bool, catalog: Catalog) -> str:
        """Return why what reads *base* is not kept, or ""."""
        if base.reasons:
            return min(base.reasons)
        if not known:
            return "unknown_relation"
        if not base.oids:
            return "no_relation"  # nothing to win, and SELECT 1 asks whether the server is there
        if any(base.oids & catalog.relations_named(name) for name in self._disabled):
            return "table_disabled"
        return ""

    def _shape(self, statement: Statement) -> str:
        """Return why a statement of this shape is not kept, or ""."""
        if statement.kind is not Kind.SELECT:
            return "not_select"
        if statement.writes or statement.writes_anything or statement.temp:
            return "writes"
        if statement.settings:
            return "setting"
        if statement.hints and not checked(statement.hints).get("cache", True):
            return "hint"
        if statement.verb in self._excluded_verbs or any(p.search(statement.text) for p in self._excluded):
            return "excluded"
        return ""

    def _body(self, statement: Statement, catalog: Catalog, path: tuple[str, ...]) -> str:
        """Return why the query, or the definition of a view it reads, is not kept, or ""."""
        if statement.kind is not Kind.SELECT or statement.parts or statement.writes_anything:
            return "unclassified"
        if statement.clock:
            return "clock"
        if statement.row_locks:
            return "locks"
        if statement.tablesample:
            return "tablesample"
        if statement.unordered_limit and not self._allow_unordered_limit:
            return "unordered_limit"
        if not _NAME_TYPES.isdisjoint(statement.type_casts):
            return "name_cast"
        if not catalog.rows.checked_domains.isdisjoint(statement.type_casts):
            return "domain_cast"
        if any(catalog.operator_is_foreign(operator, path) for operator in statement.operators):
            return "operator"
        if any(routine not in self._trust for routine in catalog.foreign_casts()):
            return "user_cast"
        return self._functions(statement, catalog, path) or self._attributes(statement, catalog)

    def _functions(self, statement: Statement, catalog: Catalog, path: tuple[str, ...]) -> str:
        for function in statement.functions:
            found = catalog.functions(function, path)
            if any(routine not in self._trust for routine in found.user):
                return "user_function"
            if found.builtin is None and not found.user:
                return "unknown_function"
            if found.builtin == "v":
                return "volatile_function"
            if found.builtin == "s" and function.name not in STABLE_BY_SETTINGS:
                return "stable_function"
        return ""

    def _attributes(self, statement: Statement, catalog: Catalog) -> str:
        """Names behind a dot that may be calls: ``(x).f``, ``t.f``."""
        for name, qualifier in attributes(statement.text):
            if name.startswith("u&"):
                return "attribute_function"  # an escaped name: nobody writes that, so nobody needs it kept
            routines = [r for r in catalog.row_functions(name) if r not in self._trust]
            if any(r.polymorphic or r.one_argument or qualifier is None for r in routines):
                return "attribute_function"
            unsafe = name in catalog.rows.one_argument_builtins and name not in STABLE_BY_SETTINGS
            # g.f with f of a scalar needs a g that is no table: the result of a function in FROM.
            if unsafe and (qualifier is None or statement.functions):
                tables = frozenset(relation.name for relation in statement.reads)
                if qualifier not in aliases(statement.text, tables):
                    return "attribute_function"
        return ""


def _is_verb(pattern: str) -> bool:
    return _VERB.fullmatch(pattern) is not None and pattern.lower().split()[0] in _COMMANDS


def is_clock_word(value: bytes | str) -> bool:
    """Whether *value* holds now, today, tomorrow or yesterday as a word."""
    data = value.encode(errors="surrogateescape") if isinstance(value, str) else value
    if _CLOCK_WORD.search(data):
        return True
    # Array and record input drop quotes and backslashes: '{n\ow}'.
    plain = data.replace(b"\\", b"").replace(b'"', b"")
    return plain != data and _CLOCK_WORD.search(plain) is not None
