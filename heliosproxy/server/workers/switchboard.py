"""Who asked whom: the supervisor passes requests of its workers on, and collects what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Protocol

from .lines import Message

SUPERVISOR = -1
Own = Callable[..., Any]


class Party(Protocol):
    """A worker, as the switchboard sees it."""

    number: int

    def send(self, message: Message) -> None:
        """Send *message* to it; nothing when it is gone."""


class Question:
    """A request that was passed on.

    Attributes:
        origin, id: who asked, and what it calls the question.
        within: seconds they have to answer; None = as long as they like.
        deadline: when the time is over, on the supervisor's clock.
        open: those that have not answered yet.
        values: what came, by worker.
    """

    def __init__(self, origin: Party, id_: int, within: float | None, deadline: float) -> None:
        self.origin = origin
        self.id = id_
        self.within = within
        self.deadline = deadline
        self.open: set[Party] = set()
        self.values: list[tuple[int, Any, str]] = []


class Switchboard:
    """Passes messages on. No I/O: a `Party` sends.

    Args:
        own: what the supervisor itself does, by name; the first argument is who asks.
        passing: called with each request for workers, before it is passed on.
        clock: seconds.
    """

    def __init__(
        self, own: Mapping[str, Own], passing: Callable[[str, list[Any]], None], clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        self.parties: dict[int, Party] = {}
        self._own = own
        self._passing = passing
        self._questions: dict[int, Question] = {}
        self._last = 0

    def join(self, serial: int, party: Party) -> None:
        """A worker is there."""
        self.parties[serial] = party

    def leave(self, serial: int) -> None:
        """It is gone: nobody waits for its answers."""
        party = self.parties.pop(serial, None)
        for ref, question in list(self._questions.items()):
            if question.origin is party:
                del self._questions[ref]
            else:
                question.open.discard(party)
                self._close(ref, question)

    def expire(self) -> None:
        """Whoever has not answered in time does not count: what others said goes to who asked."""
        now = self._clock()
        for ref, question in list(self._questions.items()):
            if question.deadline <= now:
                silent = f"it did not answer within {question.within:g} seconds"
                question.values += [(party.number, None, silent) for party in question.open]
                question.open.clear()
                self._close(ref, question)

    def received(self, party: Party, message: Message) -> None:
        """*party* said something."""
        if "done" in message:
            self._done(party, message)
            return
        do, args, whom = message["do"], list(message["args"]), message["whom"]
        question = None
        if "id" in message:
            within = message["within"]
            question = Question(
                party, message["id"], within, inf if within is None else self._clock() + within
            )
        if whom == "supervisor":
            error, value = "", None
            try:
                value = self._own[do](party, *args)
            except Exception as failure:  # noqa: BLE001 - told to who asked
                error = str(failure) or type(failure).__name__
            if question is not None:
                party.send({"answer": question.id, "values": [(SUPERVISOR, value, error)]})
            return
        self._passing(do, args)
        self._pass(question, do, args, party if whom == "others" else None)

    def _pass(self, question: Question | None, do: str, args: list[Any], but: Party | None) -> None:
        # One that retires has clients, too; one that starts has been forked, perhaps before this was ordered.
        whom = [party for party in self.parties.values() if party is not but]
        ref = None
        if question is not None:
            self._last += 1
            ref = self._last
            question.open = set(whom)
            self._questions[ref] = question
        for party in whom:
            party.send({"do": do, "args": args, "ref": ref})
        if ref is not None and question is not None:
            self._close(ref, question)

    def _done(self, party: Party, message: Message) -> None:
        question = self._questions.get(message["done"])
        if question is not None and party in question.open:
            question.open.discard(party)
            question.values.append((party.number, message["value"], message["error"]))
            self._close(message["done"], question)

    def _close(self, ref: int, question: Question) -> None:
        if question.open:
            return
        del self._questions[ref]
        question.values.sort(key=lambda value: value[0])
        question.origin.send({"answer": question.id, "values": question.values})
