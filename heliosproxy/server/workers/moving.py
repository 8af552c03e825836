"""Clients with nothing under way move to another process, their sockets with them: they notice nothing.

What a client has is little, as long as it holds no server connection: its settings, its prepared statements, its key
for cancel requests. A client whose line is encrypted cannot move (the keys of TLS are within OpenSSL), nor one that
keeps its server connection (session mode, a pin); these stay where they are until they leave.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import psycopg

from ...state.settings import alike
from ..client import replies
from ..client.conversation import Conversation
from ..client.link import Link
from ..client.startup import Greeting
from ..client.timed import client_of
from ..console.console import Console
from .doors import Away, taken

if TYPE_CHECKING:
    from ..service import Service

logger = logging.getLogger("heliosproxy.server")

Maker = Callable[[Link], Conversation | Console]

LARGEST = 128 * 1024
"""Bytes of state that fit into one message between processes; a client with more prepared text stays."""


def can_move(link: Link) -> bool:
    """Whether another process could take *link* over now."""
    conversation = link.conversation
    return (
        conversation is not None
        and conversation.movable
        and conversation.at_rest
        and link.encrypted is None
        and link.quiet
    )


def send(link: Link, line: socket.socket) -> bool | None:
    """Give *link*, which stands still, away over *line*; False when that cannot be now, None when it never can."""
    state = json.dumps(_packed(link)).encode()
    if len(state) > LARGEST:
        return None
    try:
        socket.send_fds(line, [state], [link.transport.get_extra_info("socket").fileno()])
    except BlockingIOError:
        return False
    except OSError as error:
        logger.warning("a client could not move to another process, and stays: %s", error)
        return None
    if isinstance(link.place, Away):
        link.place.leave_it()
    link.transport.abort()  # the socket lives on in the other process
    return True


def receive(service: Service, line: socket.socket) -> list[asyncio.Task[None]]:
    """Take over all clients that wait in *line*."""
    tasks: list[asyncio.Task[None]] = []
    while True:
        try:
            state, files, _, _ = socket.recv_fds(line, LARGEST, 1)
        except BlockingIOError:
            return tasks
        if not files:
            return tasks
        client = socket.socket(fileno=files[0])
        tasks.append(asyncio.get_running_loop().create_task(_adopt(service, client, json.loads(state))))


def _packed(link: Link) -> dict[str, Any]:
    conversation = link.conversation
    who: Any = link.greeting
    common = {
        "user": who.user,
        "database": who.database,
        "minor": who.minor,
        "begun_with": list(who.settings.items()),
        "pid": link.pid,
        "key": link.key.hex(),
        "since": link.since,
        "place": link.place.name if isinstance(link.place, Away) else None,
    }
    if isinstance(conversation, Console):
        return {**common, "acts": conversation.acts}
    return {
        **common,
        "settings": list(conversation.session.settings.values.items()),
        "encoding": conversation.encoding,
        "statements": [
            [_text(part) for part in (name, prepared.text, prepared.types)]
            for name, prepared in conversation.statements.items()
        ],
        "told": [[_text(name), _text(columns)] for name, (_, columns) in conversation.told.items()],
    }


async def _maker(service: Service, who: Greeting, state: dict[str, Any]) -> Maker:
    """What makes the conversation of a client that had *state* elsewhere."""
    if "acts" in state:
        return lambda link: Console(link, service, acts=state["acts"])
    home = await service.homes.of(who)

    def made(link: Link) -> Conversation:
        session = home.session(who.settings)
        session.settings.go_on_with(MappingProxyType(dict(state["settings"])))
        conversation = Conversation(link, home, session)
        conversation.encoding = state["encoding"]
        for name, text, types in state["statements"]:
            conversation.statements[_bytes(name)] = conversation.prepared(_bytes(text), _bytes(types))
        for name, columns in state["told"]:
            if (prepared := conversation.statements.get(_bytes(name))) is not None:
                conversation.told[_bytes(name)] = prepared, _bytes(columns)
        return conversation

    return made


async def _adopt(service: Service, client: socket.socket, state: dict[str, Any]) -> None:
    client.setblocking(False)
    begun_with, _ = alike(MappingProxyType(dict(state["begun_with"])))
    who = Greeting(state["user"], state["database"], state["minor"], settings=begun_with)
    place = None if state["place"] is None else taken(service.peers, state["place"])
    link: Link | None = None
    try:
        conversation = await _maker(service, who, state)

        def made() -> Link:
            new = client_of(service)
            new.place = place
            new.take_over(who, state["pid"], bytes.fromhex(state["key"]), state["since"])
            return new

        _, link = await asyncio.get_running_loop().connect_accepted_socket(made, client)
        service.links[link.pid] = link
        service.timeouts.start()
        link.start(conversation(link))
    except Exception as error:  # noqa: BLE001 - logged below; nobody may wait for what will not come
        if link is None:
            with suppress(OSError):
                client.send(_last_words(who, error))
            client.close()
        else:
            link.write(_last_words(who, error))
            link.close()
        if place is not None:
            place.free()


def _last_words(who: Greeting, error: Exception) -> bytes:
    """What a client is told that could not be taken over."""
    if isinstance(error, OSError | psycopg.Error):
        logger.warning("a client of database %s could not be taken over: %s", who.database, error)
        return replies.of_exception(error, "FATAL")
    logger.exception("a client of database %s could not be taken over", who.database)
    return replies.fatal(
        "XX000", "internal error while changing over to another process: see the log of the proxy"
    )


def _text(data: bytes) -> str:
    return base64.b85encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b85decode(text)
