"""Compile the hot modules with mypyc, next to their sources: `python tools/compile.py`; `--clean` takes it back.

Needs a C compiler, mypy and setuptools. Python takes the compiled module where there is one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = [
    "call",
    "session",
    "pool/core",
    "pool/desk",
    "pool/parts",
    "pool/pool",
    "pool/server",
    "pool/waiters",
    "sql/shape",
    "state/memory",
    "state/settings",
    "state/transaction",
    "server/home",
    "server/client/commands",
    "server/client/conversation",
    "server/client/encode",
    "server/client/express",
    "server/client/plan",
    "server/client/replies",
    "server/client/sending",
    "server/client/settling",
    "server/client/statements",
    "server/client/swift",
    "server/protocol/backend",
    "server/protocol/frames",
    "server/protocol/frontend",
    "server/upstream/connection",
    "server/upstream/exchange",
    "server/upstream/known",
]

_SETUP = """
import sys
from setuptools import setup
from mypyc.build import mypycify
sys.argv = ["setup.py", "build_ext", "--inplace"]
modules = mypycify(
    ["--config-file=", "--ignore-missing-imports", *{sources!r}], opt_level="3", group_name="heliosproxy_compiled"
)
setup(name="heliosproxy-compiled", packages=[], ext_modules=modules)
"""


def compiled(root: Path = ROOT) -> list[Path]:
    """The extension modules that lie under *root*."""
    inside = (root / "heliosproxy").rglob("*.so")
    return sorted([*inside, *root.glob("heliosproxy_compiled__mypyc*.so")])


def clean(root: Path = ROOT) -> None:
    """Remove them."""
    for file in compiled(root):
        file.unlink()


def build(root: Path = ROOT) -> list[Path]:
    """Compile; returns the extension modules.

    Raises:
        RuntimeError: the compiler failed; with what it said.
    """
    clean(root)
    sources = [f"heliosproxy/{module}.py" for module in MODULES]
    with tempfile.TemporaryDirectory() as folder:
        # Elsewhere: setuptools would read the project's own pyproject.toml, which is none of its business.
        shutil.copytree(
            root / "heliosproxy", Path(folder) / "heliosproxy", ignore=shutil.ignore_patterns("__pycache__")
        )
        command = [sys.executable, "-c", _SETUP.format(sources=sources)]
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the compiler failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        for file in compiled(Path(folder)):
            shutil.copy2(file, root / file.relative_to(folder))
    return compiled(root)


if __name__ == "__main__":
    if sys.argv[1:] == ["--clean"]:
        clean()
    else:
        print(f"{len(build())} extension modules")
