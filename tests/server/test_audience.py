"""Who listens to what, and what waits: without a database."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosproxy.server.listen import audience
from heliosproxy.server.listen.audience import Audience, Held

NAMES, CHANNELS = st.sampled_from("xyz"), st.sampled_from([b"a", b"b", b"c"])


@given(st.lists(st.one_of(st.tuples(NAMES, CHANNELS), st.tuples(NAMES, st.frozensets(CHANNELS)))))
def test_it_agrees_with_a_set_of_pairs(steps: list[tuple[str, bytes | frozenset[bytes]]]) -> None:
    made: Audience[str] = Audience()
    pairs: set[tuple[str, bytes]] = set()
    for who, what in steps:
        wanted = {channel for _, channel in pairs}
        if isinstance(what, bytes):
            assert made.add(who, what) is (what not in wanted)
            pairs.add((who, what))
        else:
            pairs = {(each, channel) for each, channel in pairs if each != who or channel in what}
            silent = made.keep(who, what)
            assert sorted(silent) == sorted(wanted - {channel for _, channel in pairs})
        for channel in (b"a", b"b", b"c"):
            assert sorted(made.of(channel)) == sorted(each for each, other in pairs if other == channel)
        assert bool(made) is bool(pairs)
    assert sorted(made.leave()) == sorted({who for who, _ in pairs})
    assert not made


def test_what_waits_comes_in_order_and_once() -> None:
    held = Held()
    held.put(b"1")
    held.put(b"2")
    assert held.take() == [b"1", b"2"]
    assert not held


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience, "ROOM", 300)
    held = Held()
    for _ in range(10):
        held.put(b"x" * 50)
        held.take()
    assert not held.full
    for _ in range(3):
        held.put(b"x" * 50)
    assert held.full
    assert held.take() == []
