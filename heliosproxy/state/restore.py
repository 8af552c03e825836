"""From the state a server connection carries to the state a session wants: which commands, in which order."""

from __future__ import annotations

from collections.abc import Mapping

_AUTHORITY = ("session_authorization", "role")
_ENCODING = "client_encoding"

# Everything of DISCARD ALL but prepared statements and plans: these belong to the server connection and are
# worth keeping (PostgreSQL, SQL Commands, DISCARD). It cannot fail, whatever a function did to the session.
CLEAN = (
    b"CLOSE ALL",
    b"SET SESSION AUTHORIZATION DEFAULT",
    b"RESET ALL",
    b"UNLISTEN *",
    b"SELECT pg_catalog.pg_advisory_unlock_all()",
    b"DISCARD TEMP",
    b"DISCARD SEQUENCES",
)


def may_fail(want: Mapping[str, str]) -> bool:
    """Whether bringing a server connection to *want* may fail although it was accepted before.

    A role may be gone, or taken away from its member; without it the statement would run with other rights.
    """
    return any(name in want for name in _AUTHORITY)


def commands(have: Mapping[str, str], want: Mapping[str, str], encoding: str) -> list[bytes]:
    """SET and RESET commands that lead from *have* to *want*, both name → SQL text in the order they were set.

    Role and session authorization are undone first and redone in their own places, because they decide what
    else may be set: a superuser's settings were set before the role was given up. So is the client encoding,
    in which the server reads what follows: here that is always *encoding*, the login's.
    """
    if have == want:
        return []
    out: list[bytes] = []
    if any(name in have or name in want for name in _AUTHORITY):
        # Also resets the role (SQL Commands, SET SESSION AUTHORIZATION).
        out.append(b"RESET SESSION AUTHORIZATION")
        out.append(b"RESET ROLE")
        have = {k: v for k, v in have.items() if k not in _AUTHORITY}
    if _ENCODING in have and len(want) > 1:
        out.append(b"RESET client_encoding")
        have = {k: v for k, v in have.items() if k != _ENCODING}
    out += [f"RESET {quote(name)}".encode(encoding) for name in have if name not in want]
    last: list[bytes] = []
    for name, value in want.items():
        if have.get(name) != value:
            (last if name == _ENCODING else out).append(set_command(name, value).encode(encoding))
    return out + last


def set_command(name: str, value: str) -> str:
    """``SET name TO value`` for one setting, in the grammar that the two authority settings need."""
    if name == "session_authorization":
        return f"SET SESSION AUTHORIZATION {value}"
    if name == "role":
        return f"SET ROLE {value}"
    return f"SET {quote(name)} TO {value}"


def quote(name: str) -> str:
    """A setting's name as SQL: each part of ``app.user`` quoted, so that no name is a keyword."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))
