"""The cache in the path: hazards/cache.md, in the order of a statement's life.

lookup    the key, and the entry under it, if this session may use the cache now
answer    … served, if no write to what it read has begun since
begin     learn the catalogue; wait for another session that is asking the very same
sending   immediately before the send: declare writes (flux), or take the token of what is read
result    store, if the token still holds
settled   the outcome of the transaction: end the flux
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..call import Call
from ..effects import Follow, Steps
from ..sql.hint_values import checked
from ..sql.statement import Kind, Statement, TransactionOp
from ..state.settings import Values
from ..state.transaction import Status
from . import keys
from .book import Book, Context, Look, search_path
from .memory import result_size
from .plain import make as make_plain
from .policy_verdict import Verdict
from .quick import make as make_quick
from .service import CacheService
from .store import Entry

if TYPE_CHECKING:
    from ..session import Session

EVERYTHING = (0,)
_ISOLATED = ("repeatable read", "serializable")
_FINISHING = (TransactionOp.COMMIT_PREPARED, TransactionOp.ROLLBACK_PREPARED)
_BARRING = frozenset({"opaque_setting", "advisory_lock"})
_DML = (Kind.SELECT, Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE, Kind.COPY, Kind.TRUNCATE)
_NO_CALL = Call(None)
_TUPLES_OK = 2  # PGRES_TUPLES_OK


class State:
    """What the cache remembers of one session.

    Attributes:
        context, values, look: the session's context, and what it was made from.
        judged: the look by which its last statement was judged; None when nothing was known.
        flux: slots in flux because of its open transaction.
        isolated: its open transaction asked for one snapshot.
        gid: the name its transaction is being prepared under.
        opaque: code that we do not see may have changed the settings of the server connection it holds.
    """

    __slots__ = ("book", "context", "flux", "gid", "isolated", "judged", "look", "opaque", "values")

    def __init__(self, book: Book) -> None:
        self.book = book
        self.context = Context(0, barred="catalogue_unknown")
        self.values: Values | None = None
        self.look: Look | None = None
        self.judged: Look | None = None
        self.flux: set[int] = set()
        self.isolated = False
        self.gid = ""
        self.opaque = False


class CacheStage:
    """Answers from memory what the server has answered before."""

    def __init__(self, service: CacheService) -> None:
        self.service = self._service = service
        self.quick, self.peek = make_quick(self)
        self.plain, self.passing = make_plain(self)
        self._versions = service.versions
        self._store = service.store
        self._stats = service.stats_

    # -- answer? ---------------------------------------------------------------------------------

    def ease(self, session: Session) -> tuple[int, Book, Look | None] | None:
        """What `quick` needs of a session that may use the cache now; None for any other."""
        state = self._state(session)
        if self._barred(session, state, _NO_CALL):
            return None
        return state.context.number, state.book, state.look

    def lookup(self, session: Session, call: Call) -> Entry | None:
        """The entry under the key of *call*; called again once the parameters are converted."""
        if call.key is None:
            if call.options is not None:
                call.options = checked(call.options)
            state = session.scratch.get("cache")
            if state is None:
                state = session.scratch["cache"] = State(self._service.book(session.pool))
            reason = self._barred(session, state, call)
            if reason:
                call.reason = reason
                return None
            number = state.context.number
            call.key = keys.raw_key(call, number) if call.bound is None else keys.key(call, number)
            if call.key is None:
                return None
            entry = self._store.get(call.key)
            if entry is not None and (call.options is None or self._young(entry, call)):
                call.statement = entry.statement
                return entry
        return None

    def _young(self, entry: Entry, call: Call) -> bool:
        """Whether *entry* is no older than the hint of *call* allows."""
        ttl = call.options and call.options.get("ttl")
        return not ttl or self._service.clock() - entry.created < ttl

    def _barred(self, session: Session, state: State, call: Call) -> str:
        """Why this session, or this call, may not use the cache now; "" when it may."""
        tx, settings = session.tx, session.settings
        if tx.wrote:
            return "own_writes"
        if tx.locked:
            return "locked"
        if tx.status > Status.OPEN:
            return "failed_transaction"
        if session.temp:
            return "temporary_tables"
        if session.isolated or state.isolated:
            return "isolation"
        if session.open:
            return "replies_outstanding"
        if settings.local:
            return "local_setting"
        if not session.pins.isdisjoint(_BARRING):
            return "setting" if "opaque_setting" in session.pins else "locked"
        if state.opaque:
            return "setting"
        if call.options is not None and call.options.get("cache") is False:
            return "option"
        if state.book.next_poll <= self._service.clock():
            return "poll"
        return self._context(session, state).barred

    def _context(self, session: Session, state: State) -> Context:
        values, look = session.settings.values, state.book.look
        if values is not state.values or look is not state.look:
            state.look, state.values = look, values
            state.context = state.book.context(session.settings, look)
        return state.context

    def answer(self, session: Session, call: Call, entry: Entry) -> list[Any] | None:
        """The results of *entry*, if no write to what it read has begun."""
        if not self._versions.valid(entry.slots, entry.token):
            self._store.remove(call.key, entry)
            return None
        self._stats.hit()
        call.outcome = "hit"
        return list(entry.payload)

    # -- on the way to a server --------------------------------------------------------------------

    def begin(self, session: Session, call: Call) -> Steps | None:
        """What must be learned first; or, when another session is just asking the same, its answer."""
        state = self._state(session)
        tx = session.tx
        # Not behind LOCK TABLE: the look might wait for the lock, and we for the look.
        if tx.status <= Status.OPEN and not tx.locked and state.book.due():
            return self._learn(session, state, call)
        return self._follow(session, state, call)

    def _learn(self, session: Session, state: State, call: Call) -> Steps:
        yield from state.book.refresh()
        if call.kind == "execute":
            call.key, call.reason = None, ""
            entry = self.lookup(session, call)
            if entry is not None and (results := self.answer(session, call, entry)) is not None:
                call.results = results
                return True
        steps = self._follow(session, state, call)
        return steps is not None and (yield from steps)

    def _follow(self, session: Session, state: State, call: Call) -> Steps | None:
        flights = self._service.flights
        if flights is None or call.key is None or session.server is not None:
            return None
        verdict = self._verdict(session, state, call)
        if verdict is None or not verdict.cacheable or not self._parameters_ok(call):
            return None
        token = self._versions.token(state.book.slots(verdict.reads))
        if token is None:
            return None
        flight = flights.join(call.key, token)
        if flight.leader:
            call.note = {"flight": flight}
            return None
        return self._landed(call, flight)

    def _landed(self, call: Call, flight: Any) -> Steps:
        entry = yield Follow(flight, self._service.flight_timeout)
        if entry is None or not self._versions.valid(entry.slots, entry.token):
            return False
        self._stats.hit()
        call.outcome = "hit"
        call.results = list(entry.payload)
        return True

    def sending(self, session: Session, call: Call) -> None:
        """Immediately before the send: writes put their relations in flux, reads take the token."""
        state = self._state(session)
        statement = call.statement
        if statement is None:
            return
        self._transaction(session, state, statement)
        verdict = self._verdict(session, state, call)
        if verdict is None:
            harmless = session.harmless
            opaque = statement.writes_anything or any(f.name not in harmless for f in statement.functions)
            slots: tuple[int, ...] = EVERYTHING if _may_write(statement) else ()
            if slots and (opaque or statement.kind not in _DML):
                slots = (state.book.slot, 0)
            reason = "catalogue_unknown"
        else:
            if verdict.locks:
                session.tx.locked = True
            slots, opaque = self._written(state, verdict), verdict.opaque
            reason = verdict.reason
        if opaque:
            state.opaque = session.server.tainted = True
        if slots:
            self._flux(session, state, slots)
            if verdict is not None and not verdict.ddl and not state.book.holds(state.judged):
                self._flux(session, state, EVERYTHING)  # DDL came between the judgement and the flux
        self._token(session, state, call, verdict, reason)

    def _token(
        self, session: Session, state: State, call: Call, verdict: Verdict | None, reason: str
    ) -> None:
        if call.kind == "command":
            return
        if call.kind != "execute":
            reason = reason or call.kind
        elif call.key is None:
            reason = call.reason or reason or "unknown"
        elif not reason and not self._parameters_ok(call):
            reason = "clock"
        call.outcome, call.reason = "bypass", reason
        if reason or verdict is None:
            self._stats.bypass(reason)
            return
        ttl = self._ttl(state, call, verdict.reads)
        slots = state.book.slots(verdict.reads)
        token = self._versions.token(slots)
        if token is None or not state.book.holds(state.judged):
            # In the second case the token may be younger than the catalogue that the slots are from.
            call.reason = "in_flux"
            self._stats.bypass("in_flux")
            return
        call.outcome = "miss"
        self._stats.miss()
        call.token = (slots, token, verdict.reads, ttl)

    def result(self, session: Session, call: Call, results: list[Any] | None) -> None:
        """Store the answer, if what it read was not written since its token was taken."""
        if session.tx.wrote:
            self._overtaken(session)
        if call.statement is not None and call.statement.verb == "DISCARD ALL":
            self._state(session).opaque = False
        if call.token is None or not results:
            return
        slots, token, relations, ttl = call.token
        call.token = None
        if len(results) != 1 or results[0].status != _TUPLES_OK:
            self._stats.refuse("status")
            return
        if not self._versions.valid(slots, token):
            self._stats.refuse("written_meanwhile")
            return
        size = result_size(results[0])
        statement: Any = call.statement
        entry = Entry(
            slots=slots,
            token=token,
            statement=statement,
            payload=tuple(results),
            size=size,
            relations=relations,
        )
        if ttl is not None:
            entry.expires = self._service.clock() + ttl
        if self._store.put(call.key, entry):
            self._stats.stored()
        else:
            self._stats.refuse("too_large")
        if call.note is not None and (flight := call.note.pop("flight", None)) is not None:
            flight.done(entry)

    def released(self, session: Session) -> None:
        """What the server connection carries is cleaned before it is used again, and nobody relies on it."""
        state = session.scratch.get("cache")
        if state is not None:
            state.opaque = False

    def observe(self, session: Session, call: Call, error: BaseException | None) -> None:
        """Whatever happened: nobody waits for this session any more."""
        if call.note is not None and (flight := call.note.pop("flight", None)) is not None:
            flight.done(None)

    def settled(self, session: Session, outcome: str) -> None:
        """The transaction is over: end the flux, or remember why it cannot end yet."""
        state = session.scratch.get("cache")
        if state is None:
            return
        state.isolated = False
        gid, state.gid = state.gid, ""
        if not state.flux:
            return
        slots = tuple(state.flux)
        state.flux = set()
        if outcome == "doubt":
            pid = 0 if session.server is None else session.server.backend_pid
            state.book.doubts.lost(pid, slots, gid)
            state.book.doubt()
        elif outcome == "prepared":
            state.book.doubts.prepared(gid, slots)
        else:
            self._versions.end(slots)
            self._stats.invalidated(len(slots))

    # -- parts -----------------------------------------------------------------------------------

    def _state(self, session: Session) -> State:
        state: State | None = session.scratch.get("cache")
        if state is None:
            state = session.scratch["cache"] = State(self._service.book(session.pool))
        return state

    def verdict(self, session: Session, call: Call) -> Verdict | None:
        """What is to be thought of the statement of *call*; None when nobody can tell now."""
        return self._verdict(session, self._state(session), call)

    def _verdict(self, session: Session, state: State, call: Call) -> Verdict | None:
        """What is to be thought of the statement, by `State.judged`; None when nobody can tell."""
        book = state.book
        context = self._context(session, state)
        look = state.judged = state.look
        if call.statement is None or look is None or not book.holds(look):
            return None
        path = context.search_path
        if session.settings.local:
            now: dict[str, Any] = {**session.settings.values, **session.settings.local}
            path = search_path(look, {name: value for name, value in now.items() if value is not None})
        if path is None or "opaque_setting" in session.pins:
            return None  # nobody can tell where names are looked up
        return self._service.policy.judge(call.statement, look.catalog, path)

    def _overtaken(self, session: Session) -> None:
        """DDL overtook a write on its way: what it then wrote is not what it was judged to write."""
        state = self._state(session)
        look = state.judged
        if look is not None and self._versions.single(state.book.slot) != look.token:
            self._flux(session, state, EVERYTHING)

    def _written(self, state: State, verdict: Verdict) -> tuple[int, ...]:
        if verdict.ddl or verdict.opaque or not isinstance(verdict.writes, frozenset):
            return (state.book.slot, 0)  # who may write anything may write the catalogue
        return state.book.slots(verdict.writes)[1:] if verdict.writes else ()

    def _flux(self, session: Session, state: State, slots: tuple[int, ...]) -> None:
        session.tx.wrote = True
        new = tuple(slot for slot in slots if slot not in state.flux)
        if new:
            self._versions.begin(new)
            state.flux.update(new)

    def _transaction(self, session: Session, state: State, statement: Statement) -> None:
        for part in statement.parts or (statement,):
            transaction = part.transaction
            if transaction is None:
                for setting in part.settings:
                    if setting.name == "transaction_isolation":
                        state.isolated = True
                continue
            if transaction.options.get("isolation", "") in _ISOLATED:
                state.isolated = True
            if transaction.op is TransactionOp.PREPARE:
                state.gid = transaction.name or ""
            elif transaction.op in _FINISHING:
                state.book.doubt()  # perhaps the one we wait for

    def _parameters_ok(self, call: Call) -> bool:
        bound = call.bound
        if bound is None or not bound.params:
            return True
        formats = bound.formats or ()
        texts = (p for p, f in zip(bound.params, formats, strict=False) if f == 0 and p is not None)
        return self._service.policy.parameters_ok([bytes(text) for text in texts])

    def _ttl(self, state: State, call: Call, relations: frozenset[int]) -> float | None:
        """Seconds the answer may be kept at most."""
        statement: Any = call.statement
        hinted = (checked(hints).get("ttl") for hints in (call.options, statement.hints) if hints)
        ttls = [ttl for ttl in hinted if ttl is not None]
        look = state.judged
        for table in self._service.tables:
            if table.ttl is None or look is None:
                continue
            if relations & look.catalog.relations_named(table.name):
                ttls.append(table.ttl)
        return min(ttls) if ttls else None


def _may_write(statement: Statement) -> bool:
    """Without a catalogue: whether *statement* could write anything, if only by a function."""
    if statement.transaction is not None and not statement.parts:
        return False
    return bool(
        statement.writes
        or statement.writes_anything
        or statement.functions
        or statement.parts
        or statement.reads
        or statement.kind.value not in ("select", "set", "show", "empty", "fetch", "close", "deallocate")
    )
