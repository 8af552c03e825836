"""What the clients of the fuzz must be told: a model of each, and of the queue for server connections.

Every client writes to a row of its own and reads everybody's, so the model need not know of locks. Where a server
connection is lacking, a statement waits, and the model knows whose turn is next. Clients hang up whenever they like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from .raw import Messages, Peer, names, sqlstate
from .served import Server, soon

CLIENTS = 5
TABLES = """
    CREATE TABLE IF NOT EXISTS fuzzed (n int);
    CREATE TABLE IF NOT EXISTS modelled (slot int PRIMARY KEY, n int);
    CREATE TABLE IF NOT EXISTS logged (slot int);
    INSERT INTO modelled SELECT i, 0 FROM generate_series(0, 4) AS i ON CONFLICT DO NOTHING
"""

Settle = Callable[["Known", Messages], None]


class View(NamedTuple):
    """What a transaction can change: a client's number, its lines in the log, its work_mem."""

    n: int = 0
    rows: int = 0
    memory: str = "4MB"


class Known:
    """One client.

    Attributes:
        status: I, T, E as PostgreSQL says it; L where its transaction was lost with its server connection.
        lazy: it has said BEGIN, and no server has been told yet.
        pinned: it keeps its server connection.
        now, before: what it sees of its own; that before its transaction.
        local: work_mem by SET LOCAL; "" = none.
        marks: savepoints, with what they return to.
        prepared: statements by name; the slot that each reads.
        awaits: what is to be made of the answer that is still to come; None = nothing is.
    """

    def __init__(self, slot: int, peer: Peer, now: View) -> None:
        self.slot, self.peer = slot, peer
        self.status = "I"
        self.lazy = self.pinned = False
        self.now = self.before = now
        self.local = ""
        self.marks: list[tuple[str, View, str]] = []
        self.prepared: dict[bytes, int] = {}
        self.awaits: Settle | None = None


def rows(answer: Messages) -> list[bytes]:
    """The first column of each row."""
    return [body[6 : 6 + int.from_bytes(body[2:6], "big")] for kind, body in answer if kind == b"D"]


def error(answer: Messages) -> str:
    """The SQLSTATE of the first error; "" = there is none."""
    return next((sqlstate(body) for kind, body in answer if kind == b"E"), "")


class Model(RuleBasedStateMachine):
    """The clients, and what holds for them at any time.

    Attributes:
        server, mode: what is driven.
        scarce: server connections are fewer than clients: some wait.
    """

    server: Server
    mode = "transaction"
    scarce = False

    def __init__(self) -> None:
        super().__init__()
        self.clients: dict[int, Known] = {}
        self.queue: list[Known] = []
        # By the proxy: its cache must learn of it.
        first = Peer(self.server.where, names(self.server.dsn))
        for text in ("UPDATE modelled SET n = 0", "DELETE FROM logged"):
            assert not error(first.ask(text))
        first.leaves()
        self.committed = [View()] * CLIENTS
        for number in range(CLIENTS - 1):
            self.come(unix=bool(number % 2))

    # -- the model -----------------------------------------------------------------------------------

    def holds(self, client: Known) -> bool:
        """Whether it has a server connection."""
        return self.mode == "session" or client.pinned or (client.status in "TE" and not client.lazy)

    def blocked(self, client: Known) -> bool:
        """Whether a statement of *client* has to wait for a server connection."""
        if not self.scarce or self.holds(client) or client.status == "L":  # to whom the proxy itself says no
            return False
        return bool(self.queue) or sum(map(self.holds, self.clients.values())) >= self.server.pool

    def idle(self, at: int, *statuses: str) -> Known | None:
        """One of those that can say something now, and are in one of *statuses*; None = there is none."""
        able = [
            each
            for each in self.clients.values()
            if each.awaits is None and (not statuses or each.status in statuses)
        ]
        return able[at % len(able)] if able else None

    def ask(self, client: Known | None, message: bytes, settle: Settle) -> None:
        """Send *message*, and *settle* the answer, which comes at once, or in its turn."""
        if client is None:
            return
        waits = self.blocked(client)
        client.peer.send(message)
        if waits:
            client.awaits = settle
            self.queue.append(client)
            self.queued()
            assert client.peer.silent
        else:
            self.settled(client, settle)
            self.advance()

    def queued(self) -> None:
        """Wait until the server sees the same clients waiting."""
        assert soon(lambda: self.server.counts()["waiting"] == len(self.queue)), (
            self.queue,
            self.server.counts(),
        )

    def settled(self, client: Known, settle: Settle) -> None:
        answer = client.peer.answer()
        if client.status == "T":
            client.lazy = False
        client.awaits = None
        settle(client, answer)
        said = answer[-1][1].decode()
        assert said == client.status.replace("L", "E"), (said, client.status, answer)
        if client.status == "I" and client.before != client.now:
            client.before = client.now
            self.committed[client.slot] = client.now

    def advance(self) -> None:
        """Those who wait and for whom there is a server connection now have their turn, in order."""
        while self.queue and sum(map(self.holds, self.clients.values())) < self.server.pool:
            client = self.queue.pop(0)
            assert client.awaits is not None
            self.settled(client, client.awaits)

    def failed(self, client: Known, answer: Messages, *states: str) -> bool:
        """Whether *answer* is the error that is due: one of *states*, or that of a transaction which has failed."""
        if client.status in ("E", "L"):
            assert error(answer) == "25P02", answer
            return True
        if not states:
            assert not error(answer), answer
            return False
        assert error(answer) in states, answer
        if client.status == "T":
            client.status = "E"
        return True

    def ended(self, client: Known, *, kept: bool) -> None:
        client.now = client.now if kept else client.before
        client.status, client.lazy, client.local = "I", False, ""
        client.marks.clear()

    def seen(self, client: Known, slot: int) -> View:
        return client.now if slot == client.slot else self.committed[slot]

    @precondition(lambda self: len(self.clients) < CLIENTS)
    @rule(unix=st.booleans())
    def come(self, unix: bool) -> None:
        slot = min(set(range(CLIENTS)) - set(self.clients))
        where = self.server.path if unix else self.server.where
        peer = Peer(where, names(self.server.dsn))
        now = self.committed[slot]._replace(memory="4MB")
        self.clients[slot] = Known(slot, peer, now)

    # -- always --------------------------------------------------------------------------------------

    @invariant()
    def nobody_is_told_what_it_did_not_ask(self) -> None:
        for client in self.clients.values():
            # Who waits may be told so.
            assert client.awaits is not None or client.peer.silent, client.peer.sock.recv(1000)

    def teardown(self) -> None:
        for client in self.queue:
            client.peer.close()
        self.queue.clear()
        if soon(lambda: not self.server.counts()["waiting"]):  # else it is said below
            for client in self.clients.values():
                client.peer.close()
        faults = self.server.faults()
        assert not faults, faults
        with psycopg.connect(self.server.dsn, autocommit=True) as direct:
            found = [n for (n,) in direct.execute("SELECT n FROM modelled ORDER BY slot")]
        assert found == [view.n for view in self.committed], (found, self.committed)
