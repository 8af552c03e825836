"""What cannot be served is told before anything is opened: by ``check``, by ``serve``, and by a reload."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

import heliosproxy
from heliosproxy.cli import app
from heliosproxy.config import Config
from heliosproxy.errors import ConfigError
from heliosproxy.server.checks import check
from tests.server.processes import Start, ready

NODE = '[[node]]\nname = "primary"\ndsn = "postgresql://app@db/shop"\n'
USER = '[[user]]\nname = "ada"\nverifier = "plain:lovelace"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("listen = []", ":5: server.listen: at least one address is wanted"),
        ('listen = "6432"', ':5: server.listen: "6432" is no address: write host:port'),
        ('listen = ["127.0.0.1"]', ':5: server.listen: "127.0.0.1" is no address'),
        ('listen = ["./sockets"]', ':5: server.listen: "./sockets" is no address'),
        ('listen = ["127.0.0.1:65536"]', ":5: server.listen: "),
        ('listen = ["0.0.0.0:6432"]', "server.listen: 0.0.0.0:6432 can be reached from other machines"),
        ('tls_cert = "a.crt"', "server.tls_cert is set and server.tls_key is not"),
        ('tls_key = "a.key"', "server.tls_key is set and server.tls_cert is not"),
        ("tls_required = true", "server.tls_required is set, and there is no certificate"),
        ('tls_cert = "no.crt"\ntls_key = "no.key"', 'certificate file "no.crt": No such file'),
        ('admin_users = ["eve"]', 'server.admin_users: there is no [[user]] "eve"'),
        ('stats_users = ["ada", "eve"]', 'server.stats_users: there is no [[user]] "eve"'),
        ('[[user]]\nname = "bob"\nverifier = "builder"', 'user "bob": verifier: neither SCRAM-SHA-256'),
    ],
)
def test_check_tells_what_serve_would_refuse(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "heliosproxy.toml"
    file.write_text(f"{NODE}[server]\n{text}\n{USER}", encoding="utf-8")
    result = CliRunner().invoke(app, ["check", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
    assert "builder" not in result.stderr


def test_every_cause_is_told_at_once() -> None:
    config = Config.from_mapping({"server.tls_required": True, "user": [{"name": "ada", "verifier": "x"}]})
    with pytest.raises(ConfigError, match=r'user "ada"[^\n]*\nserver\.tls_required'):
        check(config)


@pytest.mark.parametrize(
    ("dsn", "told"),
    [
        ("postgresql://app@db:port/shop", 'node "primary": dsn: port: "port" is not a number'),
        ("postgresql://app@db/shop?sslmode=on", 'node "primary": dsn: sslmode: "on" is not one of'),
        ("postgresql://app@db/shop?sslmode=verify-full&sslrootcert=no.crt", '"no.crt" does not exist'),
        ("postgresql://app@db/shop?target_session_attrs=primary", "target_session_attrs in a"),
    ],
)
def test_a_connection_string_is_read_before_the_first_client_comes(dsn: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(Config.from_mapping({"node": [{"name": "primary", "dsn": dsn}]}))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"server": {"tls_cert": "a.crt"}}, "server.tls_cert is set and server.tls_key is not"),
        ({"server": {"tls_key": "a.key"}}, "server.tls_key is set and server.tls_cert is not"),
        ({"server": {"tls_required": True}}, "server.tls_required is set, and there is no certificate"),
        ({"server": {"tls_cert": "no.crt", "tls_key": "no.key"}}, 'certificate file "no.crt"'),
        ({"server": {"admin_users": ["eve"]}}, 'server.admin_users: there is no [[user]] "eve"'),
        ({"user": [{"name": "bob", "verifier": "builder"}]}, 'user "bob": verifier: neither'),
        ({"dsn": "postgresql://app@db/shop?target_session_attrs=primary"}, "target_session_attrs in a"),
        ({"dsn": "postgresql://app@db:port/shop"}, 'node "primary": dsn: port: "port" is not a number'),
    ],
)
def test_a_server_within_an_application_refuses_the_same_in_the_same_words(
    asked: dict[str, Any], told: str
) -> None:
    user = {"name": "ada", "verifier": "plain:lovelace"}
    node = {"name": "primary", "dsn": asked.pop("dsn", "postgresql://app@db/shop")}
    config = Config.from_mapping({"node": [node], "user": [user], **asked})
    with pytest.raises(ConfigError) as by_check:
        check(config)
    with heliosproxy.Proxy(config) as proxy, pytest.raises(ConfigError) as by_serve:
        heliosproxy.serve(proxy)
    assert told in str(by_serve.value)
    assert str(by_serve.value) == str(by_check.value)


def test_addresses_on_which_an_application_does_not_listen_are_no_danger_to_it(dsn: str) -> None:
    config = {"node": [{"name": "primary", "dsn": dsn}], "server": {"listen": ["0.0.0.0:6432"]}}
    with heliosproxy.Proxy(config) as proxy, heliosproxy.serve(proxy) as server:
        psycopg.connect(server.url).close()


def test_without_a_node_there_is_nothing_to_serve() -> None:
    told = r"no server: give a DSN, or a configuration with a \[\[node\]\]"
    with heliosproxy.Proxy({}) as proxy, pytest.raises(ConfigError, match=told):
        heliosproxy.serve(proxy)
    with pytest.raises(ConfigError, match=told):
        heliosproxy.serve()


def test_what_can_be_served_passes(certificates: Path) -> None:
    check(
        Config.from_mapping(
            {
                "node": [{"name": "primary", "dsn": "postgresql://app@db/shop"}],
                "user": [{"name": "ada", "verifier": "plain:lovelace"}],
                "server": {
                    "listen": ["127.0.0.1:0", "[::1]:6432", "/run/heliosproxy", "/run/heliosproxy:6432"],
                    "tls_cert": str(certificates / "server.crt"),
                    "tls_key": str(certificates / "server.key"),
                    "admin_users": ["ada"],
                },
            }
        )
    )


def test_a_key_of_another_certificate(certificates: Path) -> None:
    files = {"tls_cert": str(certificates / "server.crt"), "tls_key": str(certificates / "app.key")}
    with pytest.raises(ConfigError, match="the key is not the certificate's"):
        check(Config.from_mapping({"server": files}))


def test_a_file_that_is_gone_is_told_by_a_reload(
    start: Start, dsn: str, tmp_path: Path, certificates: Path
) -> None:
    for name in ("server.crt", "server.key"):
        (tmp_path / name).write_bytes((certificates / name).read_bytes())
        (tmp_path / name).chmod(0o600)
    file = tmp_path / "heliosproxy.toml"
    file.write_text(
        f'[[node]]\nname = "primary"\ndsn = "{dsn}"\n[server]\nlisten = "{tmp_path}"\n'
        f'tls_cert = "{tmp_path}/server.crt"\ntls_key = "{tmp_path}/server.key"\n'
    )
    process = start("-c", str(file))
    ready(process)
    (tmp_path / "server.key").unlink()
    with psycopg.connect(host=str(tmp_path), dbname="heliosproxy", user="me", autocommit=True) as console:
        with pytest.raises(psycopg.Error, match=r'server\.tls_key: key file ".*server\.key": No such file'):
            console.execute("RELOAD")
        assert console.execute("SHOW VERSION").fetchone() is not None
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_a_file_without_its_option() -> None:
    result = CliRunner().invoke(app, ["serve", "heliosproxy.toml"])
    assert result.exit_code == 2
    assert result.stderr == "heliosproxy.toml: a file is given with --config heliosproxy.toml\n"
