"""What `heliosproxy serve` logs: for people or for programs, and never a secret."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from heliosproxy.server.login.md5 import md5_of
from heliosproxy.server.login.scram import Verifier
from heliosproxy.server.logs import JsonLines, Text, masked

VERIFIER = Verifier.of("hunter2", iterations=4096).text()


def record(message: str, *values: object, error: bool = False) -> logging.LogRecord:
    failure: Any = None
    if error:
        try:
            raise OSError('no route to "postgresql://app:hunter2@db/shop"')
        except OSError:
            failure = sys.exc_info()
    return logging.LogRecord("heliosproxy.server", logging.WARNING, __file__, 1, message, values, failure)


def test_json_is_one_object_on_one_line() -> None:
    line = JsonLines().format(record("user %s:\n%s", '"ada"', "\udc80é"))
    assert "\n" not in line
    found = json.loads(line)
    assert set(found) == {"time", "level", "logger", "message"}
    assert (found["level"], found["logger"]) == ("WARNING", "heliosproxy.server")
    assert found["message"] == 'user "ada":\n\udc80é'
    assert found["time"].endswith("Z")
    assert datetime.fromisoformat(found["time"]).utcoffset() == timedelta(0)


def test_nothing_forges_a_line_for_people() -> None:
    line = Text().format(record('user "%s" is refused', "x\n2026-11-27 ERROR forged\x1b[2J"))
    assert line.endswith(r'user "x\n2026-11-27 ERROR forged\x1b[2J" is refused')


@pytest.mark.parametrize("formatter", [JsonLines(), Text()])
def test_an_exception_comes_with_its_traceback_and_without_its_secrets(formatter: logging.Formatter) -> None:
    line = formatter.format(record("it failed", error=True))
    assert "it failed" in line
    assert "Traceback" in line
    assert "postgresql://app:***@db/shop" in line
    assert "hunter2" not in line
    if isinstance(formatter, JsonLines):
        assert json.loads(line)["exception"].startswith("Traceback")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://app:hunter2@db/shop", "postgresql://app:***@db/shop"),
        ("host=db password=hunter2 user=app", "host=db password=*** user=app"),
        ("password = 'hunter2 \\' more' user=app", "password = *** user=app"),
        ("/shop?sslpassword=hunter2&host=db", "/shop?sslpassword=***&host=db"),
        (f"verifier {VERIFIER} of ada", "verifier SCRAM-SHA-256$*** of ada"),
        (md5_of("ada", "hunter2"), "md5***"),
        ("127.0.0.1:5432: canceling statement", "127.0.0.1:5432: canceling statement"),
        ('password authentication failed for user "ada"', 'password authentication failed for user "ada"'),
        ("postgresql://app@db:5432/shop", "postgresql://app@db:5432/shop"),
    ],
)
def test_secrets_are_masked_and_nothing_else_is(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.fixture
def folder(tmp_path: Path, dsn: str) -> Path:
    """A configuration with a user whose password stands in it, which is warned of."""
    (tmp_path / "heliosproxy.toml").write_text(
        f'[server]\nlisten = ["{tmp_path}"]\n[[node]]\nname = "primary"\ndsn = "{dsn}"\n'
        f'[[user]]\nname = "ada"\nverifier = "plain:hunter2"\n[[user]]\nname = "bob"\nverifier = "{VERIFIER}"\n'
    )
    return tmp_path


def lines(folder: Path, dsn: str, *arguments: str) -> Iterator[str]:
    """What is logged from its start to its end, with a login that fails in between."""
    command = [
        sys.executable,
        "-m",
        "heliosproxy",
        "serve",
        "-c",
        str(folder / "heliosproxy.toml"),
        *arguments,
    ]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        begin: list[str] = []
        if "json" in arguments:
            while not begin or "listening on " not in begin[-1]:
                begin.append(process.stderr.readline())
                assert begin[-1]
        else:
            assert process.stdout.readline().startswith("listening on ")
        database = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(host=str(folder), port=5432, user="ada", password="wrong", dbname=database)
        psycopg.connect(host=str(folder), port=5432, user="ada", password="hunter2", dbname=database).close()
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=20)
    assert output == ""
    errors = "".join(begin) + errors
    assert process.returncode == 0
    assert "hunter2" not in errors
    assert VERIFIER not in errors
    yield from errors.splitlines()


def test_it_logs_json(folder: Path, dsn: str) -> None:
    found = [json.loads(line) for line in lines(folder, dsn, "--log-format", "json")]
    assert {each["level"] for each in found} == {"INFO", "WARNING"}
    messages = [each["message"] for each in found]
    assert any(message.startswith('user "ada"') for message in messages)
    assert any(message.startswith("listening on ") for message in messages)
    (refused,) = [message for message in messages if "refused" in message]
    assert refused.startswith("local: user 'ada', database ")
    assert refused.endswith('login refused: password authentication failed for user "ada"')
    assert all(set(each) == {"time", "level", "logger", "message"} for each in found)


def test_it_logs_text_and_from_a_level_on(folder: Path, dsn: str) -> None:
    assert [line.split()[2] for line in lines(folder, dsn)] == ["WARNING", "INFO", "INFO"]
    assert list(lines(folder, dsn, "--log-level", "error")) == []


def test_a_format_that_there_is_not_is_refused(folder: Path) -> None:
    command = [sys.executable, "-m", "heliosproxy", "serve", "--log-format", "xml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "text" in done.stderr
    assert "json" in done.stderr
