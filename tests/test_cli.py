from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from heliosproxy.check import report
from heliosproxy.cli import app
from heliosproxy.config import Config

FULL = Path(__file__).with_name("config") / "full.toml"
SECRETS = {"DB_PASSWORD": "hunter2", "APP_SCRAM_VERIFIER": "hunter3"}


def run(*arguments: str, env: dict[str, str] | None = None) -> Any:
    return CliRunner().invoke(app, arguments, env=env)


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (
        0,
        f"heliosproxy {importlib.metadata.version('heliosproxy')}\n",
    )


def test_check_prints_the_effective_configuration_and_what_is_missing() -> None:
    result = run("check", str(FULL), env={**SECRETS, "HELIOSPROXY_POOL__MIN_SIZE": "3"})
    assert result.exit_code == 0
    assert "hunter" not in result.output
    printed = tomllib.loads(result.stdout)
    assert printed["pool"]["min_size"] == 3
    assert printed["pool"]["timeout"] == "30s"
    assert printed["cache"]["l1"] == {"size": "1GB", "ttl": "1m", "eviction": "lru"}
    assert printed["node"][0]["dsn"] == "postgresql://app:***@db-1:5432/shop"
    assert "# graphql: not available in this version\n" in result.stdout


def test_check_leaves_out_what_is_neither_there_nor_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "helios.toml"
    file.write_text("[auth]\nenabled = true\n", encoding="utf-8")
    printed = tomllib.loads(run("check", str(file)).stdout)
    assert set(printed) == {"pool", "cache", "sql", "node", "user", "auth"}
    assert printed["auth"] == {"enabled": True}
    assert set(printed["cache"]) >= {"l1", "query"}
    assert "semantic" not in printed["cache"]


def test_what_check_prints_can_be_loaded() -> None:
    config = Config.from_mapping(
        {"pool.reset": 'a "b" \\ \x7f \n ü', "cache.table": [{"name": "t", "ttl": "1.5s"}]}
    )
    assert Config.from_mapping(tomllib.loads(report(config))) == config
    assert "not available" not in report(config)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('[cache.l1]\nsise = "1GB"\n', ':2: cache.l1.sise: unknown key, did you mean "size"?'),
        (
            '[pool]\nreset = "${NOT_SET_ANYWHERE}"\n',
            ":2: pool.reset: ${NOT_SET_ANYWHERE} is not set in the environment",
        ),
        ("[pool\n", ":1: not TOML: "),
    ],
)
def test_check_names_file_line_and_key_of_an_error(tmp_path: Path, text: str, error: str) -> None:
    file = tmp_path / "helios.toml"
    file.write_text(text, encoding="utf-8")
    result = run("check", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{file}{error}")


def test_check_of_a_missing_file() -> None:
    result = run("check", "missing.toml")
    assert (result.exit_code, result.stderr) == (2, "missing.toml: No such file or directory\n")


@pytest.mark.parametrize(
    ("arguments", "seconds", "json"), [([], 8.0, False), (["--seconds", "1.5", "--json"], 1.5, True)]
)
def test_demo_passes_its_options_and_status_on(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], seconds: float, json: bool
) -> None:
    calls: list[dict[str, object]] = []

    def pretend(**options: object) -> int:
        calls.append(options)
        return 3

    module = ModuleType("heliosproxy.demo")
    module.run = pretend  # type: ignore[attr-defined]  # a module made by hand
    monkeypatch.setitem(sys.modules, "heliosproxy.demo", module)
    assert run("demo", *arguments).exit_code == 3
    assert calls == [{"seconds": seconds, "json": json}]
