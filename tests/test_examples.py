"""Every example runs as it stands, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


def run(example: Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", example], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs_and_writes_nothing_where_it_is_started(example: Path, tmp_path: Path) -> None:
    run(example, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_first_program_prints_what_its_comments_say(tmp_path: Path) -> None:
    example = next(path for path in EXAMPLES if path.stem == "first_program")
    said = [
        line.partition("  # ")[2].partition(":")[0]
        for line in example.read_text().splitlines()
        if line.lstrip().startswith("print(cursor")
    ]
    assert run(example, tmp_path).splitlines() == [*said, "hits: 1"]
    assert len(said) == 3
