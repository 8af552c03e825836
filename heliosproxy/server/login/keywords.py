"""From a connection string to the value of every libpq keyword: what is given, the service, the environment, defaults.

libpq's own parser reads the string. What comes behind it libpq does only while it connects, so it is done here:
given > service > environment > compiled default (PostgreSQL, 34.1.2, 34.15).
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ...errors import ConfigError, UnsupportedError
from .services import read_service

# PostgreSQL, 34.15: variables that are settings of the session, without a keyword of their own.
_SETTINGS = {"PGDATESTYLE": "datestyle", "PGTZ": "timezone", "PGGEQO": "geqo"}

_NO_GSS = (
    "the proxy never uses GSSAPI: leave it out, and let the server ask for scram-sha-256 or a certificate"
)
_NO_OAUTH = "the proxy does not log in to servers by OAuth: leave it out, and use a password or a certificate"
_UNSUPPORTED = {
    "krbsrvname": _NO_GSS,
    "gsslib": _NO_GSS,
    "oauth_issuer": _NO_OAUTH,
    "oauth_client_id": _NO_OAUTH,
    "oauth_client_secret": _NO_OAUTH,
    "oauth_scope": _NO_OAUTH,
    "sslkeylogfile": "the proxy writes no TLS keys to files: leave it out",
}
# Only these values mean what we do anyway.
_FIXED = {
    "gssencmode": (("disable", "prefer"), _NO_GSS),
    "gssdelegation": (("0",), _NO_GSS),
    "sslcompression": (("0",), "TLS compression is unsafe, and not there: leave it out"),
}
_NAMES = (
    "user password passfile channel_binding connect_timeout dbname host hostaddr port client_encoding"
    " options application_name fallback_application_name keepalives keepalives_idle keepalives_interval"
    " keepalives_count tcp_user_timeout sslmode sslnegotiation sslcert sslkey sslcertmode sslpassword"
    " sslrootcert sslcrl sslcrldir sslsni requirepeer require_auth min_protocol_version"
    " max_protocol_version ssl_min_protocol_version ssl_max_protocol_version replication"
    " target_session_attrs load_balance_hosts scram_client_key scram_server_key service"
)
_SUPPORTED = frozenset(_NAMES.split())


@dataclass(frozen=True, slots=True)
class Keywords:
    """Every keyword's value.

    Attributes:
        values: by keyword; what has none is missing.
        settings: session settings that the environment asks for, by name.
    """

    values: Mapping[str, str] = field(repr=False)
    settings: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """The value of the keyword *name*; "" = none, which libpq does not distinguish either."""
        return self.values.get(name, "")

    def number(self, name: str) -> int | None:
        """The whole number under *name*, None = not given; raises ConfigError when it is none."""
        text = self.get(name).strip()
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f'{name}: "{text}" is not a whole number') from None

    def word(self, name: str, *allowed: str) -> str:
        """One of the words *allowed*, the first when none is given; raises ConfigError for another one."""
        text = self.get(name) or allowed[0]
        if text not in allowed:
            raise ConfigError(f'{name}: "{text}" is not one of {", ".join(allowed)}')
        return text


def read_keywords(
    conninfo: str, parameters: Mapping[str, object], environ: Mapping[str, str], home: Path
) -> Keywords:
    """The keywords of *conninfo*.

    Args:
        conninfo: URI or ``keyword=value`` text.
        parameters: more keywords, which win; None = not given.
        environ: PGHOST and so on.
        home: the user's home folder, for the service file.

    Raises:
        ConfigError: the string or a file cannot be read; libpq's words are left out, they may quote a password.
        UnsupportedError: a keyword is given that the proxy cannot heed; the message names it.
    """
    options = {option.keyword.decode(): option for option in psycopg.pq.Conninfo.get_defaults()}
    # libpq would stop at a NUL, and take what stands before it for the whole.
    if any("\0" in str(text) for text in (conninfo, *parameters.values())):
        raise ConfigError("a NUL character in a connection string: take it out")
    try:
        parsed = conninfo_to_dict(
            conninfo, **{n: str(value) for n, value in parameters.items() if value is not None}
        )
    except (psycopg.Error, UnicodeError):
        raise ConfigError(_why(conninfo, parameters, options)) from None
    values = {name: str(value) for name, value in parsed.items()}
    service = values.get("service") or environ.get("PGSERVICE")
    if service:
        values = {**read_service(service, environ, home, options.keys()), **values}
    _refuse(values)
    if environ.get("PGREQUIRESSL", "").startswith("1") and "PGSSLMODE" not in environ:
        values.setdefault("sslmode", "require")
    given = set(values)
    for name, option in options.items():
        variable = option.envvar.decode() if option.envvar else ""
        if variable in environ:
            # PGKRBSRVNAME and PGGSSLIB are for other programs: they ask for nothing, gssencmode does.
            if name not in given and name not in _UNSUPPORTED:
                values[name] = environ[variable]
        elif option.compiled is not None:
            values.setdefault(name, option.compiled.decode())
    if "sslmode" not in given and "PGSSLMODE" not in environ and values.get("sslrootcert") == "system":
        values["sslmode"] = "verify-full"
    _refuse({name: values[name] for name in _FIXED if name in values})
    if not values.get("user"):
        values["user"] = _account()
    settings = {_SETTINGS[name]: environ[name] for name in _SETTINGS if environ.get(name)}
    return Keywords(values, settings)


def _why(conninfo: str, parameters: Mapping[str, object], options: Mapping[str, object]) -> str:
    strange = [name for name in parameters if name not in options]
    if strange:
        return f'unknown connection parameter "{strange[0]}"'
    # libpq names an unknown keyword, which is no secret; anything else it quotes may be one.
    try:
        psycopg.pq.Conninfo.parse(conninfo.encode())
    except psycopg.OperationalError as error:
        for begin in ('invalid connection option "', 'invalid URI query parameter: "'):
            _, found, rest = str(error).partition(begin)
            name = rest.partition('"')[0]
            if found and name.replace("_", "").isalnum() and f"{name}=" in conninfo.replace(" ", ""):
                return f'unknown connection parameter "{name}"'
    except UnicodeEncodeError:
        pass
    return 'not a PostgreSQL connection string; write "postgresql://..." or "host=... dbname=..."'


def _refuse(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        if not value:
            continue
        if name in _UNSUPPORTED:
            raise UnsupportedError(f"connection parameter {name}: {_UNSUPPORTED[name]}")
        if name in _FIXED:
            allowed, advice = _FIXED[name]
            if value not in allowed:
                raise UnsupportedError(f"connection parameter {name}={value}: {advice}")
        elif name not in _SUPPORTED:
            raise UnsupportedError(
                f"connection parameter {name}: not supported by this version: leave it out"
            )


def _account() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise ConfigError("no user is given, and this process's account has no name: add user=...") from None
