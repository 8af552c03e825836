"""TLS contexts: files, libpq's rules for modes, the hash of a certificate."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosproxy.errors import ConfigError, UnsupportedError
from heliosproxy.server.login.certificates import certificate_of, end_point_hash
from heliosproxy.server.login.tls import listener, upstream


def test_the_modes_are_tried_in_libpqs_order(tmp_path: Path, certificates: Path) -> None:
    assert upstream("disable", home=tmp_path).context is None
    attempts = {mode: upstream(mode, home=tmp_path).attempts for mode in ("allow", "prefer", "require")}
    assert attempts == {"allow": (False, True), "prefer": (True, False), "require": (True,)}
    assert upstream(home=tmp_path).attempts == (True, False)
    ca = str(certificates / "ca.crt")
    for mode in ("verify-ca", "verify-full"):
        found = upstream(mode, sslrootcert=ca, home=tmp_path)
        assert found.attempts == (True,)
        assert found.check_host == (mode == "verify-full")


def test_a_root_certificate_that_is_there_is_used_in_every_mode(tmp_path: Path, certificates: Path) -> None:
    def verifies(mode: str) -> bool:
        context = upstream(mode, home=tmp_path).context
        assert context is not None
        assert not context.check_hostname
        return context.verify_mode == ssl.CERT_REQUIRED

    assert not verifies("require")
    shutil.copy(certificates / "ca.crt", tmp_path / "root.crt")
    assert verifies("require")
    assert verifies("prefer")


def test_the_systems_own_roots_want_the_name_checked(tmp_path: Path) -> None:
    found = upstream(None, sslrootcert="system", home=tmp_path)
    assert found.check_host
    assert found.context is not None
    assert found.context.check_hostname
    assert found.server_hostname("db") == "db"
    with pytest.raises(ConfigError, match="needs host"):
        found.server_hostname("")
    with pytest.raises(ConfigError, match="use sslmode=verify-full"):
        upstream("require", sslrootcert="system", home=tmp_path)


def test_the_server_name_is_told_or_not(tmp_path: Path) -> None:
    assert upstream("require", home=tmp_path).server_hostname("db") == "db"
    assert upstream("require", sslsni="0", home=tmp_path).server_hostname("db") is None


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"sslmode": "on"}, "sslmode"),
        ({"sslmode": "verify-ca"}, "root.crt"),
        ({"sslmode": "verify-full", "sslrootcert": "/nowhere/ca"}, "/nowhere/ca"),
        ({"sslnegotiation": "direct"}, "use sslmode=require or stronger"),
        ({"sslnegotiation": "later"}, "sslnegotiation"),
        ({"sslcert": "/nowhere/mine"}, "/nowhere/mine"),
        ({"sslcertmode": "require"}, "postgresql.crt"),
        ({"sslcertmode": "perhaps"}, "sslcertmode"),
        ({"sslsni": "yes"}, "sslsni"),
        ({"sslcrl": "/nowhere/crl"}, "needs a root certificate"),
        (
            {"ssl_min_protocol_version": "TLSv1.3", "ssl_max_protocol_version": "TLSv1.2"},
            "no version is left",
        ),
        ({"ssl_min_protocol_version": "TLSv1"}, "not supported"),
        ({"sslmode": "verify-full", "sslrootcert": "system", "sslsni": "0"}, "sslsni=0"),
    ],
)
def test_what_contradicts_itself_or_is_not_there_is_refused_by_name(
    tmp_path: Path, parameters: dict[str, str], words: str
) -> None:
    with pytest.raises((ConfigError, UnsupportedError)) as caught:
        upstream(**parameters, home=tmp_path)
    assert words in str(caught.value)


def test_versions_are_kept_to(tmp_path: Path) -> None:
    context = upstream("require", home=tmp_path).context
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    context = upstream("require", ssl_min_protocol_version="tlsv1.3", home=tmp_path).context
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


def test_a_broken_file_is_named(tmp_path: Path, certificates: Path) -> None:
    cert, key = str(certificates / "server.crt"), str(certificates / "server.key")
    junk = tmp_path / "junk"
    junk.write_text("junk")
    junk.chmod(0o600)
    for arguments in (
        (str(junk), key),
        (cert, str(junk)),
        (cert, key, str(junk)),
        (cert, str(tmp_path / "no")),
    ):
        with pytest.raises(ConfigError, match=r"junk|/no"):
            listener(*arguments)
    with pytest.raises(ConfigError, match="the key is not the certificate's"):
        listener(cert, str(certificates / "ca.key"))
    with pytest.raises(ConfigError, match="no certificate in it"):
        certificate_of(str(junk))
    with pytest.raises(ConfigError, match="No such file"):
        certificate_of(str(tmp_path / "no"))


def test_a_key_that_others_may_read_is_refused(tmp_path: Path, certificates: Path) -> None:
    key = tmp_path / "server.key"
    key.write_bytes((certificates / "server.key").read_bytes())
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 0600"):
        listener(str(certificates / "server.crt"), str(key))
    key.chmod(0o600)
    assert listener(str(certificates / "server.crt"), str(key)).minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_key_with_a_passphrase_never_asks_the_terminal(tmp_path: Path, certificates: Path) -> None:
    key = tmp_path / "app.key"
    command = ["openssl", "ec", "-in", str(certificates / "app.key"), "-out", str(key), "-aes256"]
    subprocess.run([*command, "-passout", "pass:word"], check=True, capture_output=True)
    key.chmod(0o600)
    given: dict[str, Any] = {"sslcert": str(certificates / "app.crt"), "sslkey": str(key), "home": tmp_path}
    assert upstream("require", sslpassword="word", **given).context is not None
    for wrong in ("", "wrong"):
        with pytest.raises(ConfigError, match=r"app\.key") as caught:
            upstream("require", sslpassword=wrong, **given)
        assert "wrong" not in str(caught.value).replace("missing or wrong", "")


@pytest.mark.parametrize(
    ("key", "sign", "name"),
    [
        ("rsa:2048", ("-sha256",), "sha256"),
        ("rsa:2048", ("-sha1",), "sha256"),
        ("rsa:2048", ("-sha384",), "sha384"),
        ("rsa:2048", ("-sha512", "-sigopt", "rsa_padding_mode:pss"), "sha512"),
        ("rsa:2048", ("-sha1", "-sigopt", "rsa_padding_mode:pss"), "sha256"),
        ("ec", ("-sha384",), "sha384"),
        ("ec", ("-sha1",), "sha256"),
        ("ed25519", (), None),
    ],
)
def test_the_hash_of_a_certificate_is_that_of_its_signature(
    tmp_path: Path, certificates: Path, key: str, sign: tuple[str, ...], name: str | None
) -> None:
    curve = ("-pkeyopt", "ec_paramgen_curve:prime256v1") if key == "ec" else ()
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        key,
        *curve,
        "-nodes",
        *sign,
        "-days",
        "2",
        "-subj",
        "/CN=x",
    ]
    subprocess.run(
        [*command, "-keyout", "k", "-out", "c"], cwd=tmp_path, check=True, capture_output=True, timeout=60
    )
    der = certificate_of(str(tmp_path / "c"))
    assert end_point_hash(der) == (None if name is None else hashlib.new(name, der).digest())


@settings(deadline=None)
@given(st.data())
def test_no_bytes_break_the_reading_of_a_certificate(certificates: Path, data: st.DataObject) -> None:
    der = certificate_of(str(certificates / "server.crt"))
    at = data.draw(st.integers(0, len(der)))
    broken = der[:at] + data.draw(st.binary(max_size=4)) + der[at + data.draw(st.integers(0, 4)) :]
    try:
        end_point_hash(broken)
    except ValueError as error:
        assert str(error) == "not a certificate in DER"  # noqa: PT017 - or it is read, as no binding or another
