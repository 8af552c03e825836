"""PostgreSQL's md5 passwords, and passwords in cleartext."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosproxy.server.login.md5 import is_md5, md5_answer, md5_matches, md5_of, password_matches
from heliosproxy.server.login.scram import Verifier

# SELECT 'md5' || md5('secret' || 'app'), and md5 of that and the salt, by PostgreSQL itself: test_real_servers.py.
STORED = md5_of("app", "secret")


def test_the_right_password_matches_and_others_do_not() -> None:
    assert is_md5(STORED)
    assert md5_matches(STORED, b"salt", md5_answer(STORED, b"salt"))
    assert not md5_matches(STORED, b"salt", md5_answer(STORED, b"tlas"))
    assert not md5_matches(STORED, b"salt", md5_answer(md5_of("app", "Secret"), b"salt"))
    assert not md5_matches(STORED, b"salt", STORED.encode())


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_no_answer_breaks_it(answer: bytes) -> None:
    assert not md5_matches(STORED, b"salt", answer)


@pytest.mark.parametrize("text", ["", "md5", "md5" + "0" * 31, "md5" + "A" * 32, "md5" + "é" * 32, "0" * 35])
def test_what_only_looks_like_md5_is_none(text: str) -> None:
    assert not is_md5(text)


@pytest.mark.parametrize("secret", [STORED, Verifier.of("secret", iterations=16)], ids=["md5", "scram"])
def test_a_password_in_cleartext_is_checked_against_what_is_stored(secret: Verifier | str) -> None:
    assert password_matches(secret, "app", b"secret")
    for wrong in (b"", b"secret ", b"Secret", b"\xff\xfe", "sécret".encode()):
        assert not password_matches(secret, "app", wrong)


@settings(deadline=None)
@given(st.binary(max_size=20).filter(lambda data: data != b"secret"))
def test_no_password_breaks_the_check(password: bytes) -> None:
    assert not password_matches(Verifier.of("secret", b"salt", 1), "app", password)
    assert not password_matches(STORED, "app", password)
