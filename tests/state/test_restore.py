"""From the settings a server connection carries to those a session wants."""

from __future__ import annotations

import pytest

from heliosproxy.state.restore import commands, may_fail

ROWS = [
    ("nothing to do", {"a": "1"}, {"a": "1"}, []),
    ("set", {}, {"a": "1"}, [b'SET "a" TO 1']),
    ("reset", {"a": "1"}, {}, [b'RESET "a"']),
    ("another value", {"a": "1"}, {"a": "2"}, [b'SET "a" TO 2']),
    ("a name of two parts", {}, {"app.user": "'x'"}, [b'SET "app"."user" TO \'x\'']),
    (
        "authority is given up first and taken last",
        {"role": "r"},
        {"a": "1", "role": "r"},
        [b"RESET SESSION AUTHORIZATION", b"RESET ROLE", b'SET "a" TO 1', b"SET ROLE r"],
    ),
    (
        "authority is taken where it was taken",
        {},
        {"role": "r", "a": "1"},
        [b"RESET SESSION AUTHORIZATION", b"RESET ROLE", b"SET ROLE r", b'SET "a" TO 1'],
    ),
    (
        "the client encoding comes last",
        {},
        {"client_encoding": "'LATIN1'", "a": "'é'"},
        ["SET \"a\" TO 'é'".encode(), b"SET \"client_encoding\" TO 'LATIN1'"],
    ),
    (
        "what comes behind another client encoding is sent in the login's",
        {"client_encoding": "'LATIN1'"},
        {"client_encoding": "'LATIN1'", "a": "'é'"},
        [b"RESET client_encoding", "SET \"a\" TO 'é'".encode(), b"SET \"client_encoding\" TO 'LATIN1'"],
    ),
]


@pytest.mark.parametrize(("what", "have", "want", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_the_commands_lead_from_what_it_has_to_what_is_wanted(
    what: str, have: dict[str, str], want: dict[str, str], expected: list[bytes]
) -> None:
    assert commands(have, want, "utf-8") == expected


def test_only_authority_may_fail_to_be_restored() -> None:
    assert may_fail({"a": "1", "role": "r"})
    assert may_fail({"session_authorization": "r"})
    assert not may_fail({"a": "1"})
