"""Several clients, and a model that knows what each of them must be told: who waits, what is committed, what is set."""

from __future__ import annotations

import random
from typing import Any

import hypothesis
import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from heliosproxy.server.protocol import frontend

from .model import CLIENTS, Known, Messages, error
from .mutator import before_login, play, stream
from .raw import Peer, cancel, names
from .served import Server, soon
from .statements import Statements


class Clients(Statements):
    """Clients that come and go, begin and end transactions, cancel, and lose their server connections."""

    # -- coming and going ----------------------------------------------------------------------------

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
        if client is not None:
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

        assert soon(over), "it is not cancelled"
        self.settled(client, lambda client, answer: [self.failed(client, answer, "57014"), None][1])
        self.advance()

    @rule(at=st.integers(0, CLIENTS - 1))
    def cancel_wait(self, at: int) -> None:
        """One that waits for a server connection."""
        if not self.queue:
            return

        def settle(client: Known, answer: Messages) -> None:
            assert error(answer) == "57014", answer
            if client.status == "T":  # no server has seen it, so there is nothing that could be rolled back
                client.status = "L"

        client = self.queue.pop(at % len(self.queue))
        cancel(self.server.where, client.peer.pid, client.peer.key)
        self.settled(client, settle)
        self.queued()
        self.advance()

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


def drive(server: Server, mode: str, scarce: bool, examples: int, steps: int = 100, seed: Any = None) -> None:
    """Drive *server*; raises what is not as the model has it, with the steps that led there."""
    made = type("Driven", (Clients,), {"server": server, "mode": mode, "scarce": scarce})
    if seed is not None:
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
