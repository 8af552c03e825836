"""Who may log in: the configuration's users, auth_query's, and those who do not exist."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from heliosproxy.config.identity import User
from heliosproxy.errors import ConfigError
from heliosproxy.server.login.accounts import Accounts
from heliosproxy.server.login.authenticators import Passwords, Trust, authenticator_of
from heliosproxy.server.login.md5 import is_md5, md5_of, password_matches
from heliosproxy.server.login.scram import Verifier
from heliosproxy.server.login.users import refuse_unsafe

VERIFIER = Verifier.of("secret", iterations=16)


def _user(name: str, verifier: str) -> User:
    return User(name=name, verifier=SecretStr(verifier))


def test_each_kind_of_verifier_is_understood_and_the_plain_ones_are_named() -> None:
    stored = md5_of("old", "secret")
    accounts = Accounts([_user("new", VERIFIER.text()), _user("old", stored), _user("try", "plain:secret")])
    assert accounts.plain == ("try",)
    for name, secret in (("new", VERIFIER), ("old", stored)):
        account = accounts.find(name)
        assert account is not None
        assert account.secret == secret
    tried = accounts.find("try")
    assert tried is not None
    assert password_matches(tried.secret, "try", b"secret")
    assert "secret" not in repr(tried)
    assert accounts.find("other") is None
    assert accounts.get("new") == VERIFIER
    assert accounts.get("old") is accounts.get("other") is None


@pytest.mark.parametrize("text", ["hunter2", "SCRAM-SHA-256$hunter2", "md5hunter2", "plain:"])
def test_what_is_no_verifier_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigError, match='user "app": verifier') as caught:
        Accounts([_user("app", text)])
    assert "hunter2" not in str(caught.value)


def test_without_users_everybody_on_this_machine_is_trusted_and_nobody_else() -> None:
    nobody = Accounts([])
    assert isinstance(authenticator_of(nobody), Trust)
    refuse_unsafe(["127.0.0.1:6432", "[::1]:6432", "/tmp", "localhost:1"], nobody, tls=False)
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0:6432 can be reached"):
        refuse_unsafe(["127.0.0.1:6432", "0.0.0.0:6432"], nobody, tls=True)


def test_with_users_others_may_come_by_tls() -> None:
    for accounts in (Accounts([_user("app", VERIFIER.text())]), Accounts([], "SELECT …")):
        assert isinstance(authenticator_of(accounts), Passwords)
        refuse_unsafe(["0.0.0.0:6432"], accounts, tls=True)
        with pytest.raises(ConfigError, match="no TLS"):
            refuse_unsafe(["0.0.0.0:6432"], accounts, tls=False)


def test_auth_query_gives_verifiers_and_md5_passwords() -> None:
    accounts = Accounts([], "SELECT …")
    assert accounts.asking
    assert accounts.found("app", ("app", VERIFIER.text())).secret == VERIFIER
    stored = md5_of("app", "x")
    assert accounts.found("app", ("app", stored)).secret == stored


@pytest.mark.parametrize(
    "row",
    [
        None,
        (),
        ("app",),
        ("app", None),
        ("other", VERIFIER.text()),
        ("app", "secret"),
        ("app", "plain:secret"),
    ],
)
def test_anything_else_that_auth_query_gives_lets_nobody_in(row: tuple[object, ...] | None) -> None:
    account = Accounts([], "SELECT …").found("app", row)
    assert not account.exists
    assert isinstance(account.secret, Verifier)


def test_who_does_not_exist_looks_like_the_others() -> None:
    new = Accounts([_user("a", VERIFIER.text()), _user("b", md5_of("b", "x"))])
    assert isinstance(new.nobody("x").secret, Verifier)
    assert new.nobody("x").secret == new.nobody("x").secret != new.nobody("y").secret
    secret = Accounts([_user("b", md5_of("b", "x"))]).nobody("x").secret
    assert isinstance(secret, str)
    assert is_md5(secret)
