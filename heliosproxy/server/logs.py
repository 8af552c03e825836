"""What `heliosproxy serve` logs to its standard error: lines for people, or JSON for programs."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Literal

Style = Literal["text", "json"]

MASK = "***"
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127)} | {9: "\t", 10: "\\n"}

# A second line of defence: nothing logs a secret, but an error of somebody else may quote a connection string.
_SECRETS = re.compile(
    r"(?P<uri>[A-Za-z][\w+.-]*://[^:@/\s]*:)[^@/\s]+(?=@)"
    r"|(?P<word>\b\w*(?:password|secret|scram_\w+)\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&'\"]+)"
    r"|(?P<verifier>SCRAM-SHA-256\$|\bmd5)(?:\d+:[\w+/=]+\$[\w+/=]+:[\w+/=]+|[0-9a-f]{32}\b)"
)


def masked(text: str) -> str:
    """*text* with ``***`` in place of passwords in connection strings, and of verifiers."""
    return _SECRETS.sub(lambda found: f"{found[found.lastgroup or 0]}{MASK}", text)


class Text(logging.Formatter):
    """``time level message``, with the traceback below."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The first line: what clients send may be in it, and forges no other one."""
        return super().formatMessage(record).translate(_CONTROL)

    def format(self, record: logging.LogRecord) -> str:
        """The lines of *record*."""
        return masked(super().format(record))


class JsonLines(logging.Formatter):
    """One object on one line: ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, ``exception`` if any."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of *record*."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(line)


def configure(style: Style, level: str) -> None:
    """Log to standard error in *style*, from *level* (``debug``, ``info``, ``warning``, ``error``) on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if style == "json" else Text())
    logging.basicConfig(level=level.upper(), handlers=[handler])
