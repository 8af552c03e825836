"""libpq's password file (PostgreSQL, 34.16): one ``host:port:database:user:password`` a line.

``*`` stands for anything, a backslash keeps the colon or backslash behind it, ``#`` begins a comment. The first line
that matches counts.
"""

from __future__ import annotations

import logging
import re
import stat
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger("heliosproxy.server")

_FIELD = re.compile(r"(?:\\.|[^:])*", re.S)  # a backslash at the end stands for itself
_ESCAPED = re.compile(r"\\(.)", re.S)


def read_passfile(path: Path) -> list[str]:
    """The lines of the password file *path*; none where there is no such file.

    As libpq does, one that is no regular file, or that the group or others may use, is left out, with a warning.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            logger.warning('password file "%s" is not a plain file, and is not used', path)
            return []
        if status.st_mode & 0o077:
            logger.warning('password file "%s" can be used by others: chmod 0600; it is not used', path)
            return []
        # Not splitlines(): what else it takes for the end of a line may stand in a password.
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        return [line.rstrip("\r") for line in text.split("\n")]
    except FileNotFoundError:
        return []
    except OSError as error:
        logger.warning('password file "%s" cannot be read, and is not used: %s', path, error.strerror)
        return []


def password_for(lines: Iterable[str], host: str, port: int, database: str, user: str) -> str | None:
    """The password of a login; None where no line matches.

    Args:
        lines: of the file.
        host: as the connection string calls it; "localhost" for the default Unix socket, else its folder.
        port: TCP port, or number of the Unix socket.
        database, user: of the login.
    """
    wanted = (host, str(port), database, user)
    for line in lines:
        if line.startswith("#"):
            continue
        fields = _fields(line)
        if len(fields) < 5:
            continue
        if all(raw == "*" or _plain(raw) == word for raw, word in zip(fields, wanted, strict=False)):
            return _plain(fields[4])
    return None


def _plain(raw: str) -> str:
    return _ESCAPED.sub(r"\1", raw)


def _fields(line: str) -> list[str]:
    """At most five fields, escapes and all; what follows a fifth is not looked at."""
    fields: list[str] = []
    at = 0
    while len(fields) < 5 and at <= len(line):
        found = _FIELD.match(line, at)
        assert found is not None  # noqa: S101 - it matches nothing, too
        fields.append(found[0])
        at = found.end() + 1
    return fields
