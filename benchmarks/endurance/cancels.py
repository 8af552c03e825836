"""1,000 cancel requests at random moments under load: whom they hit, and how many take effect.

Targets and bystanders share fewer server connections than they are, so a connection goes on to a bystander in the
moment in which its target's statement ends, with the cancel request perhaps under way. Half of the requests are for
statements long enough to say which of them came while their target ran; the others for brief ones, about their ends.
Bystanders note any error. Each target asks something else behind each request that was delivered, and notes any error.

A target's statement sends a part of its answer as soon as it runs: so one knows whether a request was sent while it
ran, or while it waited for a server connection. The same is done directly beside it: no server can cancel a statement
that is over when the request comes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import nullcontext
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from heliosproxy.server.protocol import frontend

from ..common import bar
from .crew import Cue, crew
from .raw import Client, names, sqlstate
from .served import serving

CANCELED = "57014"
POOL, TARGETS, BYSTANDERS = 30, 40, 60
LONG, BRIEF = (0.2, 1.2), (0.0, 0.02)
TIMES = ("while it ran", "while it waited", "when it was over")


async def _cancel(
    where: tuple[str, int], client: Client, after: float, begun: asyncio.Future[float] | None
) -> float:
    """Cancel what *client* runs *after* some seconds, or so many after it has *begun*.

    Returns:
        When that was sent, once it is delivered.
    """
    reader, writer = await asyncio.open_connection(*where)
    if begun is not None:
        await begun
    await asyncio.sleep(after)
    sent = time.monotonic()
    writer.write(frontend.cancel_request(client.pid, client.key))
    await reader.read()  # it is hung up on when it is delivered
    writer.close()
    return sent


class Found:
    """What targets have found.

    Attributes:
        sent, took_effect: requests, by when they were sent.
        wrong: statements that failed and should not have.
    """

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.took_effect: Counter[str] = Counter()
        self.brief: Counter[str] = Counter()
        self.wrong: list[str] = []


async def _target(
    client: Client, where: tuple[str, int], turns: int, chance: random.Random, found: Found
) -> None:
    for turn in range(turns):
        brief = bool(turn % 2)
        in_transaction = chance.random() < 0.3
        if in_transaction:
            await client.ask("BEGIN")
        seconds = chance.uniform(*(BRIEF if brief else LONG))
        begun: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        client.begun = lambda begun=begun: begun.set_result(time.monotonic())
        # A row that fills the server's buffer is sent at once.
        asking = client.ask(f"SELECT repeat('x', 9000) UNION ALL SELECT pg_sleep({seconds:f})::text")
        ended = asyncio.get_running_loop().create_future()
        asking.add_done_callback(lambda _, ended=ended: ended.set_result(time.monotonic()))
        after = chance.uniform(0, 1.2 * seconds)
        cancelling = asyncio.create_task(_cancel(where, client, after, begun if brief else None))
        answer = await asking
        over = await ended
        sent = await cancelling
        hit = b"E" in answer
        if hit and sqlstate(answer[b"E"]) != CANCELED:
            found.wrong.append(f"a target: {answer[b'E']!r}")
        if hit and sent > over:
            found.wrong.append("a target's statement ended by a request that was sent later")
        if brief:
            found.brief["sent"] += 1
            found.brief["took effect"] += hit
        else:
            when = TIMES[2 if sent >= over else 0 if begun.result() <= sent else 1]
            found.sent[when] += 1
            found.took_effect[when] += hit
        if in_transaction:
            await client.ask("ROLLBACK")
        answer = await client.ask(f"SELECT 'turn {turn}'")
        if f"turn {turn}".encode() not in answer.get(b"D", b""):
            found.wrong.append(f"the statement behind a request that was delivered: {answer}")


async def _bystander(
    client: Client, number: int, over: asyncio.Event, found: Counter[str], wrong: list[str]
) -> None:
    chance = random.Random(number)
    while not over.is_set():
        mark = f"bystander {number}, {chance.random()}"
        texts = [f"SELECT '{mark}'", f"SELECT '{mark}' FROM pg_sleep({chance.uniform(0, 0.03):f})"]
        for text in (
            ["BEGIN", texts[1], texts[0], "COMMIT"] if chance.random() < 0.3 else [chance.choice(texts)]
        ):
            answer = await client.ask(text)
            found["statements"] += 1
            if b"E" in answer or (b"D" in answer and mark.encode() not in answer[b"D"]):
                wrong.append(f"a bystander's {text}: {answer}")


async def work(
    cue: Cue, dsn: str, where: tuple[str, int], kind: str, turns: int, count: int
) -> dict[str, Any]:
    """*count* clients of a *kind*, in this process; *turns*: cancel requests for each."""
    where = tuple(where)
    clients = [await Client.connect(where, names(dsn)) for _ in range(count)]
    chance = random.Random(kind)
    found, statements, wrong = Found(), Counter[str](), []
    await cue()
    if kind == "targets":
        await asyncio.gather(
            *(_target(client, where, turns, random.Random(chance.random()), found) for client in clients)
        )
    else:
        await asyncio.gather(
            *(_bystander(client, at, cue.over, statements, wrong) for at, client in enumerate(clients))
        )
    for client in clients:
        client.close()
    return {**vars(found), "wrong": found.wrong + wrong, **statements}


def measure(dsn: str, requests: int, *, direct: bool) -> dict[str, Any]:
    """One run."""
    given = conninfo_to_dict(dsn)
    with nullcontext() if direct else serving(dsn, pool=POOL) as server:
        where = (str(given["host"]), int(given["port"])) if server is None else server.where
        common = {"dsn": dsn, "where": where, "turns": 2 * -(-requests // TARGETS)}
        parts = [
            {**common, "kind": "targets", "count": TARGETS},
            {**common, "kind": "bystanders", "count": BYSTANDERS},
        ]
        with crew(__spec__.name, parts) as running:
            running.tell()
            (aimed,) = running.results(slice(1))
            running.tell()
            (others,) = running.results(slice(1, None))
        faults = [] if server is None else server.faults()
    wrong = aimed["wrong"] + others["wrong"] + faults
    row = {"cancel requests": sum(aimed["sent"].values()) + aimed["brief"]["sent"]}
    for when in TIMES:
        row[f"sent {when}"] = aimed["sent"][when]
        row["… took effect" + " " * TIMES.index(when)] = aimed["took_effect"][when]
    ran = aimed["sent"][TIMES[0]]
    return {
        **row,
        "effect, sent while it ran, %": 100 * aimed["took_effect"][TIMES[0]] / max(ran, 1),
        "for brief statements": aimed["brief"]["sent"],
        "… took effect" + " " * 3: aimed["brief"]["took effect"],
        "bystanders' statements": others["statements"],
        "hit that should not have been": len(wrong),
        "first of them": wrong[0][:300] if wrong else None,
    }


def part(dsn: str, seconds: float | None, quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures, and the bars."""
    requests = 80 if quick else 1000
    rows = {name: measure(dsn, requests, direct=name == "direct") for name in ("direct", "proxy")}
    mine = rows["proxy"]
    bars = {
        "cancels: statements hit that should not have been": bar(mine["hit that should not have been"], 0),
        "cancels: % without effect, of those sent while their target ran": bar(
            100 - mine["effect, sent while it ran, %"], 5.0
        ),
    }
    return {each: {name: rows[name][each] for name in rows} for each in mine}, bars
