"""Which schemas a search_path means for a role."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_NAME_BYTES = 63  # NAMEDATALEN - 1: PostgreSQL cuts longer names
_ELEMENT = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",\s]+))\s*(,|$)')


class Schema(NamedTuple):
    """A row of pg_namespace; *users* are the OIDs of the roles with USAGE, 0 for PUBLIC."""

    name: str
    owner: int
    users: frozenset[int]


class Role(NamedTuple):
    """A row of pg_roles; *granted* are the roles whose privileges it has by membership, at first hand."""

    oid: int
    superuser: bool
    granted: tuple[int, ...]


class Roles:
    """Who may use which schema: the rules of has_schema_privilege(), without asking the server.

    Args:
        roles: by name.
        database_owner: OID; it has the privileges of pg_database_owner (PostgreSQL 14 and later).
    """

    __slots__ = ("_by_oid", "_database_owner", "_memo", "_roles")

    def __init__(self, roles: Mapping[str, Role], database_owner: int) -> None:
        self._roles = roles
        self._by_oid = {role.oid: role for role in roles.values()}
        self._database_owner = database_owner
        self._memo: dict[str, frozenset[int]] = {}

    def privileges(self, user: str) -> frozenset[int]:
        """Return the OIDs of all roles whose privileges *user* has, itself included; empty when unknown."""
        known = self._memo.get(user)
        if known is not None:
            return known
        role = self._roles.get(user)
        if role is None:
            return frozenset()
        owner_role = self._roles.get("pg_database_owner")
        seen: set[int] = set()
        todo = [role.oid]
        while todo:
            oid = todo.pop()
            if oid in seen or oid not in self._by_oid:
                continue
            seen.add(oid)
            todo += self._by_oid[oid].granted
            if owner_role is not None and oid == self._database_owner:
                todo.append(owner_role.oid)
        self._memo[user] = frozenset(seen)
        return self._memo[user]

    def may_use(self, user: str, schema: Schema) -> bool:
        """Whether names are looked up in *schema* for *user* (USAGE)."""
        role = self._roles.get(user)
        if role is None:
            return False
        if role.superuser or 0 in schema.users:
            return True
        privileges = self.privileges(user)
        readers = {self._roles[r].oid for r in ("pg_read_all_data", "pg_write_all_data") if r in self._roles}
        return schema.owner in privileges or not privileges.isdisjoint(schema.users | readers)


def elements(setting: str) -> tuple[str, ...]:
    """Split a value of search_path as PostgreSQL does (SplitIdentifierString): folded unless quoted."""
    names: list[str] = []
    position = 0
    while position < len(setting):
        match = _ELEMENT.match(setting, position)
        if match is None:
            return ()
        quoted, plain, separator = match.groups()
        name = quoted.replace('""', '"') if quoted is not None else plain.lower()
        names.append(name.encode()[:_NAME_BYTES].decode(errors="ignore"))
        position = match.end()
        if not separator:
            break
    return tuple(names)
