"""libpq's connection service file (PostgreSQL, 34.17): ``[name]`` and ``keyword=value`` lines."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from ...errors import ConfigError

SYSTEM_FOLDER = "/etc/postgresql-common"
"""Where psycopg's libpq looks for pg_service.conf of the whole machine unless PGSYSCONFDIR says otherwise."""


def read_service(name: str, environ: Mapping[str, str], home: Path, known: Collection[str]) -> dict[str, str]:
    """The parameters of the service *name*: from the user's file, else from the machine's.

    Args:
        name: of the service.
        environ: PGSERVICEFILE and PGSYSCONFDIR.
        home: the user's home folder.
        known: the keywords there are.

    Raises:
        ConfigError: there is no such service, or a file cannot be read.
    """
    given = environ.get("PGSERVICEFILE")
    own = Path(given) if given is not None else home / ".pg_service.conf"
    if given is not None and not own.exists():
        raise ConfigError(f'service file "{own}" not found: correct PGSERVICEFILE')
    for file in (own, Path(environ.get("PGSYSCONFDIR") or SYSTEM_FOLDER) / "pg_service.conf"):
        found = _section(file, name, known) if file.exists() else None
        if found is not None:
            return found
    raise ConfigError(f'definition of service "{name}" not found: add [{name}] to "{own}"')


def _section(file: Path, name: str, known: Collection[str]) -> dict[str, str] | None:
    """The first value of each keyword under ``[name]``; None where there is no such section."""
    try:
        lines = file.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError as error:
        raise ConfigError(f'service file "{file}": {error.strerror}') from None
    found: dict[str, str] | None = None
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            if found is not None:
                break
            if line == f"[{name}]":
                found = {}
        elif found is not None:
            keyword, equals, value = line.partition("=")
            # The value may be a password: it is not shown.
            where = f'service file "{file}", line {number}'
            if keyword == "service":
                raise ConfigError(f"{where}: a service cannot refer to another one")
            if not equals or keyword not in known:
                what = f'unknown keyword "{keyword}"' if equals else "keyword=value is wanted"
                raise ConfigError(f"{where}: {what}", file=str(file), line=number)
            found.setdefault(keyword, value)
    return found
