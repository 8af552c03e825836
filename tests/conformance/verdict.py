"""Whether a run of the suite is as good as stock psycopg's, but for what the table lists. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

# "skipped" and "missing" fail only where stock psycopg ran the test: see `judge`.
BAD = frozenset({"failed", "error", "hang", "crashed"})
NEVER = frozenset({"hang", "crashed"})


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a test: its outcome, and the line of the error or the reason of the skip."""

    outcome: str
    line: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the suite.

    Attributes:
        variant: what was under test.
        seconds: how long it took.
        whole: whether every test was selected.
        results: by test id.
        pins: what the pools say about pinned leases; None when they do not.
    """

    variant: str
    seconds: float
    whole: bool
    results: Mapping[str, Result]
    pins: Mapping[str, Any] | None = None

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(result.outcome for result in self.results.values()).most_common())

    @property
    def cut_short(self) -> bool:
        """Whether pytest did not come to an orderly end; the runner then adds a result in parentheses."""
        return any(test.startswith("(") for test in self.results)

    @property
    def pinned(self) -> float:
        """The part of the leases that were pinned, 0.0 to 1.0."""
        return self.pins["pinned"] / self.pins["leases"] if self.pins and self.pins["leases"] else 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Run:
        results = {test: Result(**result) for test, result in data["results"].items()}
        return cls(**{**data, "results": results})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a run; nothing when it is `good`.

    Attributes:
        failures: tests that fail and do not with stock psycopg, with what happened.
        unlisted: those of them the table does not have.
        never: those of them that no table may excuse (hangs, crashes).
        passing: what the table lists although it passes, or fails with stock psycopg, too. No fault in a part
            of the suite: some fail only on a server connection that other tests have used.
        stale: keys of the table that no test has; only in a whole run.
        raced: tests that lost a race that stock psycopg loses, too, now and then; not counted.
        whole: whether every test was run.
        bar: the most failures allowed.
        pinned: part of the leases that were pinned; pinned_bar: the largest allowed.
    """

    failures: Mapping[str, Result]
    unlisted: list[str] = field(default_factory=list)
    never: list[str] = field(default_factory=list)
    passing: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    raced: list[str] = field(default_factory=list)
    whole: bool = True
    bar: int = 0
    pinned: float = 0.0
    pinned_bar: float = 1.0

    @property
    def good(self) -> bool:
        wrong = self.unlisted or self.never or self.stale or (self.passing and self.whole)
        return not wrong and len(self.failures) <= self.bar and self.pinned <= self.pinned_bar


def judge(
    stock: Run,
    ours: Run,
    known: Mapping[str, str],
    bar: int,
    *,
    races: Mapping[str, tuple[str, str]] | None = None,
    pinned_bar: float = 1.0,
) -> Verdict:
    """Compares a run with stock psycopg's and with the table of known failures.

    Args:
        known: test id or beginning of ids -> reason.
        bar: the most failures allowed.
        races: test id or beginning of ids -> part of the error that stock psycopg has, too, but not every time,
            and reason.
        pinned_bar: the largest part of the leases that may be pinned.
    """
    covered = {key: [test for test in ours.results if covers(key, test)] for key in known}
    listed = {test for tests in covered.values() for test in tests}
    failures: dict[str, Result] = {}
    raced: list[str] = []
    for test, result in ours.results.items():
        reference = stock.results.get(test)
        if reference is not None and (reference.outcome in BAD or reference.outcome == "skipped"):
            worse = result.outcome in NEVER and reference.outcome not in NEVER
        else:
            worse = result.outcome in BAD or (reference is not None and result.outcome == "skipped")
        race = any(covers(key, test) and text in result.line for key, (text, _) in (races or {}).items())
        if worse and race and test not in listed and result.outcome not in NEVER:
            raced.append(test)
        elif worse:
            failures[test] = result
    if ours.whole:
        for test, reference in stock.results.items():
            if test not in ours.results and reference.outcome not in BAD:
                failures[test] = Result("missing", "not collected, or the run ended before")
    return Verdict(
        failures=failures,
        unlisted=[test for test in failures if test not in listed],
        never=[test for test, result in failures.items() if result.outcome in NEVER],
        passing=sorted(listed - failures.keys()),
        stale=[key for key, tests in covered.items() if not tests] if ours.whole else [],
        raced=raced,
        whole=ours.whole,
        bar=bar,
        pinned=ours.pinned,
        pinned_bar=pinned_bar,
    )


def covers(key: str, test: str) -> bool:
    """Whether a key of the table means *test*. No glob: brackets are part of an id."""
    return test.startswith(key[:-1]) if key.endswith("*") else test == key
