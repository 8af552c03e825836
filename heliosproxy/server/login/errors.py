"""Why somebody is not let in."""

from __future__ import annotations


class LoginRefused(Exception):
    """A login that failed, in the words PostgreSQL has for it: they never tell whether the user exists.

    Attributes:
        sqlstate: 28P01 for a wrong password, 28000 for anything else about who may log in, 08P01 for a message
            that is none.
    """

    def __init__(self, message: str, sqlstate: str = "28000") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def wrong_password(user: str) -> LoginRefused:
    """The refusal for a wrong password, and for a user that does not exist."""
    return LoginRefused(f'password authentication failed for user "{user}"', "28P01")
