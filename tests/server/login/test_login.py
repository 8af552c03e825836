"""Both login conversations, without a line between them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from heliosproxy.config.identity import User
from heliosproxy.server.login.accounts import Accounts
from heliosproxy.server.login.admission import Admission, Admitted, Ask, Authenticator, Client, Lookup
from heliosproxy.server.login.authenticators import Certificate, Cleartext, Passwords, Trust
from heliosproxy.server.login.errors import LoginRefused
from heliosproxy.server.login.login import CLEARTEXT, MD5, OK, SASL, SASL_CONTINUE, SASL_FINAL, ServerLogin
from heliosproxy.server.login.md5 import md5_of
from heliosproxy.server.login.methods import Methods
from heliosproxy.server.login.scram import Verifier

BINDING = b"h" * 32
PLAIN_SASL = b"SCRAM-SHA-256\0\0"
BOTH_SASL = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
ACCOUNTS = Accounts(
    [
        User(name="app", verifier=SecretStr(Verifier.of("secret", b"0123456789abcdef", 32).text())),
        User(name="old", verifier=SecretStr(md5_of("old", "secret"))),
    ]
)


def _meet(authenticator: Authenticator, client: Client, login: ServerLogin) -> Admitted:
    """Both sides talk until the client is in."""
    admission = Admission(authenticator, client)
    step = admission.start()
    while isinstance(step, Ask):
        answer = login.answer(step.code, step.payload)
        assert answer is not None
        step = admission.answer(answer)
    assert isinstance(step, Admitted)
    if step.final is not None:
        login.answer(step.final.code, step.final.payload)
    login.answer(OK, b"")
    assert login.done
    return step


@pytest.mark.parametrize("binding", [None, BINDING])
def test_scram_lets_in_who_knows_the_password(binding: bytes | None) -> None:
    client = Client("app", "shop", binding is not None, binding)
    login = ServerLogin("app", "secret", tls=binding is not None, binding=binding)
    admitted = _meet(Passwords(ACCOUNTS), client, login)
    assert (admitted.user, admitted.method, login.method) == ("app", "scram-sha-256", "scram-sha-256")
    for channel_binding in ("disable", "require") if binding else ("disable",):
        again = ServerLogin(
            "app", "secret", tls=binding is not None, binding=binding, channel_binding=channel_binding
        )
        _meet(Passwords(ACCOUNTS), client, again)


def test_md5_and_cleartext_let_in_who_knows_the_password() -> None:
    assert _meet(Passwords(ACCOUNTS), Client("old", ""), ServerLogin("old", "secret")).method == "md5"
    for user in ("app", "old"):
        login = ServerLogin(user, "secret", tls=True)
        assert _meet(Cleartext(ACCOUNTS), Client(user, "", tls=True), login).method == "password"


@pytest.mark.parametrize("user", ["app", "old", "nobody"])
@pytest.mark.parametrize("kind", [Passwords, Cleartext])
def test_a_wrong_password_and_an_unknown_user_are_told_the_same(user: str, kind: type[Passwords]) -> None:
    with pytest.raises(LoginRefused) as caught:
        _meet(kind(ACCOUNTS), Client(user, "", tls=True), ServerLogin(user, "wrong", tls=True))
    assert (str(caught.value), caught.value.sqlstate) == (
        f'password authentication failed for user "{user}"',
        "28P01",
    )


def test_an_unknown_user_gets_the_same_salt_each_time() -> None:
    def challenge() -> bytes:
        admission = Admission(Passwords(ACCOUNTS), Client("nobody", ""))
        assert admission.start() == Ask(SASL, PLAIN_SASL)
        answer = ServerLogin("nobody", "x").answer(SASL, PLAIN_SASL)
        assert answer is not None
        step = admission.answer(answer)
        assert isinstance(step, Ask)
        assert step.code == SASL_CONTINUE
        return step.payload.partition(b",")[2]

    assert challenge() == challenge()


def test_a_user_of_auth_query_is_looked_up_and_no_other() -> None:
    accounts = Accounts(
        [User(name="own", verifier=SecretStr(Verifier.of("secret", iterations=32).text()))], "SELECT …"
    )
    verifier = Verifier.of("secret", iterations=32).text()
    for row in (("app", verifier), None):
        admission = Admission(Passwords(accounts), Client("app", ""))
        assert admission.start() == Lookup("app")
        with pytest.raises(LoginRefused, match="not asked for"):
            admission.answer(b"secret\0")
        assert admission.found(row) == Ask(SASL, PLAIN_SASL)
        with pytest.raises(RuntimeError):
            admission.found(row)
    assert Admission(Passwords(accounts), Client("own", "")).start() == Ask(SASL, PLAIN_SASL)


def test_trust_asks_nothing_and_a_certificate_must_be_the_users() -> None:
    assert _meet(Trust(), Client("any", ""), ServerLogin("any")).method == "trust"
    assert (
        _meet(Certificate(), Client("app", "", True, certificate="app"), ServerLogin("app")).method == "cert"
    )
    for client in (Client("app", "", True), Client("app", "", False, certificate="app")):
        with pytest.raises(LoginRefused, match="requires a valid client certificate") as caught:
            Admission(Certificate(), client).start()
        assert caught.value.sqlstate == "28000"
    with pytest.raises(LoginRefused, match='certificate authentication failed for user "app"'):
        Admission(Certificate(), Client("app", "", True, certificate="App")).start()


def test_a_cleartext_password_is_not_even_asked_for_without_tls() -> None:
    with pytest.raises(LoginRefused, match="TLS only"):
        Admission(Cleartext(ACCOUNTS), Client("app", "")).start()


def test_an_empty_password_is_wrong_even_where_it_is_stored() -> None:
    accounts = Accounts([User(name="e", verifier=SecretStr(md5_of("e", "")))])
    for kind in (Passwords, Cleartext):
        admission = Admission(kind(accounts), Client("e", "", tls=True))
        admission.start()
        with pytest.raises(LoginRefused) as caught:
            admission.answer(b"\0")
        assert caught.value.sqlstate == "28P01"
        with pytest.raises(LoginRefused, match="not asked for"):
            admission.answer(b"secret\0")


# -- what we do not let a server do ------------------------------------------------------------------


def test_a_cleartext_password_goes_out_over_tls_or_when_it_is_asked_for_by_name() -> None:
    with pytest.raises(LoginRefused, match="not encrypted"):
        ServerLogin("u", "secret").answer(CLEARTEXT, b"")
    with pytest.raises(LoginRefused, match="not encrypted"):
        ServerLogin("u", "secret", methods=Methods.parse("!md5")).answer(CLEARTEXT, b"")
    assert ServerLogin("u", "secret", tls=True).answer(CLEARTEXT, b"") == b"secret\0"
    assert ServerLogin("u", "secret", methods=Methods.parse("password")).answer(CLEARTEXT, b"") == b"secret\0"


@pytest.mark.parametrize(
    ("code", "payload", "words"),
    [
        (2, b"", "Kerberos"),
        (7, b"", "GSSAPI"),
        (9, b"", "SSPI"),
        (99, b"", "method 99"),
        (SASL, b"X\0\0", "SASL"),
    ],
)
def test_other_methods_are_refused_by_name(code: int, payload: bytes, words: str) -> None:
    with pytest.raises(LoginRefused, match=words):
        ServerLogin("u", "secret", tls=True).answer(code, payload)


def test_require_auth_is_kept_to() -> None:
    only_scram = Methods.parse("scram-sha-256")
    for code, payload in ((MD5, b"salt"), (CLEARTEXT, b""), (OK, b"")):
        with pytest.raises(LoginRefused, match="require_auth does not allow"):
            ServerLogin("u", "secret", tls=True, methods=only_scram).answer(code, payload)
    assert ServerLogin("u", "secret", methods=only_scram).answer(SASL, PLAIN_SASL)
    with pytest.raises(LoginRefused, match="require_auth does not allow"):
        ServerLogin("u", "secret", methods=Methods.parse("none")).answer(SASL, PLAIN_SASL)


def test_channel_binding_that_is_required_is_kept_to() -> None:
    for code, payload in ((MD5, b"salt"), (CLEARTEXT, b""), (OK, b""), (SASL, PLAIN_SASL)):
        with pytest.raises(LoginRefused, match="channel_binding=require"):
            ServerLogin("u", "p", tls=True, binding=BINDING, channel_binding="require").answer(code, payload)
    with pytest.raises(LoginRefused, match="channel_binding=require"):
        ServerLogin("u", "p", tls=True, channel_binding="require").answer(SASL, BOTH_SASL)


def test_binding_that_is_offered_without_tls_is_refused() -> None:
    with pytest.raises(LoginRefused, match="without TLS"):
        ServerLogin("u", "p").answer(SASL, BOTH_SASL)


@pytest.mark.parametrize(
    ("channel_binding", "offer", "begin"),
    [
        ("prefer", BOTH_SASL, b"p=tls-server-end-point,,"),
        ("prefer", PLAIN_SASL, b"y,,"),
        ("disable", BOTH_SASL, b"n,,"),
    ],
)
def test_the_client_says_what_it_could_bind_to(channel_binding: str, offer: bytes, begin: bytes) -> None:
    login = ServerLogin("u", "p", tls=True, binding=BINDING, channel_binding=channel_binding)
    answer = login.answer(SASL, offer)
    assert answer is not None
    assert answer.partition(b"\0")[2][4:].startswith(begin)


def test_a_server_that_cuts_scram_short_is_not_believed() -> None:
    for code in (OK, SASL_FINAL, MD5):
        login = ServerLogin("u", "p")
        login.answer(SASL, PLAIN_SASL)
        with pytest.raises(LoginRefused, match="make no sense"):
            login.answer(code, b"")
        assert not login.done
    login = ServerLogin("u", "p")
    login.answer(MD5, b"salt")
    with pytest.raises(LoginRefused, match="make no sense"):
        login.answer(MD5, b"more")


def test_without_a_password_the_refusal_says_so() -> None:
    for code, payload in ((MD5, b"salt"), (CLEARTEXT, b""), (SASL, PLAIN_SASL)):
        with pytest.raises(LoginRefused, match='wants a password for user "u", and there is none'):
            ServerLogin("u", tls=True).answer(code, payload)


# -- whatever is sent --------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["app", "old", "nobody"]),
    st.sampled_from([Passwords, Cleartext]),
    st.booleans(),
    st.lists(st.binary(max_size=60) | st.sampled_from([b"SCRAM-SHA-256\0", b"p\0"]), min_size=1, max_size=3),
)
def test_whatever_a_client_sends_is_refused(
    user: str, kind: type[Passwords], bind: bool, bodies: list[bytes]
) -> None:
    admission = Admission(kind(ACCOUNTS), Client(user, "", True, BINDING if bind else None))
    states: set[str] = set()
    step = admission.start()
    for body in bodies:
        try:
            step = admission.answer(body)
        except LoginRefused as error:
            states.add(error.sqlstate)
        assert isinstance(step, Ask)
    assert states <= {"28P01", "28000", "08P01", "0A000"}


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=3), st.booleans(), st.integers(0, 1))
def test_a_mutated_answer_of_a_client_is_refused(at: int, data: bytes, bind: bool, which: int) -> None:
    binding = BINDING if bind else None
    admission = Admission(Passwords(ACCOUNTS), Client("app", "", bind, binding))
    login = ServerLogin("app", "secret", tls=bind, binding=binding)
    step = admission.start()
    try:
        for turn in range(2):
            assert isinstance(step, Ask)
            answer = login.answer(step.code, step.payload)
            assert answer is not None
            if turn == which:
                place = at % len(answer)
                mutated = answer[:place] + data + answer[place + len(data) :]
                if mutated == answer:
                    return
                answer = mutated
            step = admission.answer(answer)
    except LoginRefused:
        return
    pytest.fail(f"let in with {answer!r}")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([OK, CLEARTEXT, MD5, SASL, SASL_CONTINUE, SASL_FINAL, 7, -1]),
            st.binary(max_size=30) | st.sampled_from([b"", b"salt", PLAIN_SASL, BOTH_SASL, b"r=x,s=,i=1"]),
        ),
        max_size=5,
    )
)
def test_whatever_a_server_sends_is_answered_or_refused_and_scram_is_never_believed(
    messages: list[tuple[int, bytes]],
) -> None:
    login = ServerLogin("u", "p", methods=Methods.parse("scram-sha-256"))
    for code, payload in messages:
        try:
            login.answer(code, payload)
        except LoginRefused:
            break
    assert not login.done


def test_the_secret_is_never_shown() -> None:
    login = ServerLogin("u", "hunter2")
    assert "hunter2" not in repr(login)
    assert hashlib.md5(b"hunter2u").hexdigest() not in repr(login)
