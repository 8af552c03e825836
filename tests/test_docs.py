"""The Python examples of README and docs/ run, top to bottom of each page, against a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import heliosproxy
from heliosproxy.config import Config
from heliosproxy.config.support import NOT_BUILT

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
EXAMPLE_DSN = "postgresql://app@db/shop"


def blocks(page: Path, language: str) -> list[str]:
    """The examples of *page*, each behind empty lines, so that a traceback names the line of the page."""
    text = page.read_text(encoding="utf-8")
    return [
        "\n" * text.count("\n", 0, match.start(2)) + match[2]
        for match in BLOCK.finditer(text)
        if match[1] == language
    ]


@pytest.fixture
def shop(dsn: str) -> Iterator[str]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
        conn.execute("INSERT INTO users VALUES (42, 'Ada')")
        yield dsn
        heliosproxy.shutdown()
        conn.execute("DROP TABLE users")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _run(page: Path, shop: str) -> None:
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    for code in blocks(page, "python"):
        place = shop.removeprefix("postgresql")
        text = code.replace(EXAMPLE_DSN.removeprefix("postgresql"), place)
        assert "://" not in text.replace(place, ""), f"examples connect to {EXAMPLE_DSN}"
        exec(compile(text, str(page), "exec", dont_inherit=True), namespace)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=_name)
def test_its_examples_run(page: Path, shop: str) -> None:
    _run(page, shop)


def test_the_first_program_prints_what_its_comments_say(
    shop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = re.findall(r"print\(.*?\)  # (\(.*)$", "".join(blocks(ROOT / "README.md", "python")), re.M)
    assert len(said) == 3
    _run(ROOT / "README.md", shop)
    assert capsys.readouterr().out.splitlines()[:3] == said


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=_name)
def test_its_configurations_load(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(blocks(page, "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(text, encoding="utf-8")
        Config.load(file, environ={"DB_PASSWORD": "secret"})


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_its_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_changelog_is_about_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert heliosproxy.__version__ in text


def test_every_key_and_every_section_to_come_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for section in NOT_BUILT:
        assert section.partition(".")[0] in text
    for line in ("`mode`", "`exclude_patterns`", "`memo_size`", "`poll_interval`", "`tags`"):
        assert line in text
