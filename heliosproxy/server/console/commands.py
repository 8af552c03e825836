"""What each command of the console does: asks the workers, and makes a table or a tag of their answers."""

from __future__ import annotations

import importlib.metadata
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ...check import flat
from ...config import Config
from ...config.features import Server
from ..control import FIXED
from ..protocol.errors import ProtocolViolation
from .tables import TABLES, Row, Said

if TYPE_CHECKING:
    from ..service import Service
    from ..workers.peers import Answer
    from .command import Command

_OWN: dict[str, str] = {
    "CONFIG": "key:text value:text default:text changeable:text",
    "HELP": "command:text what:text",
    "LISTS": "list:text items",
    "USERS": "name:text pool_mode:text",
    "VERSION": "version:text",
    "WORKERS": "worker:int4 pid:int4 generation:int4 state:text age silent server_connections:int4",
}
_HELP = [
    ("SHOW " + "|".join(sorted([*TABLES, *_OWN])), "numbers"),
    ("PAUSE [database]", "let transactions end and begin none; returns when none is under way"),
    ("RESUME [database]", "go on; who waits is served in the order of coming"),
    ("RECONNECT [database]", "replace server connections, idle ones now, the others when they come back"),
    ("DISABLE database", "let nobody new in"),
    ("ENABLE database", "let clients in again"),
    (
        "KILL database | id",
        "hang up on all clients of a database, or on the one that SHOW CLIENTS has under this id",
    ),
    ("RELOAD", "read the configuration again; idle clients move to new workers and notice nothing"),
    ("RESTART", "replace the workers one after the other; idle clients move"),
    ("SHUTDOWN [WAIT]", "end at once, or when the transactions have ended"),
]
PATIENCE = 2.0
"""Seconds that workers have to tell their numbers."""

_WORKERS = {
    "PAUSE": "pause",
    "RESUME": "resume",
    "RECONNECT": "reconnect",
    "DISABLE": "disable",
    "ENABLE": "enable",
}


class Result(NamedTuple):
    """What a command says.

    Attributes:
        tag: of its completion.
        rows: None = it has none, not even no rows.
        notice: something to say beside; "" = nothing.
    """

    tag: str
    rows: list[Row] | None = None
    notice: str = ""


def columns(command: Command) -> list[tuple[str, str]] | None:
    """The columns of what *command* shows, names and types; None = it shows nothing.

    Raises:
        ProtocolViolation: there is no such table.
    """
    if command.verb != "SHOW":
        return None
    if command.argument in TABLES:
        return TABLES[command.argument].columns
    if command.argument in _OWN:
        named = [column.partition(":") for column in _OWN[command.argument].split()]
        return [(name, kind or "int8") for name, _, kind in named]
    raise _refused("42P01", f"there is no SHOW {command.argument}: SHOW HELP lists what there is")


async def perform(service: Service, command: Command) -> Result:
    """Do it.

    Raises:
        ProtocolViolation: it failed; the connection goes on.
    """
    verb, argument = command
    if verb == "SHOW":
        return await _shown(service, argument)
    if verb in _WORKERS:
        _values(await service.peers.ask("all", _WORKERS[verb], *([argument] if argument else [])))
        return Result(verb)
    if verb == "KILL":
        whom: int | str = int(argument) if argument.isdigit() else argument
        count = sum(_values(await service.peers.ask("all", "kill", whom)).values())
        if not count:
            which = f"has the id {whom}" if isinstance(whom, int) else f"is on database {whom}"
            raise _refused("42704", f"no client {which}")
        who = "1 client was" if count == 1 else f"{count} clients were"
        return Result("KILL", notice=f"{who} hung up on")
    if verb == "EMPTY":
        return Result("")
    hurry = [argument != "WAIT"] if verb == "SHUTDOWN" else []
    said = _values(await service.peers.ask("supervisor", verb.lower(), *hurry))
    return Result(verb, notice=str(*said.values()))


async def _shown(service: Service, name: str) -> Result:
    table = TABLES.get(name)
    if table is None and name != "LISTS":
        return Result("SHOW", await _own(service, name))
    answers = await service.peers.ask("all", "pools" if table is None else table.ask, within=PATIENCE)
    said = {answer.worker: answer.value for answer in answers if not answer.error}
    missing = "; ".join(f"worker {answer.worker}: {answer.error}" for answer in answers if answer.error)
    return Result("SHOW", list(_lists(said) if table is None else table.rows(said)), missing)


async def _own(service: Service, name: str) -> list[Row]:
    if name == "VERSION":
        return [[f"heliosproxy {importlib.metadata.version('heliosproxy')}"]]
    if name == "HELP":
        return [list(line) for line in _HELP]
    if name == "CONFIG":
        defaults = flat(Config(server=Server()))
        return [
            [key, value, defaults.get(key, ""), "no" if key in FIXED else "yes"]
            for key, value in flat(service.proxy.config).items()
        ]
    if name == "USERS":
        mode = service.proxy.config.pool.mode
        return [[user.name, mode] for user in service.proxy.config.user]
    if name == "WORKERS":
        (answer,) = await service.peers.ask("supervisor", "workers")
        if answer.error:  # in a process of the application there is one, and it is this
            return [[0, os.getpid(), 1, "serving", int(time.monotonic() - service.since), 0, None]]
        return [
            [w["number"], w["pid"], w["generation"], w["state"], int(w["age"]), int(w["silent"]), w["quota"]]
            for w in answer.value
        ]
    raise AssertionError(name)


def _lists(said: Said) -> list[Row]:
    pools = [pool for found in said.values() for pool in found]
    clients = sum(pool["clients"] for pool in pools)
    free = sum(pool["pool_available"] for pool in pools)
    return [
        ["databases", len({pool["database"] for pool in pools})],
        ["users", len({pool["user"] for pool in pools})],
        ["pools", len({(pool["database"], pool["user"]) for pool in pools})],
        ["free_clients", 0],
        ["used_clients", clients],
        ["login_clients", 0],
        ["free_servers", free],
        ["used_servers", sum(pool["pool_size"] for pool in pools) - free],
    ]


def _values(answers: list[Answer]) -> dict[int, Any]:
    """What they said, by worker.

    Raises:
        ProtocolViolation: one of them failed.
    """
    for answer in answers:
        if answer.error:
            raise _refused("55000", answer.error)
    return {answer.worker: answer.value for answer in answers}


def _refused(sqlstate: str, text: str) -> ProtocolViolation:
    return ProtocolViolation(text, sqlstate=sqlstate, fatal=False)
