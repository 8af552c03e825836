"""What the design demands of the code as a whole, where import-linter does not look; and that it does look."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import heliosproxy
from heliosproxy.config import Config
from heliosproxy.config.support import NOT_BUILT
from heliosproxy.errors import UnsupportedError

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "heliosproxy"
FILES = sorted(PACKAGE.rglob("*.py"))

LONGEST = 500
LONGEST_OF = {"session.py": 250}
# Past the limit a file needs a reason, which stands here.
LONGER: dict[str, str] = {}


def test_the_layers_hold() -> None:
    # The layers stand in pyproject.toml. `make lint` runs this, too; here a plain `pytest` does.
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert ", 0 broken" in done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_is_about_one_thing(file: Path) -> None:
    name = str(file.relative_to(PACKAGE))
    limit = LONGEST_OF.get(name, LONGEST)
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert (lines > limit) == (name in LONGER), f"{lines} lines; at most {limit}, or a reason"


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(file)
        for file in FILES
        if (tree := ast.parse(file.read_text(encoding="utf-8"))).body and not ast.get_docstring(tree)
    ]
    assert silent == []


def test_nothing_is_imported_that_is_not_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for group in project["optional-dependencies"].values() for name in group]
    declared = {_distribution(text) for text in [*project["dependencies"], *extras]}
    declared |= {"heliosproxy", "pydantic_core"}  # the latter is a part of pydantic
    foreign = {
        (name, str(file.relative_to(PACKAGE)))
        for file in FILES
        for name in _imported(file)
        if name not in sys.stdlib_module_names and name not in declared
    }
    assert foreign == set()


def test_every_dependency_is_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    used = {name for file in FILES for name in _imported(file)}
    unused = {_distribution(text) for text in project["dependencies"]} - used
    # psycopg_pool: an application that has one keeps it (tested); the control connections are to use it.
    assert unused <= {"psycopg_pool"}


def _distribution(requirement: str) -> str:
    name = requirement
    for character in "[<>=!~; ":
        name = name.split(character)[0]
    return name.replace("-", "_").lower()


def _imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


# How each section that is not built is asked for, where ``enabled = true`` does not do it.
ASKED = {
    "cache.l2": {"cache.l2": {"hosts": "localhost:6379"}},
    "plugins.wasm": {"plugins.wasm": {"name": "a", "path": "a.wasm", "hook": "query_rewrite"}},
    "routing": {"routing": {}},
}


@pytest.mark.parametrize("section", NOT_BUILT)
def test_a_section_that_is_not_built_is_refused_by_name(section: str) -> None:
    asked = ASKED.get(section, {f"{section}.enabled": True})
    with pytest.raises(UnsupportedError, match=f"(?m)^{section}: not available in this version$"):
        heliosproxy.Proxy(Config.from_mapping(asked))


def test_a_second_node_is_refused() -> None:
    nodes = [{"name": name, "dsn": "dbname=shop"} for name in ("a", "b")]
    with pytest.raises(UnsupportedError, match="node: more than 1"):
        heliosproxy.Proxy({"node": nodes})
