"""Run the benchmarks, each in a process of its own.

    python -m benchmarks [--json] [--quick] [NAME …]

Without names: all of them. With --json, one line per benchmark: ``{"name": {…}}``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from .common import ROOT

HERE = Path(__file__).parent


def names() -> list[str]:
    """The modules here that measure something: they have a ``run``."""
    return sorted(file.stem for file in HERE.glob("*.py") if "\ndef run(" in file.read_text())


def run_one(name: str, arguments: list[str], as_json: bool) -> bool:
    """Run benchmark *name*; whether it ended well."""
    if not as_json:
        print(f"\n{name}\n{'=' * len(name)}", flush=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE if as_json else None, text=True, cwd=ROOT)
    if as_json and not done.returncode:
        print(json.dumps({name: json.loads(done.stdout)}), flush=True)
    if done.returncode:
        print(f"{name} failed ({done.returncode})", file=sys.stderr)
    return not done.returncode


def main() -> int:
    """Run what was asked for; 1 when one of them failed."""
    known = names()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--json", action="store_true", help="one JSON object per benchmark")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, where a benchmark has them")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    well = True
    for name in options.names or known:
        arguments = ["--json"] if options.json else []
        # Not all have sizes to choose from; those that have share their main().
        if options.quick and "command(__doc__, run)" in (HERE / f"{name}.py").read_text():
            arguments.append("--quick")
        well &= run_one(name, arguments, options.json)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
