"""The example applications do the same with the plugin as without it."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy as sa

import heliosproxy

EXAMPLES = Path(__file__).parents[2] / "examples"
TURNED_ON: dict[str, dict[str, Any]] = {
    "without": {},
    "defaults": {"plugins": ["heliosproxy"]},
    "cached": {"plugins": ["heliosproxy"], "helios_mode": "transaction", "helios_cache": True},
}

Ask = Callable[..., tuple[int, Any]]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples.{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=list(TURNED_ON))
def keywords(request: pytest.FixtureRequest, dsn: str) -> Iterator[dict[str, Any]]:
    """What create_engine() is given beside the URL."""
    with psycopg.connect(dsn) as conn:
        conn.execute("DROP TABLE IF EXISTS note")
    yield TURNED_ON[request.param]
    heliosproxy.shutdown()


@pytest.fixture
def stock(dsn: str) -> str:
    return sa.make_url(dsn).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


@contextmanager
def flask_notes(url: str, keywords: dict[str, Any]) -> Iterator[Ask]:
    app = example("flask_notes").create_app(url, **keywords)
    client = app.test_client()

    def ask(method: str, path: str, **given: Any) -> tuple[int, Any]:
        answer = client.open(path, method=method, **given)
        return answer.status_code, answer.get_json(silent=True)

    yield ask
    app.extensions["engine"].dispose()


@contextmanager
def fastapi_notes(url: str, keywords: dict[str, Any]) -> Iterator[Ask]:
    app = example("fastapi_notes").create_app(url, **keywords)
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")

        def ask(method: str, path: str, **given: Any) -> tuple[int, Any]:
            answer = runner.run(client.request(method, path, **given))
            return answer.status_code, answer.json() if answer.content else None

        yield ask
        runner.run(client.aclose())
        runner.run(lifespan.__aexit__(None, None, None))


@pytest.fixture(params=[flask_notes, fastapi_notes], ids=["flask", "fastapi"])
def ask(request: pytest.FixtureRequest, stock: str, keywords: dict[str, Any]) -> Iterator[Ask]:
    with request.param(stock, keywords) as asking:
        yield asking


def test_what_was_written_is_read(ask: Ask) -> None:
    status, note = ask("POST", "/notes", json={"text": "buy milk"})
    assert (status, note["text"]) == (201, "buy milk")
    for _ in range(3):
        assert ask("GET", f"/notes/{note['id']}") == (200, note)


def test_what_was_changed_is_read_at_once(ask: Ask) -> None:
    _, note = ask("POST", "/notes", json={"text": "0"})
    for number in range(1, 6):
        changed = {**note, "text": str(number)}
        assert ask("PUT", f"/notes/{note['id']}", json={"text": str(number)}) == (200, changed)
        assert ask("GET", f"/notes/{note['id']}") == (200, changed)
        assert ask("GET", "/notes") == (200, [changed])


def test_what_was_removed_is_gone(ask: Ask) -> None:
    _, first = ask("POST", "/notes", json={"text": "first"})
    _, second = ask("POST", "/notes", json={"text": "second"})
    assert ask("GET", "/notes") == (200, [first, second])
    assert ask("DELETE", f"/notes/{first['id']}")[0] == 204
    assert ask("GET", f"/notes/{first['id']}")[0] == 404
    assert ask("GET", "/notes") == (200, [second])


def test_a_note_nobody_wrote(ask: Ask) -> None:
    for method in ("GET", "PUT"):
        assert ask(method, "/notes/4711", json={"text": "x"})[0] == 404
