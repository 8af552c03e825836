"""Several clients, and a model that knows what each of them must be told: who waits, what is committed, what is set.

Every client writes to a row of its own and reads everybody's, so the model need not know of locks. Where a server
connection is lacking, a statement waits, and the model knows whose turn is next. Clients hang up whenever they like.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from heliosproxy.server.protocol import frontend

from .mutator import before_login, play, stream
from .raw import Peer, cancel, names, sqlstate
from .served import BUSY, Server, soon

CLIENTS = 5
MEMORY = ("5MB", "6MB")
TABLES = """
    CREATE TABLE IF NOT EXISTS fuzzed (n int);
    CREATE TABLE IF NOT EXISTS modelled (slot int PRIMARY KEY, n int);
    CREATE TABLE IF NOT EXISTS logged (slot int);
    INSERT INTO modelled SELECT i, 0 FROM generate_series(0, 4) AS i ON CONFLICT DO NOTHING
"""

Messages = list[tuple[bytes, bytes]]
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


class Clients(RuleBasedStateMachine):
    """See the head of this file.

    Attributes:
        server, mode: what is driven.
        scarce: server connections are fewer than clients: some wait.
        several: it has several workers: a cancel request may come to another one than its client's, and takes longer.
    """

    server: Server
    mode = "transaction"
    scarce = several = False

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

    # -- coming and going ----------------------------------------------------------------------------

    @precondition(lambda self: len(self.clients) < CLIENTS)
    @rule(unix=st.booleans())
    def come(self, unix: bool) -> None:
        slot = min(set(range(CLIENTS)) - set(self.clients))
        where = self.server.path if unix else self.server.where
        peer = Peer(where, names(self.server.dsn))
        now = self.committed[slot]._replace(memory="4MB")
        self.clients[slot] = Known(slot, peer, now)

    @rule(at=st.integers(0, CLIENTS - 1), how=st.sampled_from(["politely", "at once", "when told"]))
    def go(self, at: int, how: str) -> None:
        if not self.clients:
            return
        client = sorted(self.clients.items())[at % len(self.clients)][1]
        del self.clients[client.slot]
        if how == "politely":
            client.peer.send(frontend.TERMINATE)
        if how == "at once":
            client.peer.close()
        else:
            client.peer.leaves()
        if client in self.queue:
            self.queue.remove(client)
            self.queued()  # it must not have its turn any more
        self.advance()

    @rule(seed=st.integers(0, 1 << 30))
    def garbage(self, seed: int) -> None:
        chance = random.Random(seed)
        if chance.random() < 0.3:
            play(Peer(self.server.where), before_login(chance), chance)
        else:
            if self.mode == "session" and len(self.clients) >= self.server.pool:
                return  # it would not be let in
            play(Peer(self.server.where, names(self.server.dsn)), stream(chance), chance)

    # -- transactions --------------------------------------------------------------------------------

    @rule(at=st.integers(0, CLIENTS - 1), writes=st.booleans())
    def begin(self, at: int, writes: bool) -> None:
        def settle(client: Known, answer: Messages) -> None:
            assert not error(answer), answer
            client.status, client.lazy = "T", self.mode == "transaction"
            client.before = client.now

        client = self.idle(at, "I")
        if client is not None:
            client.peer.send(frontend.query(b"BEGIN"))  # it waits for nobody
            self.settled(client, settle)
            if writes:
                self.write_by(client)

    @rule(at=st.integers(0, CLIENTS - 1), commit=st.booleans())
    def end(self, at: int, commit: bool) -> None:
        client = self.idle(at, "T", "E", "L")
        if client is None:
            return

        def settle(client: Known, answer: Messages) -> None:
            if client.status == "L" and commit:
                assert error(answer) == "25P02", answer
                return
            tag = b"COMMIT\0" if commit and client.status == "T" else b"ROLLBACK\0"
            assert (b"C", tag) in answer, answer
            self.ended(client, kept=tag == b"COMMIT\0")

        client.peer.send(frontend.query(b"COMMIT" if commit else b"ROLLBACK"))
        self.settled(client, settle)
        self.advance()

    @rule(
        at=st.integers(0, CLIENTS - 1),
        what=st.sampled_from(["SAVEPOINT", "ROLLBACK TO", "RELEASE"]),
        name=st.sampled_from(["a", "b"]),
    )
    def savepoint(self, at: int, what: str, name: str) -> None:
        def settle(client: Known, answer: Messages) -> None:
            places = [place for place, mark in enumerate(client.marks) if mark[0] == name]
            if client.status == "L" or (client.status == "E" and what != "ROLLBACK TO"):
                assert error(answer) == "25P02", answer
            elif what == "SAVEPOINT":
                assert not error(answer), answer
                client.marks.append((name, client.now, client.local))
            elif not places:
                self.failed_with(client, answer, "3B001")
            else:
                assert not error(answer), answer
                if what == "RELEASE":
                    del client.marks[places[-1] :]
                else:
                    _, client.now, client.local = client.marks[places[-1]]
                    del client.marks[places[-1] + 1 :]
                    client.status = "T"

        self.ask(self.idle(at, "T", "E", "L"), frontend.query(f"{what} {name}".encode()), settle)

    def failed_with(self, client: Known, answer: Messages, state: str) -> None:
        assert error(answer) == state, answer
        client.status = "E"

    # -- statements ----------------------------------------------------------------------------------

    @rule(at=st.integers(0, CLIENTS - 1))
    def write(self, at: int) -> None:
        client = self.idle(at)
        if client is not None:
            self.write_by(client)

    def write_by(self, client: Known) -> None:
        def settle(client: Known, answer: Messages) -> None:
            if not self.failed(client, answer):
                client.now = client.now._replace(n=client.now.n + 1)

        text = f"UPDATE modelled SET n = n + 1 WHERE slot = {client.slot}"
        self.ask(client, frontend.query(text.encode()), settle)

    def reads(self, slot: int) -> Settle:
        def settle(client: Known, answer: Messages) -> None:
            if not self.failed(client, answer):
                assert rows(answer) == [b"%d" % self.seen(client, slot).n], (slot, answer)

        return settle

    @rule(at=st.integers(0, CLIENTS - 1), slot=st.integers(0, CLIENTS - 1), extended=st.booleans())
    def read(self, at: int, slot: int, extended: bool) -> None:
        text = f"SELECT n FROM modelled WHERE slot = {slot}".encode()
        message = extended_query(b"", text) if extended else frontend.query(text)
        self.ask(self.idle(at), message, self.reads(slot))

    @rule(at=st.integers(0, CLIENTS - 1), slot=st.integers(0, CLIENTS - 1), copies=st.booleans())
    def count(self, at: int, slot: int, copies: bool) -> None:
        def settle(client: Known, answer: Messages) -> None:
            if not self.failed(client, answer):
                told = [body[:-1] for kind, body in answer if kind == b"d"] if copies else rows(answer)
                assert told == [b"%d" % self.seen(client, slot).rows], (slot, answer)

        text = f"SELECT count(*) FROM logged WHERE slot = {slot}"
        self.ask(
            self.idle(at), frontend.query((f"COPY ({text}) TO STDOUT" if copies else text).encode()), settle
        )

    @rule(at=st.integers(0, CLIENTS - 1))
    def fail(self, at: int) -> None:
        def settle(client: Known, answer: Messages) -> None:
            self.failed(client, answer, "22012")

        self.ask(self.idle(at), frontend.query(b"SELECT 1/0"), settle)

    @rule(
        at=st.integers(0, CLIENTS - 1), name=st.sampled_from([b"p", b"q"]), slot=st.integers(0, CLIENTS - 1)
    )
    def prepare(self, at: int, name: bytes, slot: int) -> None:
        def settle(client: Known, answer: Messages) -> None:
            # Its name is closed first, which no failed transaction forbids; of a lost one all is refused.
            if client.status != "L":
                client.prepared.pop(name, None)
            # What the server connection knows already nobody asks it for, in a failed transaction either.
            known = client.status == "E" and not error(answer)
            if known or not self.failed(client, answer):
                client.prepared[name] = slot

        text = b"SELECT n FROM modelled WHERE slot = %d" % slot
        message = frontend.close(ord("S"), name) + frontend.parse(name, text) + frontend.SYNC
        self.ask(self.idle(at), message, settle)

    @rule(at=st.integers(0, CLIENTS - 1), name=st.sampled_from([b"p", b"q"]))
    def execute(self, at: int, name: bytes) -> None:
        def settle(client: Known, answer: Messages) -> None:
            slot = client.prepared.get(name)
            if slot is not None:
                self.reads(slot)(client, answer)
            elif client.status in ("E", "L"):
                assert error(answer) in ("25P02", "26000"), answer
            else:
                self.failed(client, answer, "26000")

        message = frontend.bind_nothing(name) + frontend.EXECUTE_ALL + frontend.SYNC
        self.ask(self.idle(at), message, settle)

    @rule(
        at=st.integers(0, CLIENTS - 1),
        before=st.integers(0, 3),
        fails=st.booleans(),
        behind=st.integers(0, 2),
    )
    def pipeline(self, at: int, before: int, fails: bool, behind: int) -> None:
        """Statements up to one Sync: all of them, or none."""

        def settle(client: Known, answer: Messages) -> None:
            if client.status in ("E", "L"):
                assert error(answer) == "25P02", answer
            elif not self.failed(client, answer, *(["22012"] if fails else [])):
                client.now = client.now._replace(n=client.now.n + before + behind)

        client = self.idle(at)
        if client is not None and before + fails + behind:
            write = f"UPDATE modelled SET n = n + 1 WHERE slot = {client.slot}".encode()
            texts = [write] * before + [b"SELECT 1/0"] * fails + [write] * behind
            batch = b"".join(extended_query(b"", text, sync=False) for text in texts)
            self.ask(client, batch + frontend.SYNC, settle)

    @rule(
        at=st.integers(0, CLIENTS - 1),
        kinds=st.lists(st.sampled_from(["write", "read", "fail"]), min_size=2, max_size=5),
    )
    def at_once(self, at: int, kinds: list[str]) -> None:
        """Several Queries before the first answer."""
        client = self.idle(at)
        if client is None or self.blocked(client):
            return
        texts = {
            "write": f"UPDATE modelled SET n = n + 1 WHERE slot = {client.slot}",
            "read": f"SELECT n FROM modelled WHERE slot = {client.slot}",
            "fail": "SELECT 1/0",
        }

        def settle(client: Known, answer: Messages, kind: str) -> None:
            if not self.failed(client, answer, *(["22012"] if kind == "fail" else [])):
                if kind == "write":
                    client.now = client.now._replace(n=client.now.n + 1)
                else:
                    assert rows(answer) == [b"%d" % client.now.n], answer

        client.peer.send(b"".join(frontend.query(texts[kind].encode()) for kind in kinds))
        for kind in kinds:
            self.settled(client, lambda client, answer, kind=kind: settle(client, answer, kind))
        self.advance()

    @rule(
        at=st.integers(0, CLIENTS - 1),
        lines=st.integers(0, 3),
        ends=st.sampled_from(["done", "fail", "wrong"]),
    )
    def copy_in(self, at: int, lines: int, ends: str) -> None:
        def settle(client: Known, answer: Messages) -> None:
            states = {"done": [], "fail": ["57014"], "wrong": ["22P02"]}[ends]
            if not self.failed(client, answer, *states):
                client.now = client.now._replace(rows=client.now.rows + lines)

        client = self.idle(at)
        if client is not None:
            data = frontend.message(b"d", b"%d\n" % client.slot) * lines
            data += frontend.message(b"d", b"no number\n") if ends == "wrong" else b""
            data += frontend.copy_fail(b"enough") if ends == "fail" else frontend.message(b"c", b"")
            self.ask(client, frontend.query(b"COPY logged FROM STDIN") + data, settle)

    # -- settings ------------------------------------------------------------------------------------

    @rule(at=st.integers(0, CLIENTS - 1), value=st.sampled_from([*MEMORY, ""]), local=st.booleans())
    def set(self, at: int, value: str, local: bool) -> None:
        def settle(client: Known, answer: Messages) -> None:
            if self.failed(client, answer):
                return
            if not value:
                client.now, client.local = client.now._replace(memory="4MB"), ""
            elif not local:
                client.now, client.local = client.now._replace(memory=value), ""
            elif client.status == "T":
                client.local = value

        text = f"SET {'LOCAL ' if local else ''}work_mem TO '{value}'" if value else "RESET work_mem"
        self.ask(self.idle(at), frontend.query(text.encode()), settle)

    @rule(at=st.integers(0, CLIENTS - 1))
    def show(self, at: int) -> None:
        def settle(client: Known, answer: Messages) -> None:
            if not self.failed(client, answer):
                assert rows(answer) == [(client.local or client.now.memory).encode()], answer

        self.ask(self.idle(at), frontend.query(b"SHOW work_mem"), settle)

    @rule(at=st.integers(0, CLIENTS - 1))
    def pin(self, at: int) -> None:
        def settle(client: Known, answer: Messages) -> None:
            assert not error(answer), answer
            client.pinned = True

        client = self.idle(at, "I")
        if client is not None and not client.pinned:
            self.ask(client, frontend.query(b"CREATE TEMP TABLE mine (n int)"), settle)

    # -- cancel, and loss ----------------------------------------------------------------------------

    @rule(at=st.integers(0, CLIENTS - 1))
    def cancel_nothing(self, at: int) -> None:
        client = self.idle(at)
        if client is not None and not self.several:
            cancel(self.server.where, client.peer.pid, client.peer.key)

    @rule(at=st.integers(0, CLIENTS - 1))
    def cancel_something(self, at: int) -> None:
        client = self.idle(at, "I", "T")
        if client is None or self.blocked(client):
            return
        client.peer.send(frontend.query(b"SELECT pg_sleep(25)"))

        def over() -> bool:
            cancel(self.server.path, client.peer.pid, client.peer.key)
            return not client.peer.silent

        if self.several:
            assert soon(self.sleeps), "it does not begin"
            cancel(self.server.path, client.peer.pid, client.peer.key)
        else:
            assert soon(over), "it is not cancelled"
        self.settled(client, lambda client, answer: [self.failed(client, answer, "57014"), None][1])
        self.advance()

    def sleeps(self) -> bool:
        with psycopg.connect(self.server.dsn, autocommit=True) as direct:
            return any("pg_sleep" in query and state == "active" for _, state, query in direct.execute(BUSY))

    @rule(at=st.integers(0, CLIENTS - 1))
    def lose(self, at: int) -> None:
        """The server connection of a client dies, between two statements."""
        client = self.idle(at)
        if client is None or not self.holds(client):
            return
        (link,) = [row["link"] for row in self.server.console("SHOW CLIENTS") if row["id"] == client.peer.pid]
        if not link:  # its transaction was answered from the cache so far
            return
        pid = int(link, 16)
        with psycopg.connect(self.server.dsn, autocommit=True) as direct:
            direct.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        assert soon(lambda: all(row["id"] != pid for row in self.server.console("SHOW SERVERS")))
        if self.mode == "session" or client.pinned:
            client.peer.leaves()
            del self.clients[client.slot]
        else:
            self.ended(client, kept=False)
            client.status = "L"
        self.advance()

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


def extended_query(name: bytes, text: bytes, *, sync: bool = True) -> bytes:
    """Parse, Bind, Describe, Execute of *text*."""
    return b"".join(
        (
            frontend.parse(name, text),
            frontend.bind_nothing(name),
            frontend.describe(ord("P"), b""),
            frontend.EXECUTE_ALL,
            frontend.SYNC if sync else b"",
        )
    )


def drive(server: Server, mode: str, scarce: bool, examples: int, steps: int = 100, seed: Any = None) -> None:
    """Drive *server*; raises what is not as the model has it, with the steps that led there."""
    several = len(server.console("SHOW WORKERS")) > 1
    world = {"server": server, "mode": mode, "scarce": scarce, "several": several}
    made = type("Driven", (Clients,), world)
    if seed is not None:
        import hypothesis

        made = hypothesis.seed(seed)(made)
    run_state_machine_as_test(
        made,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        ),
    )
