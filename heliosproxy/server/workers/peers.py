"""A worker's line to its supervisor, and through it to the other workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple

from .lines import Lines, Message, line

logger = logging.getLogger("heliosproxy.server")

Whom = Literal["all", "others", "supervisor"]
Handler = Callable[..., Any]
"""Takes and returns what JSON can say; may return an awaitable of that."""


class Answer(NamedTuple):
    """What one process said.

    Attributes:
        worker: its number; -1 = the supervisor.
        value: what it returned; None where it failed.
        error: why it failed; "" = it did not.
    """

    worker: int
    value: Any
    error: str = ""


class Alone:
    """The line of a process that is the only one."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self.handlers = handlers

    def tell(self, whom: Whom, do: str, *args: Any) -> None:
        """Nobody is there to be told."""

    async def ask(self, whom: Whom, do: str, *args: Any, within: float | None = None) -> list[Answer]:
        """As `Peers.ask`, of ourselves; a supervisor there is none, and "others" are none."""
        if whom == "others":
            return []
        if whom == "supervisor":
            return [
                Answer(
                    -1,
                    None,
                    "this server runs in a process of its application: it has no supervisor; "
                    "the application ends it, by server.close()",
                )
            ]
        return [await answered(0, self.handlers[do], args)]


class Peers(asyncio.Protocol):
    """The line of a worker.

    Args:
        handlers: what others may ask of this process, by name.
        lost: called when the supervisor is gone.
    """

    def __init__(self, handlers: Mapping[str, Handler], lost: Callable[[], None]) -> None:
        self.handlers = handlers
        self._lost = lost
        self._transport: Any = None
        self._lines = Lines()
        self._asked: dict[int, asyncio.Future[list[Answer]]] = {}
        self._last = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: Any) -> None:
        """The line stands."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Something came from the supervisor."""
        for message in self._lines.feed(data):
            if "answer" in message:
                waiting = self._asked.pop(message["answer"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result([Answer(*value) for value in message["values"]])
            else:
                task = asyncio.get_running_loop().create_task(self._do(message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def connection_lost(self, error: Exception | None) -> None:
        """The supervisor is gone."""
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_result([])
        self._lost()

    def tell(self, whom: Whom, do: str, *args: Any) -> None:
        """Have *do* done by *whom*; nobody waits for it."""
        self._send({"do": do, "args": args, "whom": whom})

    async def ask(self, whom: Whom, do: str, *args: Any, within: float | None = None) -> list[Answer]:
        """Have *do* done by *whom*; what each of them says, in the order of their numbers.

        One that dies meanwhile is not among them.

        Args:
            within: seconds after which one that has not answered counts as failed; None (default) = never.
        """
        if self._transport.is_closing():
            return []  # the supervisor is gone, and with it who would answer
        self._last += 1
        waiting: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._asked[self._last] = waiting
        self._send({"do": do, "args": args, "whom": whom, "id": self._last, "within": within})
        return await waiting

    def _send(self, message: Message) -> None:
        if not self._transport.is_closing():
            self._transport.write(line(message))

    async def _do(self, message: Message) -> None:
        handler = self.handlers.get(message["do"], _unknown)
        answer = await answered(0, handler, message["args"])
        if message.get("ref") is not None:
            self._send({"done": message["ref"], "value": answer.value, "error": answer.error})
        elif answer.error:
            logger.error("%s, which the supervisor asked for, failed: %s", message["do"], answer.error)


async def answered(worker: int, handler: Handler, args: Any) -> Answer:
    """What *handler* says to *args*, whatever happens."""
    try:
        value = handler(*args)
        return Answer(worker, await value if isinstance(value, Awaitable) else value)
    except Exception as error:
        logger.debug("a request of another process failed", exc_info=True)
        return Answer(worker, None, str(error) or type(error).__name__)


def _unknown(*_: Any) -> None:
    raise LookupError("this worker does not know the command: it is of another version")
