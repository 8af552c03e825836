"""Connection strings that can be printed: the secrets in them are masked, the rest is readable."""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from heliosproxy.config.keys import nearest

MASK = "***"

# Credentials end at the first "@" before any "/": so libpq itself reads them.
_URI = re.compile(r"[A-Za-z]+://(?:[^@/]*@)?[^@]*")
_USERINFO = re.compile(r"^([A-Za-z]+://[^:@/]*:)[^@/]*(?=@)")
_UNKNOWN = re.compile(r'invalid (?:connection option|URI query parameter:) "(\w+)"')
_SECRETS = ("password", "secret", "scram_")
_QUERY = re.compile(rf"([?&][^=&]*(?:{'|'.join(_SECRETS)})[^=&]*=)[^&]*")


def is_secret(parameter: str) -> bool:
    """Whether a connection parameter's value must not be shown (``password``, ``scram_client_key``, …)."""
    return any(word in parameter for word in _SECRETS)


def mask_dsn(dsn: str) -> str:
    """*dsn* (a URI or key=value pairs) with ``***`` in place of each secret.

    What libpq cannot parse is masked whole: nobody can say which part of it is the password.
    """
    if not dsn:
        return dsn
    parsed = _parse(dsn)
    # A raw "@" or "/" in a password ends the credentials early: libpq takes the rest of it for a host or a
    # database.
    if parsed is None or (_URI.match(dsn) and not _URI.fullmatch(dsn)):
        return MASK
    if not any(is_secret(name) for name in parsed):
        return dsn
    if not _URI.match(dsn):
        return make_conninfo(
            "", **{name: MASK if is_secret(name) else value for name, value in parsed.items()}
        )
    masked = _QUERY.sub(rf"\g<1>{MASK}", _USERINFO.sub(rf"\g<1>{MASK}", dsn))
    # Read back rather than trusted: a spelling that the expressions miss (an escaped parameter name) shows
    # nothing.
    again = _parse(masked) or {}
    return masked if again and all(again[name] == MASK for name in again if is_secret(name)) else MASK


def _parse(dsn: str) -> dict[str, Any] | None:
    try:
        return dict(conninfo_to_dict(dsn))
    except (psycopg.ProgrammingError, UnicodeDecodeError):  # the latter of "%80", which psycopg decodes
        return None


class Dsn(SecretStr):
    """A connection string; ``get_secret_value()`` is the whole of it, ``str()`` and ``repr()`` mask it."""

    def _display(self) -> str:
        return mask_dsn(self.get_secret_value())


def check_dsn(dsn: Dsn) -> Dsn:
    """Refuse what libpq cannot parse.

    Raises:
        ValueError: not a connection string. libpq's own message is left out: it quotes the part it stumbled
            over, which may be the password.
    """
    text = dsn.get_secret_value()
    if _parse(text) is None:
        raise ValueError(_why(text))
    return dsn


def _why(dsn: str) -> str:
    """What is wrong with *dsn*. A parameter is named where it is like one that there is: else it may be a secret."""
    name = ""
    try:
        conninfo_to_dict(dsn)
    except (psycopg.ProgrammingError, UnicodeDecodeError) as error:
        found = _UNKNOWN.search(str(error))
        name = found[1] if found else ""
    if name.startswith("helios_"):
        return (
            f"{name} is an option of heliosproxy.connect() and not known here: leave it out, and set the key that it"
            " stands for (docs/configuration.md)"
        )
    near = nearest(name, [option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()])
    if name and near:
        return f'unknown connection parameter "{name}", did you mean "{near}"?'
    return 'not a PostgreSQL connection string; write "postgresql://..." or "host=... dbname=..."'
