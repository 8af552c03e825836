"""What an administrator may say: one command, in words."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..protocol.errors import ProtocolViolation

READING = frozenset({"SHOW", "EMPTY"})
"""What somebody may do who may only look."""

# Command: does it take a database; must it.
_DATABASE = {
    "PAUSE": False,
    "RESUME": False,
    "RECONNECT": False,
    "DISABLE": True,
    "ENABLE": True,
    "KILL": True,
}
_WORD = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\s";]+))')


class Command(NamedTuple):
    """One command.

    Attributes:
        verb: in upper case; EMPTY = there was none.
        argument: what it is about; "" = everything, or nothing.
    """

    verb: str
    argument: str = ""


def parse(text: str) -> Command:
    """Read one command; what follows a semicolon must be empty.

    Raises:
        ProtocolViolation: it is none (42601, 08P01 for SQL).
    """
    words, at = [], 0
    text = re.sub(r"--[^\n]*", " ", text)
    while match := _WORD.match(text, at):
        words.append(match[1].replace('""', '"') if match[1] is not None else match[2])
        at = match.end()
    if text[at:].strip(" \t\r\n;"):
        raise _wrong("42601", "one command at a time, please: SHOW HELP lists them")
    if not words:
        return Command("EMPTY")
    verb, *rest = words
    verb = verb.upper()
    if verb == "SHOW" and len(rest) == 1:
        return Command(verb, rest[0].upper())
    if verb in _DATABASE and len(rest) <= 1 and (rest or not _DATABASE[verb]):
        return Command(verb, *rest)
    if verb in ("RELOAD", "RESTART") and not rest:
        return Command(verb)
    if verb == "SHUTDOWN" and [word.upper() for word in rest] in ([], ["WAIT"], ["WAIT_FOR_CLIENTS"]):
        return Command(verb, "WAIT" if rest else "")
    if verb in _DATABASE or verb in ("SHOW", "RELOAD", "RESTART", "SHUTDOWN"):
        raise _wrong("42601", f"{verb} is not written like that: SHOW HELP lists the commands")
    raise _wrong(
        "08P01", f"this is the console of heliosproxy, not a database: {verb} is no command; try SHOW HELP"
    )


def _wrong(sqlstate: str, text: str) -> ProtocolViolation:
    return ProtocolViolation(text, sqlstate=sqlstate, fatal=False)
