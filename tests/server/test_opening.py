"""What a first server connection is asked, however the network cuts the answer into reads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from heliosproxy.server.protocol.errors import ProtocolViolation
from heliosproxy.server.upstream.opening import Dialogue, refusal


class Transport:
    """Takes what is written."""

    def write(self, data: bytes) -> None:
        pass


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def row(*values: bytes | None) -> bytes:
    body = len(values).to_bytes(2, "big")
    for value in values:
        body += b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value
    return message(b"D", body)


NAMES = [b"lower", b"x" * 60, b"", None, b"pg_catalog.now"] * 20
ANSWER = (
    message(b"T", b"\0\0")
    + b"".join(row(name) for name in NAMES)
    + message(b"C", b"SELECT 100\0")
    + message(b"Z", b"I")
)


def ask(answer: bytes, size: int) -> Any:
    """The rows of *answer*, which comes in reads of *size* bytes."""

    async def run() -> Any:
        dialogue = Dialogue()
        dialogue.connection_made(Transport())
        asked = asyncio.create_task(dialogue.rows(b"SELECT"))
        for at in range(0, len(answer), size):
            dialogue.data_received(answer[at : at + size])
            await asyncio.sleep(0)  # the task's turn
        return await asked

    return asyncio.run(run())


@pytest.mark.parametrize("size", [*range(1, 40), 100, 1000, len(ANSWER)])
def test_the_rows_are_those_that_were_sent(size: int) -> None:
    assert ask(ANSWER, size) == [[name] for name in NAMES]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_error_behind_some_rows_is_raised(size: int) -> None:
    answer = row(b"one") + message(b"E", b"SERROR\0C42501\0Mnot for you\0\0") + message(b"Z", b"I")
    with pytest.raises(type(refusal(message(b"E", b"C42501\0\0"))), match="not for you"):
        ask(answer, size)


def test_what_is_no_answer_is_said_to_be_none() -> None:
    with pytest.raises(ConnectionError, match="does not speak PostgreSQL's protocol") as caught:
        ask(b"HTTP/1.1 400 Bad Request\r\n", 8)
    assert not isinstance(caught.value, ProtocolViolation)
