"""``python -m tests.conformance``: other people's suites against heliosproxy.

Without arguments what packages ship (DB-API 2.0). With ``--psycopg PATH`` (its git repository, or a copy of
the tag) psycopg's own suite as well: first with stock psycopg, whose results are kept for later runs in the
same set-up, then with heliosproxy's classes in the place of psycopg's, and through the server. ``--psycopg2
PATH`` and ``--asyncpg PATH`` run the suites of these drivers, directly and through the server. ``--sqlalchemy
PATH`` and ``--sqlalchemy_async PATH`` (its unpacked sdist) run SQLAlchemy's compliance suite and the parts of its
own that need a database, with its psycopg dialect and with ours. The exit status
is 0 when nothing fails but what known_failures.py lists.

Arguments it does not know go to pytest, for a part of the suite with output on the terminal:

    python -m tests.conformance --psycopg PATH --mode transaction tests/test_cursor.py -x --pdb
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from .known_failures import RACES, bar, known_failures, pinned_bar
from .runner import WIRE, log_file, run_suite
from .suites import PSYCOPG, SUITES, Suite, SuiteError, cache_dir
from .verdict import BAD, Run, Verdict, judge

_OF_DIALECTS = [(mode, extra) for mode in ("session", "transaction") for extra in ("", "cache")]


def main() -> int:
    # As an exception, so that the servers and the suite's process end with this one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options, arguments = _parser().parse_known_args()
    if options.select:
        arguments += ["-k", options.select]
    given = [(suite, vars(options)[suite.name]) for suite in SUITES if vars(options)[suite.name]]
    good = True
    if not given or not options.mode:
        good = _packaged()
    if not given:
        _say("no driver's own suite was run: --psycopg PATH, or make conformance PSYCOPG=path")
        return 0 if good else 1
    summaries: list[dict[str, object]] = []
    for suite, path in given:
        try:
            folder = suite.at(path)
        except SuiteError as error:
            _say(str(error))
            return 2
        variants = _asked(suite, options.mode)
        stock = _baseline(suite, folder, options.stock or "stock" in variants, arguments)
        _show(stock, stock, None)
        summaries.append(_summary(stock, None))
        ours = [variant for variant in variants if variant != "stock"]

        def run(variant: str, suite: Suite = suite, folder: Path = folder) -> Run:
            return _run(suite, folder, variant, arguments)

        if options.jobs > 1:
            with ThreadPoolExecutor(options.jobs) as pool:
                runs = list(pool.map(run, ours))
        else:  # in this thread, so that a signal ends it
            runs = [run(variant) for variant in ours]
        for each in runs:
            verdict = _judge(stock, each)
            _show(each, stock, verdict)
            summaries.append(_summary(each, verdict))
            good = good and verdict.good
    if options.json:
        print(json.dumps(summaries, indent=1))
    return 0 if good else 1


def _asked(suite: Suite, modes: list[str] | None) -> list[str]:
    """The variants to run: of those asked for, the ones that mean something to *suite*."""
    if modes is None:
        return list(suite.variants)
    return [mode for mode in modes if mode == "stock" or _fits(suite, mode)]


def _fits(suite: Suite, mode: str) -> bool:
    served = any(variant.startswith(WIRE) for variant in suite.variants)
    if mode.startswith(WIRE):
        return served
    # Of a driver that heliosproxy has no classes of there is the server alone; of SQLAlchemy only its dialect.
    return suite is PSYCOPG or (not served and mode.partition("+")[::2] in _OF_DIALECTS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for suite in SUITES:
        parser.add_argument(
            f"--{suite.name}",
            type=Path,
            metavar="PATH",
            help=f"{suite.name}'s repository, or a copy of tag {suite.tag}: {', '.join(suite.archived)}",
        )
    parser.add_argument(
        "--mode",
        type=_variants,
        help="session, transaction, both, wire-session, wire-transaction (through our server), stock, thin, or"
        " variants separated by commas, such as transaction+cache,session+stock-cursors; without it: these"
        " four (of other drivers the two of the server), and the packaged suites",
    )
    parser.add_argument("--stock", action="store_true", help="run the baseline anew, whatever is kept")
    parser.add_argument("--select", metavar="EXPR", help="pytest's -k")
    parser.add_argument("--jobs", type=int, default=1, help="variants run at the same time (default 1)")
    parser.add_argument("--json", action="store_true", help="the verdict as JSON on standard output")
    return parser


def _variants(text: str) -> list[str]:
    variants = text.replace("both", "session,transaction").split(",")
    for variant in variants:
        if not re.fullmatch(
            r"stock|thin|wire-(session|transaction)|(session|transaction)(\+(cache|stock-cursors))*", variant
        ):
            raise argparse.ArgumentTypeError(f"no such variant: {variant}")
    return variants


def _packaged() -> bool:
    """The suites that come from package registries, as `make test` runs them."""
    command = [sys.executable, "-m", "pytest", "-q", str(Path(__file__).parent)]
    return subprocess.run(command, stdout=sys.stderr).returncode == 0


def _baseline(suite: Suite, folder: Path, anew: bool, arguments: Sequence[str]) -> Run:
    """The stock driver's results: the kept ones, or those of a run now. A part of the suite is not kept."""
    file = cache_dir() / f"{suite.label('stock')}-{suite.setup_key(folder)}.json"
    if file.exists() and not anew:
        return Run.from_json(json.loads(file.read_text()))
    run = _run(suite, folder, "stock", arguments)
    if run.whole and not run.cut_short:
        file.write_text(json.dumps(run.to_json()))
    return run


