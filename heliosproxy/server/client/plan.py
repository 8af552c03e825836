"""What a client sent up to a Sync, a Flush or a Query, read once: its statements, and what a server needs of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from ...call import Call
from ...sql.statement import Kind, Statement
from ..protocol import frontend
from ..protocol.errors import ProtocolViolation
from .fastpath import facts
from .statements import Portal, Prepared

if TYPE_CHECKING:
    from ..home import Known
    from .conversation import Conversation
    from .swift import Fields

PARSE, BIND, DESCRIBE, EXECUTE, CLOSE = b"PBDEC"
STATEMENT, PORTAL = b"SP"
Frame = tuple[int, bytes, int, int]

# Of a Parse or a Describe alone: nothing is executed, so no stage has anything to do with it.
NOTHING = Statement("", Kind.EMPTY)

# Of a Bind of what SQL has prepared, perhaps in a function.
PREPARED_BY_SQL = Statement("", Kind.UNCLASSIFIED, writes_anything=True, error="prepared_by_sql")


_KNOWING_SQL = frozenset({"session", "prepare"})
"""Pins of who may have statements by SQL's PREPARE."""


class Bound:
    """The parameters of a Bind, taken apart when somebody asks."""

    __slots__ = ("_formats", "_frame", "_params")

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._params: list[bytes | None] | None = None
        self._formats: list[int] = []

    def _read(self) -> list[bytes | None]:
        if self._params is None:
            _, buffer, start, end = self._frame
            try:
                bind = frontend.parse_bind(buffer, start, end)
            except ProtocolViolation:  # the server will say so, and nothing is made of its parameters
                self._params = []
                return self._params
            count = len(bind.parameters)
            formats = list(bind.formats)
            self._formats = formats if len(formats) == count else (formats or [0]) * count
            self._params = list(bind.parameters)
        return self._params

    @property
    def params(self) -> list[bytes | None]:
        return self._read()

    @property
    def formats(self) -> list[int]:
        self._read()
        return self._formats


class Op:
    """One message of the extended protocol.

    Attributes:
        kind: of the message.
        frame: the message.
        name: the client's name of what it is about.
        prepared: the statement it is about, if it is one that the client has prepared.
        rest: of a Bind: where what follows the statement's name begins, in the buffer of *frame*.
    """

    __slots__ = ("frame", "kind", "name", "prepared", "rest")

    def __init__(
        self, kind: int, frame: Frame, name: bytes, prepared: Prepared | None, rest: int = 0
    ) -> None:
        self.kind = kind
        self.frame = frame
        self.name = name
        self.prepared = prepared
        self.rest = rest


class Plan:
    """What is to be done for a client, up to the next point where it expects answers.

    Attributes:
        calls: its statements, in order; never empty.
        message: of a Query or a FunctionCall, the message; b"" for extended messages.
        ops: extended messages.
        sync: it ends in Sync (or is a Query), so ReadyForQuery follows.
        flush: it ends in Flush.
        swift: what is where in the commonest batch, instead of *ops*; else None.
        refused: the client's error behind *ops*, where it has made one that only we can see; else None.
    """

    __slots__ = ("calls", "flush", "message", "ops", "refused", "swift", "sync")

    def __init__(self, sync: bool) -> None:
        self.calls: list[Call] = []
        self.message = b""
        self.ops: list[Op] = []
        self.sync = sync
        self.flush = False
        self.refused: ProtocolViolation | None = None
        self.swift: Fields | None = None

    @property
    def local(self) -> bool:
        """Whether no server has to be asked where the names of statements are the client's alone."""
        return (
            not self.message
            and self.swift is None
            and all(op.kind == CLOSE and op.frame[1][op.frame[2] + 5] == STATEMENT for op in self.ops)
        )

    def in_full(self) -> None:
        """Make *ops* of what was read swiftly."""
        batch: Any = self.swift
        self.swift = None
        data, bind, rest, tail, prepared = batch
        name = data[bind + 6 : rest - 1]
        if bind:
            self.ops.append(Op(PARSE, (PARSE, data, 0, bind), b"", prepared))
        self.ops.append(Op(BIND, (BIND, data, bind, tail), name, prepared, rest))
        if data[tail] == DESCRIBE:
            self.ops.append(Op(DESCRIBE, (DESCRIBE, data, tail, tail + 7), b"", None))
            tail += 7
        self.ops.append(Op(EXECUTE, (EXECUTE, data, tail, tail + 10), b"", None))


def _call(text: bytes, kind: str = "execute") -> Call:
    call = Call(text, kind=kind)
    call.raw = ()  # until it is known that its answer may be kept
    return call


def _no_call() -> Call:
    call = _call(b"", "command")
    call.statement, call.quiet = NOTHING, True
    return call


def nothing(sync: bool) -> Plan:
    """A plan in which nothing is executed."""
    plan = Plan(sync)
    plan.calls.append(_no_call())
    return plan


def of_query(conversation: Conversation, frame: Frame) -> Plan:
    """The plan of a Query message."""
    _, buffer, start, end = frame
    text = frontend.parse_query(buffer, start, end)
    return of_read(buffer[start:end], conversation.home.known(text, conversation.encoding), None)


def of_read(data: bytes, known: Known, batch: Fields | None) -> Plan:
    """The plan of what was read whole: a Query, or the commonest batch."""
    plan = Plan(True)
    if batch is None:
        plan.message = data
        call = _call(data[5:-1])
        if known.reads:
            call.raw = ("Q", call.query)
    else:
        _, bind, rest, tail, prepared = batch
        plan.swift = batch
        call = _call(prepared.text)
        call.bound = Bound((BIND, data, bind, tail))
        if known.reads:
            described = data[tail] == DESCRIBE
            call.raw = ("B", prepared.text, prepared.types, data[rest:tail], described)
    call.statement, call.quiet = known.statement, known.quiet
    plan.calls.append(call)
    return plan


