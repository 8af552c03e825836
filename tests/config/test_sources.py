"""File, environment, keywords: which one wins, and how an error says where it comes from."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest

from heliosproxy.config import Config
from heliosproxy.errors import ConfigError


def write(directory: Path, text: str) -> str:
    path = directory / "helios.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_keywords_beat_environment_beats_file(tmp_path: Path) -> None:
    file = write(tmp_path, "[pool]\nmax_connections = 1\nmin_size = 1\nmax_waiting = 1\ncheck = false\n")
    environ = {"HELIOSPROXY_POOL__MIN_SIZE": "2", "HELIOSPROXY_POOL__MAX_WAITING": "2"}
    pool = Config.load(
        file, environ=environ, overrides={"pool.max_waiting": 3, "pool.max_connections": None}
    ).pool
    assert (pool.max_connections, pool.min_size, pool.max_waiting, pool.check) == (None, 2, 3, False)


def test_keywords_are_dotted_or_nested() -> None:
    overrides = {"cache": MappingProxyType({"l1": {"size": "1MB"}}), "cache.l1.ttl": 5, "cache.enabled": True}
    cache = Config.load(environ={}, overrides=overrides).cache
    assert (cache.l1.size, cache.l1.ttl, cache.enabled) == (2**20, 5.0, True)


def test_the_environment_is_that_of_the_process_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOSPROXY_POOL__MODE", "transaction")
    assert Config.load().pool.mode == "transaction"
    assert Config.from_mapping({}).pool.mode == "session"


@pytest.mark.parametrize(
    "variable", ["HELIOSPROXY_POOL__MODE", "heliosproxy_pool__mode", "HeliosProxy_Pool__Mode"]
)
def test_the_case_of_a_variable_does_not_matter(variable: str) -> None:
    assert Config.load(environ={variable: "statement"}).pool.mode == "statement"


@pytest.mark.parametrize("text", ['["INSERT", "UPDATE"]', "['INSERT', 'UPDATE']"])
def test_a_variable_holds_a_list_as_toml_or_json(text: str) -> None:
    config = Config.load(environ={"HELIOSPROXY_CACHE__QUERY__EXCLUDE_PATTERNS": text})
    assert config.cache.query.exclude_patterns == ("INSERT", "UPDATE")


def test_a_variable_holds_one_text_for_a_list_of_one() -> None:
    environ = {
        "HELIOSPROXY_CACHE__QUERY__EXCLUDE_PATTERNS": "[A-Z]+ INTO",
        "HELIOSPROXY_SERVER__LISTEN": "[::]:6432",
    }
    config = Config.load(environ=environ)
    assert config.cache.query.exclude_patterns == ("[A-Z]+ INTO",)
    assert config.server is not None
    assert config.server.listen == ("[::]:6432",)


@pytest.mark.parametrize("text", ['[{"name": "a", "dsn": "host=h"}]', '[{name = "a", dsn = "host=h"}]'])
def test_a_variable_holds_an_array_of_tables(text: str) -> None:
    assert Config.load(environ={"HELIOSPROXY_NODE": text}).node[0].dsn.get_secret_value() == "host=h"


def test_a_variable_for_a_key_goes_over_one_for_its_section() -> None:
    environ = {"heliosproxy_pool": '{"mode": "statement", "min_size": 3}', "HELIOSPROXY_POOL__MIN_SIZE": "4"}
    pool = Config.load(environ=environ).pool
    assert (pool.mode, pool.min_size) == ("statement", 4)


@pytest.mark.parametrize("text", ["true", "on", "1", "yes"])
def test_a_variable_holds_a_boolean(text: str) -> None:
    assert Config.load(environ={"HELIOSPROXY_CACHE__ENABLED": text}).cache.enabled


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("HELIOSPROXY_POOL_MODE", "did you mean HELIOSPROXY_POOL__MODE?"),
        ("HELIOSPROXY_CACHE__L1__SISE", "did you mean HELIOSPROXY_CACHE__L1__SIZE?"),
        ("HELIOSPROXY_NODE__DSN", "did you mean HELIOSPROXY_NODE?"),
        ("HELIOSPROXY_", "a key is named like HELIOSPROXY_POOL__MODE"),
    ],
)
def test_a_variable_that_names_no_key_is_an_error(variable: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load(environ={variable: "x"})
    assert str(caught.value) == f"{variable}: unknown key, {hint}"


def test_the_variable_of_the_build_is_none_of_ours() -> None:
    assert Config.load(environ={"HELIOSPROXY_COMPILE": "1"}) == Config.from_mapping({})


def test_an_error_names_the_variable_it_came_from(tmp_path: Path) -> None:
    file = write(tmp_path, '[pool]\nmode = "session"\n')
    with pytest.raises(ConfigError) as caught:
        Config.load(file, environ={"HELIOSPROXY_POOL__MODE": "sessions"})
    assert str(caught.value).startswith("HELIOSPROXY_POOL__MODE: pool.mode: one of")
    assert (caught.value.key, caught.value.file, caught.value.line) == ("pool.mode", None, None)


def test_an_error_of_a_keyword_names_no_line_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, '[pool]\nmode = "session"\n')
    with pytest.raises(ConfigError) as caught:
        Config.load(file, environ={}, overrides={"pool.mode": "sessions"})
    assert (caught.value.key, caught.value.file, caught.value.line) == ("pool.mode", None, None)


def test_references_are_replaced_anywhere_in_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        '[pool]\nmax_connections = "${MAX}"\n[cache.query]\nexclude_patterns = ["a${X}b${X}", "$${X} $X"]\n'
        '[[node]]\nname = "${X}"\ndsn = "password=${PW}"\n',
    )
    # A value is a value: what it holds is not looked at again.
    config = Config.load(file, environ={"MAX": "7", "X": "-", "PW": "'${X}\" \n[pool]'"})
    assert config.pool.max_connections == 7
    assert config.cache.query.exclude_patterns == ("a-b-", "${X} $X")
    assert config.node[0].name == "-"
    assert config.node[0].dsn.get_secret_value() == "password='${X}\" \n[pool]'"


def test_references_are_replaced_in_the_file_alone() -> None:
    environ = {"HELIOSPROXY_POOL__RESET": "SELECT '${X}'"}
    assert Config.load(environ=environ).pool.reset == "SELECT '${X}'"
    assert Config.load(environ={}, overrides={"pool.reset": "${X}"}).pool.reset == "${X}"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("x${DB_PASSWORD}", "${DB_PASSWORD} is not set in the environment"),
        ("${}", "${ is not a reference; write ${NAME}, or $${ for the characters themselves"),
        ("${UNCLOSED", "${ is not a reference; write ${NAME}, or $${ for the characters themselves"),
    ],
)
def test_a_reference_to_nothing_names_key_and_variable(tmp_path: Path, value: str, problem: str) -> None:
    file = write(tmp_path, f'[[node]]\nname = "a"\ndsn = ""\n[[node]]\nname = "b"\ndsn = "{value}"\n')
    with pytest.raises(ConfigError) as caught:
        Config.load(file, environ={})
    assert str(caught.value) == f"{file}:6: node[1].dsn: {problem}"
    assert (caught.value.key, caught.value.file, caught.value.line) == ("node[1].dsn", file, 6)


@pytest.mark.parametrize(
    ("text", "line"),
    [("[pool]\nmode == 1\n", 2), ("[pool]\n\nmode = [1,\n", 3), ("a = 1\na = 2\n", 2), ("x", 1)],
)
def test_what_is_not_toml_names_the_line(tmp_path: Path, text: str, line: int) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError, match="not TOML") as caught:
        Config.load(file, environ={})
    assert (caught.value.file, caught.value.line) == (file, line)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError, match="No such file") as caught:
        Config.load(missing, environ={})
    assert caught.value.file == str(missing)
    missing.write_bytes(b"x = '\xff'")
    with pytest.raises(ConfigError, match="not UTF-8"):
        Config.load(missing, environ={})