def _run(suite: Suite, folder: Path, variant: str, arguments: Sequence[str]) -> Run:
    label = suite.label(variant)
    _say(f"{label}: running" + ("" if arguments else f", log: {log_file(label)}"))
    return run_suite(suite, folder, variant, arguments)


def _judge(stock: Run, run: Run) -> Verdict:
    known, variant = known_failures(run.variant), run.variant
    return judge(stock, run, known, bar(variant), races=RACES, pinned_bar=pinned_bar(variant))


def _show(run: Run, stock: Run, verdict: Verdict | None) -> None:
    counts = ", ".join(f"{number} {outcome}" for outcome, number in run.counts.items())
    _say(f"{run.variant}: {counts} in {run.seconds:.0f} s")
    if verdict is None:
        return
    ours, theirs = run.counts.get("passed", 0), stock.counts.get("passed", 0)
    _say(f"  {ours} passes, {theirs} of the baseline: {ours - theirs:+d}")
    if run.pins is not None:
        _say(f"  pinned: {run.pinned:.1%} (at most {verdict.pinned_bar:.0%}) {json.dumps(run.pins)}")
    missing = [test for test in verdict.unlisted if verdict.failures[test].outcome == "missing"]
    if missing:
        _say(f"  {len(missing)} tests are missing, the first is {missing[0]}")
    for test in verdict.unlisted:
        result = verdict.failures[test]
        if result.outcome == "missing":
            continue
        _say(f"  {result.outcome.upper()}, not listed: {test}\n      {result.line}")
    for test in set(verdict.never).difference(verdict.unlisted):
        _say(f"  {verdict.failures[test].outcome.upper()}, which no list excuses: {test}")
    for test in verdict.passing:
        _say(f"  listed, but no failure: {test}")
    for key in verdict.stale:
        _say(f"  listed, but no such test: {key}")
    if verdict.raced:
        _say(f"  not counted, as the baseline loses these races, too: {len(verdict.raced)}")
    number = len(verdict.failures)
    _say(
        f"  {number} failures that the baseline does not have ({number - len(verdict.unlisted)} listed,"
        f" at most {verdict.bar}): {'good' if verdict.good else 'NOT GOOD'}"
    )


def _summary(run: Run, verdict: Verdict | None) -> dict[str, object]:
    summary: dict[str, object] = {"variant": run.variant, "seconds": run.seconds, "counts": run.counts}
    if verdict is None:
        bad = {test: result for test, result in run.results.items() if result.outcome in BAD}
        return {**summary, "failures": {test: asdict(result) for test, result in bad.items()}}
    failures = {
        test: {**asdict(result), "listed": test not in verdict.unlisted}
        for test, result in verdict.failures.items()
    }
    return {
        **summary,
        "pins": run.pins,
        "good": verdict.good,
        "failures": failures,
        "passing": verdict.passing,
        "stale": verdict.stale,
        "raced": verdict.raced,
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
