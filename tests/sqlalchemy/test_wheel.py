"""What is built is what is found: both entry points, from a wheel, in an environment that has nothing else."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

for url, plugins in (
    ("postgresql+heliosproxy://app@db/shop", []),
    ("postgresql+psycopg://app@db/shop", ["heliosproxy"]),
    ("postgresql+psycopg://app@db/shop?plugin=heliosproxy", []),
):
    engine = sa.create_engine(url, plugins=plugins)
    print(type(engine.dialect).__name__, engine.heliosproxy.config.pool.mode)
    print(type(create_async_engine(url, plugins=plugins).dialect).__name__)
"""


def run(*command: object, folder: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_both_entry_points_load_from_a_wheel_in_an_empty_environment(tmp_path: Path) -> None:
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT, folder=tmp_path)
    (wheel,) = tmp_path.glob("heliosproxy-*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[sqlalchemy]", folder=tmp_path)
    assert (
        run(python, "-W", "error", "-c", PROGRAM, folder=tmp_path)
        == "HeliosDialect session\nHeliosDialectAsync\n" * 3
    )
