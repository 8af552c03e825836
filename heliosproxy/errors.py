"""The exceptions of heliosproxy.

    psycopg.Error
    └─ HeliosError                       code, retry_after
       ├─ ConfigError                    also psycopg.ProgrammingError
       ├─ UnsupportedError               also psycopg.NotSupportedError
       ├─ PoolTimeout, TooManyRequests,
       │  PoolClosed, ForkedError        also psycopg.OperationalError
       └─ StatementRejected              also psycopg.ProgrammingError

What the server says passes untouched, as psycopg's own objects. Ours are PEP 249 classes as well, so that an
application which knows only psycopg catches them where it expects them.
"""

from __future__ import annotations

from psycopg import errors as e


class HeliosError(e.Error):
    """Base of every error that heliosproxy itself raises.

    Attributes:
        code: a stable upper-case word for programs (``"POOL_TIMEOUT"``).
        sqlstate: five characters of PostgreSQL's Appendix A, or None where no server is concerned.
        retry_after: seconds after which trying again may succeed; None when waiting does not help.
    """

    code: str = "HELIOS_ERROR"
    retry_after: float | None = None

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        sqlstate: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if sqlstate is not None:
            self.sqlstate = sqlstate
        if retry_after is not None:
            self.retry_after = retry_after


class ConfigError(HeliosError, e.ProgrammingError):
    """The configuration cannot be used: unknown key, bad value, unset environment variable.

    Attributes:
        key: dotted path of the key (``"cache.l1.size"``), or None.
        file: where it was read, or None.
        line: 1-based line in *file*, or None.
    """

    code = "CONFIG"

    def __init__(
        self, message: str = "", *, key: str | None = None, file: str | None = None, line: int | None = None
    ) -> None:
        super().__init__(message)
        self.key = key
        self.file = file
        self.line = line


class UnsupportedError(HeliosError, e.NotSupportedError):
    """Asked for something that this version, this mode or this server cannot do."""

    code = "UNSUPPORTED"
    sqlstate = "0A000"


class PoolTimeout(HeliosError, e.OperationalError):
    """No server connection became free within the pool's ``timeout``."""

    code = "POOL_TIMEOUT"
    sqlstate = "53300"


class TooManyRequests(HeliosError, e.OperationalError):
    """``max_waiting`` are already waiting for a server connection, or ``max_connections`` are open."""

    code = "TOO_MANY_REQUESTS"
    sqlstate = "53300"


class PoolClosed(HeliosError, e.OperationalError):
    """The Proxy was closed, or is closing."""

    code = "POOL_CLOSED"
    sqlstate = "57P01"


class ForkedError(HeliosError, e.OperationalError):
    """The connection was opened by the parent process; a child may not touch its socket. Open a new one."""

    code = "FORKED"
    sqlstate = "08003"


class StatementRejected(HeliosError, e.ProgrammingError):
    """The statement was refused before it was sent (a NUL byte, BEGIN in statement mode, a policy)."""

    code = "STATEMENT_REJECTED"
    sqlstate = "42601"
