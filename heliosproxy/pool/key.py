"""What makes two connections interchangeable."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

# Read by libpq at connection time, yet no connection parameter names them.
_UNNAMED = ("PGDATESTYLE", "PGTZ", "PGGEQO", "PGSERVICEFILE", "PGSYSCONFDIR")


class PoolKey(NamedTuple):
    """Identity of a pool: connections with equal keys may serve each other's sessions.

    Attributes:
        node: name of the node in the topology.
        conninfo: connection parameters, sorted, without passwords and other secrets.
        database, user: as the server will see them, as far as they can be known before connecting.
        environment: the PG* variables that libpq reads, as sorted (name, value) pairs, without PGPASSWORD.
        credentials: what the passwords were, as a hash that means nothing outside this process: who gives
            another one must log in with it. "" for passwords that rotate.
        face: what kind of connections they are: those of the wire face are no PGconn. "" = the library's.
    """

    node: str
    conninfo: str
    database: str
    user: str
    environment: tuple[tuple[str, str], ...] = ()
    credentials: str = ""
    face: str = ""

    @classmethod
    def of(
        cls,
        node: str,
        conninfo: str = "",
        *,
        environ: Mapping[str, str] | None = None,
        rotating: bool = False,
        **parameters: str | int | None,
    ) -> PoolKey:
        """The key of a connection to *node* with libpq's *conninfo* and *parameters*.

        Args:
            environ: where the PG* variables are looked up; None (default) = ``os.environ``.
            rotating: passwords change while the pool stays.

        Raises:
            psycopg.ProgrammingError: libpq does not understand the parameters.
        """
        variables, secrets = _libpq()
        environment = os.environ if environ is None else environ
        # Other keywords that libpq knows but does not show (a service) stay part of the text.
        given = conninfo_to_dict(conninfo, **parameters)
        public = {name: given[name] for name in sorted(given) if name not in secrets}
        user = str(given.get("user") or environment.get("PGUSER") or _login())
        return cls(
            node,
            make_conninfo("", **public),
            str(given.get("dbname") or environment.get("PGDATABASE") or user),
            user,
            tuple(sorted((name, environment[name]) for name in variables if name in environment)),
            "" if rotating else _hashed({name: given.get(name) for name in secrets}, environment),
        )

    def __str__(self) -> str:
        face = f" ({self.face})" if self.face else ""
        return f"{self.database} as {self.user} on {self.node}{face}"


def _hashed(secrets: Mapping[str, object], environment: Mapping[str, str]) -> str:
    known = sorted((name, str(value)) for name, value in secrets.items() if value is not None)
    if not known and "PGPASSWORD" not in environment:
        return ""
    text = repr((known, environment.get("PGPASSWORD")))
    return hashlib.blake2b(text.encode(errors="surrogateescape"), key=_salt(), digest_size=16).hexdigest()


@cache
def _salt() -> bytes:
    return os.urandom(32)


@cache
def _libpq() -> tuple[frozenset[str], frozenset[str]]:
    """The environment variables that this libpq reads, and its parameters that are secret."""
    variables, secrets = set(_UNNAMED), set()
    for option in pq.Conninfo.get_defaults():
        name = option.keyword.decode()
        if option.dispchar == b"*" or name.startswith("scram_"):
            secrets.add(name)
        elif option.envvar:
            variables.add(option.envvar.decode())
    return frozenset(variables), frozenset(secrets)


@cache
def _login() -> str:
    """The operating system's user, which is libpq's default; PGUSER has been looked at before."""
    import getpass  # only needed when nobody names a user

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a passwd entry: libpq will say so itself
        return ""
