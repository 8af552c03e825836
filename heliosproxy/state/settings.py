"""What a session set beyond its login, and how transactions undo it.

PostgreSQL keeps a stack of values per setting: SET LOCAL ends with the transaction, ROLLBACK restores the
values of its BEGIN, ROLLBACK TO those of its SAVEPOINT (PostgreSQL, SQL Commands, SET: Notes). Here every
change makes a new dict, so remembering a state is keeping a reference.

``role`` and ``session_authorization`` are settings like any other, with two rules of their own: SET SESSION
AUTHORIZATION resets the role, and RESET ALL leaves both alone.
"""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import TypeAlias, cast

from ..sql.statement import Setting
from .savepoints import Savepoints

Values: TypeAlias = MappingProxyType[str, str]
Signature: TypeAlias = tuple[tuple[str, str], ...]

EMPTY: Values = MappingProxyType({})
NONE: frozenset[str] = frozenset()  # one for all sessions: each empty set takes 216 bytes
# Sessions that have set the same in the same order have one object for it, and its signature: that two are alike is
# seen at a glance then, and costs no memory. Bounded, because an application may set a new value each time.
_shared: dict[Signature, tuple[Values, Signature | None]] = {}
_MOST_SHARED, _MOST_ITEMS, _MOST_TEXT = 1000, 20, 2000

# Kept by RESET ALL (GUC_NO_RESET_ALL in guc_tables.c).
_NO_RESET_ALL = frozenset({"role", "session_authorization"})
# They describe the transaction, not the session; SET of them ends with it.
TRANSACTIONAL = frozenset({"transaction_isolation", "transaction_read_only", "transaction_deferrable"})

# By these a server reads a text when it is prepared: where names are looked up, and what its constants mean.
READING = (
    "array_nulls",
    "backslash_quote",
    "client_encoding",
    "datestyle",
    "intervalstyle",
    "lc_monetary",
    "role",
    "search_path",
    "session_authorization",
    "standard_conforming_strings",
    "timezone",
    "timezone_abbreviations",
    "transform_null_equals",
    "xmloption",
)


class Settings:
    """The settings of one session.

    A client may bring settings of its own along (the startup packet of the protocol): they are its login's values,
    to which RESET returns.

    Attributes:
        values: name → right-hand side as SQL text, in the order in which they were last set.
        local: what SET LOCAL changed in the open transaction; name → SQL text, None for SET LOCAL … TO DEFAULT.
        signature: equal for sessions whose `values` are equal; None when nothing was set.
        reading: equal for sessions to which the same text means the same; "" when nothing that matters was set.
        lacking: names that a RESET at the server has left without the value the client's login brought along.
        savepoints: of the open transaction, with `values` and `local` as they were.
    """

    __slots__ = ("_at_begin", "_base", "lacking", "local", "reading", "savepoints", "signature", "values")

    def __init__(self) -> None:
        self._base: Values = EMPTY
        self.values: Values = EMPTY
        self.local: dict[str, str | None] = {}
        self.signature: Signature | None = None
        self.reading = ""
        self.lacking = NONE
        self._at_begin: Values | None = None
        self.savepoints: Savepoints[tuple[Values, dict[str, str | None]]] = Savepoints()

    def begin_with(self, base: Values) -> None:
        """The login's own values, on top of the server's: what RESET and DISCARD ALL return to."""
        self._set(base)
        self._base = self.values

    def go_on_with(self, values: Values) -> None:
        """What the session has set in another process, which it comes from."""
        self._set(values)

    def apply(self, change: Setting, *, in_transaction: bool) -> None:
        """Record *change*, which the server has accepted; its name and value must be text or None."""
        name, value = change.name, change.value
        if not isinstance(name, str) or not (value is None or isinstance(value, str)):
            raise TypeError(f"the setting is not resolved: {change!r}")
        if in_transaction and self._at_begin is None:
            self._at_begin = self.values
        if change.local or name in TRANSACTIONAL:
            if in_transaction:  # outside a transaction it has no effect (a WARNING of the server)
                self.local[name] = value
                self._read()
            return
        new = dict(self.values)
        if name == "*":
            self.lacking |= frozenset(self._base)
            new = {**self._base, **{k: v for k, v in new.items() if k in _NO_RESET_ALL}}
        else:
            if name == "session_authorization":
                new.pop("role", None)
            new.pop(name, None)
            if value is None and name in self._base:
                value = self._base[name]
                self.lacking |= {name}
            if value is not None:
                new[name] = value
        self._set(MappingProxyType(new))

    def forget(self) -> None:
        """Everything is back to the login's values: DISCARD ALL."""
        self._set(self._base)
        self.end()

    @property
    def pending(self) -> bool:
        """Whether the end of the open transaction may change something."""
        return bool(self.local) or (self._at_begin is not None and self._at_begin is not self.values)

    def savepoint(self, name: str) -> None:
        """SAVEPOINT *name*."""
        if self._at_begin is None:
            self._at_begin = self.values
        self.savepoints.keep(name, (self.values, dict(self.local)))

    def release(self, name: str) -> None:
        """RELEASE *name*: it and the savepoints after it are gone, their changes stay."""
        self.savepoints.release(name)

    def rollback_to(self, name: str) -> None:
        """ROLLBACK TO *name*: undo what came after; the savepoint itself stays."""
        if (kept := self.savepoints.back_to(name)) is not None:
            values, local = kept
            self.local = dict(local)
            self._set(values)
            self._read()

    def end(self, *, committed: bool = True) -> bool:
        """The transaction is over; returns whether that changed `values`."""
        undone = not committed and self._at_begin is not None and self._at_begin is not self.values
        if undone:
            self._set(cast(Values, self._at_begin))
        self._at_begin = None
        if self.local:
            self.local = {}
            self._read()
        self.savepoints.clear()
        return undone

    def _set(self, values: Values) -> None:
        if values is not self.values:
            self.values, self.signature = alike(values)
            self._read()

    def _read(self) -> None:
        values: dict[str, str | None] = {**self.values, **self.local}
        # One text for all who read alike: most clients bring some of these settings along.
        self.reading = sys.intern("\0".join(f"{name}={values[name]}" for name in READING if name in values))


def alike(values: Values) -> tuple[Values, Signature | None]:
    """The object for *values* that all have who set the same in the same order, and the signature."""
    if not values:
        return EMPTY, None
    items = tuple(values.items())
    found = _shared.get(items)
    if found is None:
        found = values, tuple(sorted(items))
        if len(items) <= _MOST_ITEMS and sum(len(value) for _, value in items) <= _MOST_TEXT:
            if len(_shared) >= _MOST_SHARED:
                _shared.clear()
            found = _shared.setdefault(items, found)
    return found
