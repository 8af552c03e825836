"""The statements that the clients of the fuzz say, and what each comes to by the model."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from heliosproxy.server.protocol import frontend

from .model import CLIENTS, Known, Messages, Model, Settle, error, rows

MEMORY = ("5MB", "6MB")


class Statements(Model):
    """Reads, writes, COPY, pipelines, prepared statements, settings."""

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
            if not self.failed(client, answer):
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
