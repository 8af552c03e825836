"""The judge of conformance runs, and the table it reads."""

from __future__ import annotations

import pytest

from tests.conformance.known_failures import KNOWN, bar, known_failures
from tests.conformance.verdict import Result, Run, Verdict, judge


def run(variant: str = "session", whole: bool = True, **outcomes: str) -> Run:
    return Run(variant, 1.0, whole, {test: Result(outcome) for test, outcome in outcomes.items()})


def verdict(stock: Run, ours: Run, *known: str) -> Verdict:
    return judge(stock, ours, dict.fromkeys(known, "because"), bar=10)


def test_equal_runs_are_good() -> None:
    stock = run(a="passed", b="failed", c="skipped", d="xfailed")
    assert verdict(stock, stock).good


@pytest.mark.parametrize("outcome", ["failed", "error", "hang", "crashed", "skipped"])
def test_what_stock_passes_must_pass(outcome: str) -> None:
    found = verdict(run(a="passed"), run(a=outcome))
    assert found.unlisted == ["a"]
    assert not found.good


def test_what_stock_fails_may_fail_but_not_hang() -> None:
    assert verdict(run(a="failed"), run(a="error")).good
    assert verdict(run(a="failed"), run(a="hang")).never == ["a"]


def test_a_listed_failure_is_good_until_it_passes() -> None:
    assert verdict(run(a="passed"), run(a="failed"), "a").good
    found = verdict(run(a="passed"), run(a="passed"), "a")
    assert found.passing == ["a"]
    assert not found.good


def test_a_listed_failure_may_pass_in_a_part_of_the_suite() -> None:
    found = verdict(run(a="passed"), run(a="passed", whole=False), "a")
    assert found.passing == ["a"]
    assert found.good


def test_no_list_excuses_a_hang() -> None:
    assert not verdict(run(a="passed"), run(a="hang"), "a").good


def test_a_beginning_covers_its_tests_and_all_of_them_must_fail() -> None:
    stock = run(a1="passed", a2="passed")
    assert verdict(stock, run(a1="failed", a2="failed"), "a*").good
    assert verdict(stock, run(a1="failed", a2="passed"), "a*").passing == ["a2"]


def test_a_test_that_is_gone_counts_in_a_whole_run_only() -> None:
    stock = run(a="passed", b="passed")
    assert verdict(stock, run(a="passed")).unlisted == ["b"]
    assert verdict(stock, run(a="passed", whole=False)).good


def test_a_key_without_a_test_counts_in_a_whole_run_only() -> None:
    stock = run(a="passed")
    assert verdict(stock, run(a="passed"), "gone").stale == ["gone"]
    assert verdict(stock, run(a="passed", whole=False), "gone").good


def test_more_failures_than_the_bar_are_not_good() -> None:
    stock = run(a="passed", b="passed")
    assert not judge(stock, run(a="failed", b="failed"), {"a": "…", "b": "…"}, bar=1).good


@pytest.mark.parametrize(
    ("result", "good"),
    [
        (Result("passed"), True),
        (Result("failed", "Failed: DID NOT RAISE"), True),
        (Result("failed", "wrong"), False),
        (Result("hang", "DID NOT RAISE"), False),
    ],
)
def test_a_race_excuses_one_error_and_no_hang(result: Result, good: bool) -> None:
    ours = Run("session", 1.0, True, {"a": result})
    races = {"a": ("DID NOT RAISE", "because")}
    assert judge(run(a="passed"), ours, {}, bar=10, races=races).good is good


def test_too_many_pins_are_not_good() -> None:
    ours = Run("transaction", 1.0, True, {}, {"leases": 100, "pinned": 11, "reasons": {}})
    assert not judge(run(), ours, {}, bar=10, pinned_bar=0.1).good
    assert judge(run(), ours, {}, bar=10, pinned_bar=0.2).good


def test_a_run_survives_json() -> None:
    assert Run.from_json(run(a="failed").to_json()) == run(a="failed")


def test_a_variant_inherits_the_table_and_the_bar_of_its_mode() -> None:
    assert known_failures("transaction+cache").items() >= KNOWN["transaction"].items()
    assert bar("transaction+cache") == bar("transaction")


def test_every_known_failure_has_a_reason() -> None:
    assert all(reason.strip() for table in KNOWN.values() for reason in table.values())
