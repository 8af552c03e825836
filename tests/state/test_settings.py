"""What a session has set, and how transactions undo it."""

from __future__ import annotations

from heliosproxy.sql.statement import Setting
from heliosproxy.state.settings import Settings, _shared


def changed(
    *changes: tuple[str, str | None], settings: Settings | None = None, inside: bool = True
) -> Settings:
    settings = settings or Settings()
    for name, value in changes:
        settings.apply(Setting(name, value), in_transaction=inside)
    return settings


def test_rollback_restores_what_was_set_at_begin() -> None:
    settings = changed(("a", "1"), inside=False)
    changed(("a", "2"), ("b", "1"), settings=settings)
    assert settings.end(committed=False)
    assert dict(settings.values) == {"a": "1"}


def test_commit_keeps_what_was_set() -> None:
    settings = changed(("a", "1"))
    assert not settings.end(committed=True)
    assert dict(settings.values) == {"a": "1"}


def test_a_rollback_that_undoes_nothing_says_so() -> None:
    settings = changed(("a", "1"), inside=False)
    assert not settings.end(committed=False)


def test_the_same_set_in_the_same_order_is_one_object() -> None:
    one, same, turned = (
        changed(*changes)
        for changes in ((("a", "1"), ("b", "2")), (("a", "1"), ("b", "2")), (("b", "2"), ("a", "1")))
    )
    assert one.values is same.values
    assert one.signature is same.signature
    # Which was set first decides whether the other could be.
    assert turned.values is not one.values
    assert turned.signature == one.signature


def test_values_of_any_number_and_size_are_kept_apart() -> None:
    sessions = [changed(("a", str(number))) for number in range(3000)] + [changed(("a", "x" * 10_000))]
    assert [int(s.values["a"]) for s in sessions[:-1]] == list(range(3000))
    assert len(sessions[-1].values["a"]) == 10_000
    assert len(_shared) <= 1000


def test_the_latest_savepoint_of_a_name_is_meant() -> None:
    settings = changed(("a", "1"))
    settings.savepoint("s")
    changed(("a", "2"), settings=settings)
    settings.savepoint("s")
    changed(("a", "3"), settings=settings)
    settings.rollback_to("s")
    assert settings.values["a"] == "2"
    settings.release("s")
    settings.rollback_to("s")
    assert settings.values["a"] == "1"


def test_a_savepoint_can_be_rolled_back_to_twice() -> None:
    settings = changed(("a", "1"))
    settings.savepoint("s")
    for value in ("2", "3"):
        changed(("a", value), settings=settings)
        settings.rollback_to("s")
        assert settings.values["a"] == "1"


def test_reset_all_leaves_the_authority_alone() -> None:
    settings = changed(("role", "r"), ("a", "1"), ("*", None))
    assert dict(settings.values) == {"role": "r"}


def test_session_authorization_resets_the_role() -> None:
    settings = changed(("role", "r"), ("session_authorization", "u"))
    assert dict(settings.values) == {"session_authorization": "u"}


def test_set_local_is_no_setting_of_the_session() -> None:
    settings = Settings()
    settings.apply(Setting("a", "1", local=True), in_transaction=True)
    assert settings.local == {"a": "1"}
    assert settings.signature is None
    settings.end()
    assert not settings.local


def test_sessions_that_set_the_same_have_equal_signatures_whatever_the_order() -> None:
    one, other = changed(("a", "1"), ("b", "2")), changed(("b", "2"), ("a", "1"))
    assert one.signature == other.signature
