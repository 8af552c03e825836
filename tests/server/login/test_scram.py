"""SCRAM, both sides: the test vector of RFC 7677, each other, the downgrade checks, and mutated messages."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosproxy.server.login.errors import LoginRefused
from heliosproxy.server.login.scram import ClientScram, ServerScram, Verifier
from heliosproxy.server.login.scram_keys import KeyScram, ScramKeys

# RFC 7677, section 3.
USER, PASSWORD = "user", "pencil"
SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_NONCE, SERVER_NONCE = "rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = f"r={CLIENT_NONCE}{SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
CLIENT_FINAL = (
    f"c=biws,r={CLIENT_NONCE}{SERVER_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

VERIFIER = Verifier.of(PASSWORD, b"0123456789abcdef", 64)
BINDING = b"h" * 32


def _login(client: ClientScram, server: ServerScram) -> bool:
    """Whether *server* lets *client* in; the client checks the server."""
    final = server.final(client.final(server.first(client.first())))
    if final is None:
        return False
    client.check(final)
    return True


def test_our_server_says_what_rfc_7677_says(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ServerScram(Verifier.of(PASSWORD, SALT, 4096))
    server.first(f"n,,n={USER},r={CLIENT_NONCE}".encode())
    monkeypatch.setattr(server, "_nonce", CLIENT_NONCE + SERVER_NONCE)
    monkeypatch.setattr(server, "_first", SERVER_FIRST)
    assert server.final(CLIENT_FINAL) == SERVER_FINAL


def test_our_keys_prove_what_rfc_7677_says() -> None:
    keys = ScramKeys.of(PASSWORD, SALT, 4096)
    without, _, proof = CLIENT_FINAL.partition(b",p=")
    said = b",".join((f"n={USER},r={CLIENT_NONCE}".encode(), SERVER_FIRST, without))
    signature = hmac.digest(hashlib.sha256(keys.client_key).digest(), said, "sha256")
    assert b64encode(bytes(a ^ b for a, b in zip(keys.client_key, signature, strict=True))) == proof
    assert b"v=" + b64encode(hmac.digest(keys.server_key, said, "sha256")) == SERVER_FINAL


@pytest.mark.parametrize("with_keys", [False, True])
def test_our_client_knows_the_signature_of_rfc_7677_from_another(with_keys: bool) -> None:
    # The vector names its user and we do not, so proof and signature differ: the RFC's own must not pass.
    client: ClientScram = ClientScram(PASSWORD)
    if with_keys:
        client = KeyScram(ScramKeys.of(PASSWORD, SALT), could=False)
    server = ServerScram(Verifier.of(PASSWORD, SALT))
    client.final(server.first(client.first()))
    with pytest.raises(LoginRefused, match="not the one meant"):
        client.check(SERVER_FINAL)


def test_a_verifier_is_read_and_written_as_postgresql_does_and_never_shown() -> None:
    text = VERIFIER.text()
    assert Verifier.parse(text) == VERIFIER
    assert text.startswith("SCRAM-SHA-256$64:")
    for shown in (repr(VERIFIER), str(VERIFIER)):
        assert b64encode(VERIFIER.stored_key).decode() not in shown
        assert "stored_key" not in shown


def test_keys_are_never_shown() -> None:
    keys = ScramKeys.of(PASSWORD, SALT, 1)
    assert repr(keys) == "ScramKeys()"
    with pytest.raises(ValueError, match="32 bytes each") as caught:
        ScramKeys.parse("c2VjcmV0", "c2VjcmV0")
    assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.parametrize(
    "password", ["pencil", "", "pässwörd", "a\u00a0b", "\u00adx", "٠ab", "ﬁ", "\x07bell"]
)
@pytest.mark.parametrize("binding", [None, BINDING])
def test_our_client_logs_in_at_our_server(password: str, binding: bytes | None) -> None:
    verifier = Verifier.of(password, iterations=32)
    assert _login(ClientScram(password, binding), ServerScram(verifier, binding, plus=binding is not None))
    assert not _login(
        ClientScram(password + "x", binding), ServerScram(verifier, binding, plus=binding is not None)
    )


@pytest.mark.parametrize("binding", [None, BINDING])
def test_keys_do_where_the_password_would(binding: bytes | None) -> None:
    keys = ScramKeys.of(PASSWORD, VERIFIER.salt, VERIFIER.iterations)
    again = ScramKeys.parse(b64encode(keys.client_key).decode(), b64encode(keys.server_key).decode())
    assert _login(KeyScram(again, binding), ServerScram(VERIFIER, binding, plus=binding is not None))
    strange = ScramKeys.of("other", VERIFIER.salt, VERIFIER.iterations)
    assert not _login(KeyScram(strange, binding), ServerScram(VERIFIER, binding, plus=binding is not None))


def test_a_server_without_the_server_key_is_found_out() -> None:
    keys = ScramKeys.of(PASSWORD, VERIFIER.salt, VERIFIER.iterations)
    client = KeyScram(ScramKeys(keys.client_key, b"x" * 32))
    with pytest.raises(LoginRefused, match="not the one meant"):
        _login(client, ServerScram(VERIFIER))


def test_a_client_that_was_told_of_no_binding_although_we_offer_it_is_refused() -> None:
    with pytest.raises(LoginRefused, match="negotiation error"):
        _login(ClientScram(PASSWORD, could=True), ServerScram(VERIFIER, BINDING))
    assert _login(ClientScram(PASSWORD, could=True), ServerScram(VERIFIER))
    assert _login(ClientScram(PASSWORD), ServerScram(VERIFIER, BINDING))


def test_another_certificate_on_the_way_is_found_out() -> None:
    with pytest.raises(LoginRefused, match="channel binding check failed"):
        _login(ClientScram(PASSWORD, b"m" * 32), ServerScram(VERIFIER, BINDING, plus=True))


def test_nobody_can_log_in_with_a_mock_verifier_and_it_is_always_the_same() -> None:
    mock = Verifier.mock("nobody", b"secret")
    assert mock == Verifier.mock("nobody", b"secret")
    assert mock != Verifier.mock("somebody", b"secret") != Verifier.mock("somebody", b"other")
    assert (len(mock.salt), mock.iterations) == (16, 4096)
    assert not _login(ClientScram(""), ServerScram(mock))


_mutations = st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), min_size=1, max_size=3)


def _mutated(message: bytes, mutations: list[tuple[int, bytes]]) -> bytes:
    for at, data in mutations:
        place = at % (len(message) + 1)
        message = message[:place] + data + message[place + max(1, len(data)) :]
    return message


@settings(max_examples=150, deadline=None)
@given(_mutations, st.booleans(), st.booleans())
def test_a_mutated_message_of_a_client_is_refused_and_never_lets_it_in(
    mutations: list[tuple[int, bytes]], which: bool, bind: bool
) -> None:
    binding = BINDING if bind else None
    client, server = ClientScram(PASSWORD, binding), ServerScram(VERIFIER, binding, plus=bind)
    first = client.first()
    sent = first if which else _mutated(first, mutations)
    try:
        final = client.final(server.first(sent))
        delivered = _mutated(final, mutations) if which else final
        answer = server.final(delivered)
    except LoginRefused:
        return
    assert answer is None or (sent, delivered) == (first, final)


@settings(max_examples=150, deadline=None)
@given(_mutations, st.booleans(), st.booleans())
def test_a_mutated_message_of_a_server_is_refused_and_never_believed(
    mutations: list[tuple[int, bytes]], which: bool, with_keys: bool
) -> None:
    client: ClientScram = ClientScram(PASSWORD)
    if with_keys:
        client = KeyScram(ScramKeys.of(PASSWORD, VERIFIER.salt, VERIFIER.iterations))
    server = ServerScram(VERIFIER)
    first = server.first(client.first())
    sent = first if which else _mutated(first, mutations[:1])
    if b"i=" in sent and len(sent.rpartition(b"i=")[2]) > 4:
        return  # hours of PBKDF2 are refused, minutes are not
    try:
        final = server.final(client.final(sent)) or b""
        proof = _mutated(final, mutations) if which else final
        client.check(proof)
    except LoginRefused:
        return
    assert (sent, proof) == (first, final)
