"""The tests of truth are true themselves: take one safeguard away, and the scenario made for it must fail.

Each scenario is an interleaving written out: a hook of the cache's stage lets other connections act in the very
moment in which it matters. No thread, no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

import heliosproxy
from heliosproxy.cache.book import Book
from heliosproxy.cache.stage import CacheStage
from heliosproxy.cache.versions import Versions
from heliosproxy.sql.statement import TransactionOp

ONE = "SELECT v FROM u WHERE id = 1"
Patch = pytest.MonkeyPatch


class Stale(Exception):
    """The proxy said something else than the database."""


class Play:
    """Connections on one Proxy, and moments in which to act."""

    def __init__(self, dsn: str, patch: Patch, mutate: Callable[[Play], None] | None = None) -> None:
        self.patch = patch
        self._acts: dict[str, Callable[[], object]] = {}
        # Before the Proxy is made: its path binds the hooks once. The gates are around the mutant.
        if mutate is not None:
            mutate(self)
        for name in ("result", "settled", "_written"):
            self._gate(name, after=name == "_written")
        self.raw = psycopg.connect(dsn, autocommit=True)
        self.raw.execute(
            "TRUNCATE u, heir, log; INSERT INTO u VALUES (1, 1), (2, 2); INSERT INTO log VALUES (0)"
        )
        # The catalogue is looked at when the scenario gives reason to, not when the machine was slow.
        cache = {"enabled": True, "poll_interval": "1h"}
        self.proxy = heliosproxy.Proxy({"cache": cache}, helios_mode="transaction")
        self.a, self.b, self.c = (self.proxy.connect(dsn, autocommit=True) for _ in range(3))
        self.raw.execute("DROP SCHEMA s CASCADE; CREATE SCHEMA s; CREATE TABLE s.x (v int)")
        self.raw.execute("INSERT INTO s.x VALUES (7); CREATE VIEW s.w AS SELECT v FROM u WHERE id = 1")

    def at(self, moment: str, act: Callable[[], object]) -> None:
        """*act*, once, when the stage next comes to *moment*."""
        self._acts[moment] = act

    def read(self, conn: Any, query: str = ONE) -> str:
        """Read through the proxy; returns the outcome."""
        cursor = conn.execute(query)
        if cursor.fetchall() != self.raw.execute(query).fetchall():
            raise Stale(query)
        outcome: str = cursor.helios.outcome
        return outcome

    def close(self) -> None:
        for conn in (self.a, self.b, self.c, self.raw):
            conn.close()
        self.proxy.close()

    def _gate(self, name: str, after: bool) -> None:
        real, acts = getattr(CacheStage, name), self._acts

        def gated(*args: Any) -> Any:
            found = real(*args) if after else None
            if (act := acts.pop(name, None)) is not None:
                act()
            return found if after else real(*args)

        self.patch.setattr(CacheStage, name, gated)


# -- scenarios ---------------------------------------------------------------------------------------


def fill_race(play: Play) -> None:
    """Row 24: the answer is on its way back while another session writes and is told so."""
    play.at("result", lambda: _do(play.b, "UPDATE u SET v = 10"))
    play.a.execute(ONE)
    play.read(play.a)
    play.read(play.c)


def visible_before_told(play: Play) -> None:
    """Row 25: the commit is visible, the writer does not know yet."""
    _do(play.b, "BEGIN", "UPDATE u SET v = 10")
    play.read(play.a)
    play.at("settled", lambda: play.read(play.a))
    _do(play.b, "COMMIT")
    play.read(play.a)


def rollback_to(play: Play) -> None:
    """Row 30: what was written before the savepoint is still pending."""
    _do(play.b, "BEGIN", "UPDATE u SET v = 10", "SAVEPOINT x", "UPDATE u SET v = 11", "ROLLBACK TO x")
    play.read(play.a)
    _do(play.b, "COMMIT")
    play.read(play.a)


def view_replaced(play: Play) -> None:
    """Row 8: between the judgement on a read and its token a view becomes another one."""
    play.read(play.c)  # the catalogue is known
    play.at("_written", lambda: _do(play.b, "CREATE OR REPLACE VIEW s.w AS SELECT v FROM s.x"))
    play.read(play.a, "SELECT v FROM s.w")
    _do(play.b, "UPDATE s.x SET v = 8")
    play.read(play.a, "SELECT v FROM s.w")


def trigger_created(play: Play) -> None:
    """Row 8: between the judgement on a write and its flux the table gets a trigger."""
    play.read(play.c, "SELECT sum(v) FROM log")
    ddl = "CREATE TRIGGER x AFTER UPDATE ON s.x FOR EACH ROW EXECUTE FUNCTION to_log()"

    def between() -> None:
        _do(play.b, ddl)
        assert play.read(play.c, "SELECT sum(v) FROM log") == "miss"

    play.at("_written", between)
    _do(play.a, "UPDATE s.x SET v = 9")
    play.read(play.c, "SELECT sum(v) FROM log")


def _do(conn: Any, *statements: str) -> None:
    for statement in statements:
        conn.execute(statement)


# -- mutants -----------------------------------------------------------------------------------------


def no_token(play: Play) -> None:
    """Store with the versions of the moment of storing."""
    real = CacheStage.result

    def result(self: Any, session: Any, call: Any, results: Any) -> None:
        if call.token is not None:
            slots, _, *rest = call.token
            call.token = (slots, self._versions.token(slots), *rest)
        real(self, session, call, results)

    play.patch.setattr(CacheStage, "result", result)


def no_flux(play: Play) -> None:
    """Invalidate when the outcome is known, and nothing before."""
    play.patch.setattr(Versions, "begin", lambda self, slots: None)
    play.patch.setattr(Versions, "end", Versions.touch)


def rollback_to_clears(play: Play) -> None:
    """ROLLBACK TO ends the flux."""
    real = CacheStage._transaction

    def transaction(self: Any, session: Any, state: Any, statement: Any) -> None:
        real(self, session, state, statement)
        if statement.transaction is not None and statement.transaction.op is TransactionOp.ROLLBACK_TO:
            self._versions.end(tuple(state.flux))
            state.flux, session.tx.wrote = set(), False

    play.patch.setattr(CacheStage, "_transaction", transaction)


def no_second_look(play: Play) -> None:
    """Trust in the judgement, whatever happened since."""
    real, act = Book.holds, play.at

    def at(moment: str, what: Callable[[], object]) -> None:
        def then() -> None:
            what()
            play.patch.setattr(
                Book, "holds", lambda self, look: play.patch.setattr(Book, "holds", real) or True
            )
            play.patch.setattr(CacheStage, "_overtaken", lambda self, session: None)

        act(moment, then)

    play.patch.setattr(play, "at", at)


CAUGHT = [
    (fill_race, no_token),
    (visible_before_told, no_flux),
    (rollback_to, rollback_to_clears),
    (trigger_created, no_second_look),
]


@pytest.fixture
def make(hazards_dsn: str, apart: None, monkeypatch: Patch) -> Iterator[Callable[[Any], Play]]:
    made: list[Play] = []

    def make(mutate: Callable[[Play], None] | None = None) -> Play:
        play = Play(hazards_dsn, monkeypatch, mutate)
        made.append(play)
        return play

    yield make
    for play in made:
        play.close()


@pytest.mark.parametrize("scenario", [*(scenario for scenario, _ in CAUGHT), view_replaced])
def test_the_scenario_holds(make: Callable[..., Play], scenario: Callable[[Play], None]) -> None:
    scenario(make())


@pytest.mark.parametrize(("scenario", "mutant"), CAUGHT)
def test_the_mutant_is_caught(make: Callable[..., Play], scenario: Any, mutant: Any) -> None:
    play = make(mutant)
    with pytest.raises(Stale):
        scenario(play)
