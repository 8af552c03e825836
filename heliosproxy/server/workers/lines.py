"""What the processes of one server say to each other: JSON, a line each. Bytes in, messages out."""

from __future__ import annotations

import json
from typing import Any

Message = dict[str, Any]


def line(message: Message) -> bytes:
    """*message* as it travels."""
    return json.dumps(message, separators=(",", ":"), default=str).encode() + b"\n"


class Lines:
    """Takes a stream apart."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that *data* completes."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(text) for text in whole]