def of_function_call(conversation: Conversation, frame: Frame) -> Plan:
    """The plan of a FunctionCall."""
    _, buffer, start, end = frame
    plan = Plan(True)
    plan.message = buffer[start:end]
    call = _call(b"")
    call.statement = facts(plan.message)
    plan.calls.append(call)
    return plan


def of_batch(conversation: Conversation, frames: list[Frame], sync: bool) -> Plan:
    """The plan of extended messages."""
    plan = Plan(sync)
    fresh, ops = conversation.fresh, plan.ops
    if not conversation.busy:
        fresh.clear()
    statements, portals = conversation.statements, conversation.portals

    # Behind a SET in the same exchange nobody knows yet what a text means.
    unread = any(_sets(conversation, call) for call in conversation.under_way)

    def read(prepared: Prepared) -> Prepared:
        return conversation.private(prepared) if unread else prepared

    def find(name: bytes) -> Prepared | None:
        if name in fresh:
            return fresh[name]
        found = statements.get(name)
        return None if found is None else read(found)

    def take(frame: Frame) -> None:
        nonlocal unread
        kind, buffer, start, end = frame
        if kind == PARSE:
            name, text, types = frontend.split_parse(buffer, start, end)
            if name and find(name) is not None and not conversation.own_names:
                raise ProtocolViolation(
                    f'prepared statement "{conversation.shown(name)}" already exists',
                    sqlstate="42P05",
                    fatal=False,
                )
            fresh[name] = prepared = read(conversation.prepared(text, types))
            if not name and not unread:
                reading = conversation.session.settings.reading
                conversation.home.remember_parse(buffer[start:end], reading, prepared)
            plan.ops.append(Op(kind, frame, name, prepared))
        elif kind == BIND:
            portal, name, rest = frontend.split_bind(buffer, start, end)
            prepared_or_none = find(name)
            portals[portal] = Portal(prepared_or_none, frame)
            plan.ops.append(Op(kind, frame, name, prepared_or_none, rest))
        elif kind == EXECUTE:
            name, _ = frontend.parse_execute(buffer, start, end)
            found = portals.get(name)
            if found is not None and found.prepared is not None:
                plan.calls.append(_executed(found))
                unread = unread or _sets(conversation, plan.calls[-1])
            elif found is not None and conversation.session.pins & _KNOWING_SQL:
                plan.calls.append(_call(b""))
                plan.calls[-1].statement = PREPARED_BY_SQL
            plan.ops.append(Op(kind, frame, name, None))
        else:
            what, name = frontend.parse_describe(buffer, start, end)
            prepared_or_none = find(name) if what == STATEMENT else None
            plan.ops.append(Op(kind, frame, name, prepared_or_none))
            if kind == CLOSE and what == STATEMENT:
                fresh[name] = None
            elif kind == CLOSE:
                portals.pop(name, None)

    try:
        for frame in frames:
            take(frame)
    except (ProtocolViolation, psycopg.Error) as error:  # of a hint, or what is not to be prepared
        plan.refused = _refusal(error)  # told behind the answers to what came before
    if not plan.calls:
        plan.calls.append(_no_call())
    elif (
        sync
        and plan.refused is None
        and not (conversation.own_names and ops[0].kind == PARSE and ops[0].name)
    ):
        _cacheable(plan)  # else the server would not know what it is to know by this name
    return plan


def _refusal(error: ProtocolViolation | psycopg.Error) -> ProtocolViolation:
    if isinstance(error, ProtocolViolation):
        if error.fatal:
            raise error
        return error
    return ProtocolViolation(str(error), sqlstate=error.sqlstate or "XX000", fatal=False)


def _sets(conversation: Conversation, call: Call) -> bool:
    """Whether *call* may change what the texts behind it mean."""
    statement = call.statement
    if statement is None or conversation.own_names:
        return False
    if statement.transaction is not None:
        return conversation.session.settings.pending
    return bool(statement.settings) or statement.kind is Kind.DISCARD


def _executed(portal: Portal) -> Call:
    prepared: Any = portal.prepared
    call = _call(prepared.text)
    call.bound = Bound(portal.frame)
    call.statement, call.quiet = prepared.known.statement, prepared.known.quiet
    if portal.executed:
        call.kind = "fetch"  # its next rows: nothing for a cache
    portal.executed = True
    return call


def _cacheable(plan: Plan) -> None:
    """Give the one statement of *plan* a key for the cache, if it is asked for in the one way that is kept."""
    ops = plan.ops
    kinds = [op.kind for op in ops]
    parsed = kinds[0] == PARSE
    if parsed:
        del kinds[0]
    described = kinds == [BIND, DESCRIBE, EXECUTE]
    if not described and kinds != [BIND, EXECUTE]:
        return
    bind, execute, call = ops[-len(kinds)], ops[-1], plan.calls[0]
    prepared = bind.prepared
    if prepared is None or call.kind != "execute" or prepared.known.statement.kind is not Kind.SELECT:
        return
    if execute.name or (parsed and ops[0].prepared is not prepared):
        return
    if described and ops[-2].frame[1][ops[-2].frame[2] + 5] != PORTAL:
        return
    _, buffer, _start, end = execute.frame
    if buffer[end - 4 : end] != b"\0\0\0\0":
        return  # in parts
    _, bound, begin, finish = bind.frame
    if bound[begin + 5]:
        return  # a portal with a name stays to be asked again
    call.raw = ("B", prepared.text, prepared.types, bound[bind.rest : finish], described)
