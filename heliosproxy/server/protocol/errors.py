"""What the other side may not send."""

from __future__ import annotations


class ProtocolViolation(Exception):
    """A message that PostgreSQL would refuse, too.

    Attributes:
        sqlstate: 08P01 unless it is something else.
        routine: of PostgreSQL's, where drivers look at it; else "".
        fatal: the connection cannot go on, because nobody knows where the next message begins.
    """

    def __init__(
        self, message: str, *, sqlstate: str = "08P01", fatal: bool = True, routine: str = ""
    ) -> None:
        super().__init__(message)
        self.routine = routine
        self.sqlstate = sqlstate
        self.fatal = fatal
