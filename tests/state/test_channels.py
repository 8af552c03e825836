"""What a session listens to, and how transactions undo it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heliosproxy.state import channels
from heliosproxy.state.channels import Channels, Notice

NOTICE = Notice(1, b"a", b"x")


def listening(*names: bytes, inside: bool = False) -> Channels:
    made = Channels()
    for name in names:
        made.listen(name, in_transaction=inside)
    return made


def test_what_was_sent_is_own_once() -> None:
    made = listening(b"a")
    made.sent(NOTICE, in_transaction=False)
    assert made.is_own(NOTICE)
    assert not made.is_own(NOTICE)


def test_equal_ones_of_a_transaction_are_one_and_of_two_are_two() -> None:
    made = listening(b"a")
    for _ in range(2):
        for _ in range(2):
            made.sent(NOTICE, in_transaction=True)
        made.end()
    assert [made.is_own(NOTICE) for _ in range(3)] == [True, True, False]


def test_what_was_rolled_back_is_not_own() -> None:
    made = listening(b"a")
    made.sent(NOTICE, in_transaction=True)
    made.end(committed=False)
    assert not made.is_own(NOTICE)


def test_what_is_not_listened_to_is_not_remembered() -> None:
    made = listening(b"b")
    made.sent(NOTICE, in_transaction=False)
    made.listen(b"a", in_transaction=False)
    assert not made.is_own(NOTICE)


def test_what_is_remembered_is_bounded() -> None:
    made = listening(b"a")
    for number in range(channels.MOST + 1):
        made.sent(Notice(1, b"a", b"%d" % number), in_transaction=False)
    assert not made.is_own(Notice(1, b"a", b"0"))
    assert made.is_own(Notice(1, b"a", b"1"))


def test_pending_is_what_the_transaction_has_changed() -> None:
    made = listening(b"a", inside=True)
    assert made.pending
    assert made.active == frozenset()
    made.unlisten(b"a", in_transaction=True)
    assert not made.pending


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["listen", "unlisten", "savepoint", "release", "rollback_to"]),
            st.sampled_from("ab"),
        ),
        st.tuples(st.sampled_from(["all", "begin", "commit", "rollback"]), st.just("")),
    ),
    max_size=30,
)


@given(STEPS)
def test_it_agrees_with_copies_of_everything(steps: list[tuple[str, str]]) -> None:
    """A model that copies the whole state at BEGIN and at each SAVEPOINT."""
    made, now = Channels(), set[bytes]()
    saved: list[tuple[str, set[bytes]]] | None = None  # the first: at BEGIN
    for what, name in steps:
        channel, inside = name.encode(), saved is not None
        if what == "listen":
            made.listen(channel, in_transaction=inside)
            now = now | {channel}
        elif what in ("unlisten", "all"):
            made.unlisten(channel or None, in_transaction=inside)
            now = now - {channel} if channel else set()
        elif what == "begin":
            saved = saved or [("", now)]
        elif saved is None:
            continue
        elif what in ("commit", "rollback"):
            made.end(committed=what == "commit")
            now = now if what == "commit" else saved[0][1]
            saved = None
        elif what == "savepoint":
            made.savepoint(name)
            saved.append((name, now))
        else:
            places: Any = [i for i, (each, _) in enumerate(saved) if each == name]
            getattr(made, what)(name)
            if places and what == "release":
                del saved[places[-1] :]
            elif places:
                del saved[places[-1] + 1 :]
                now = saved[places[-1]][1]
        assert made.now == now
        assert made.active == (saved[0][1] if saved else now)
