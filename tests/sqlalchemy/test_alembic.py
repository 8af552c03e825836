"""A migration by Alembic, up and down, through each door; what changes the schema forgets what was answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

import heliosproxy

ENVIRONMENT = """
from alembic import context

engine = context.config.attributes["engine"]
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=context.config.attributes["metadata"])
    with context.begin_transaction():
        context.run_migrations()
"""
FIRST = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "one", None


def upgrade():
    op.create_table("shelf", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("INSERT INTO shelf VALUES (1)")


def downgrade():
    op.drop_table("shelf")
"""
SECOND = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "two", "one"


def upgrade():
    op.add_column("shelf", sa.Column("name", sa.String(40), nullable=False, server_default="top"))
    op.create_index("shelf_name", "shelf", ["name"])
    with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY shelf_id ON shelf (id, name)")


def downgrade():
    op.drop_index("shelf_id")
    op.drop_column("shelf", "name")
"""


@pytest.fixture
def metadata() -> sa.MetaData:
    metadata = sa.MetaData()
    shelf = sa.Table(
        "shelf",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(40), nullable=False, server_default="top"),
    )
    sa.Index("shelf_name", shelf.c.name)
    sa.Index("shelf_id", shelf.c.id, shelf.c.name)
    return metadata


@pytest.fixture(params=["postgresql+psycopg", "postgresql+heliosproxy"])
def engine(request: pytest.FixtureRequest, url: sa.URL) -> Iterator[sa.Engine]:
    plugins = [] if request.param.endswith("heliosproxy") else ["heliosproxy"]
    made = sa.create_engine(
        url.set(drivername=request.param), plugins=plugins, helios_mode="transaction", helios_cache=True
    )
    yield made
    made.dispose()
    heliosproxy.shutdown()


@pytest.fixture
def config(tmp_path: Path, engine: sa.Engine, metadata: sa.MetaData) -> Config:
    versions = tmp_path / "versions"
    versions.mkdir()
    (tmp_path / "env.py").write_text(ENVIRONMENT)
    (versions / "one.py").write_text(FIRST)
    (versions / "two.py").write_text(SECOND)
    made = Config()
    made.set_main_option("script_location", str(tmp_path))
    made.set_main_option("path_separator", "os")
    made.attributes |= {"engine": engine, "metadata": metadata}
    return made


def test_up_and_down(engine: sa.Engine, config: Config, metadata: sa.MetaData) -> None:
    def rows() -> Any:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text("SELECT * FROM shelf"))]

    def differences() -> Any:
        with engine.connect() as connection:
            return compare_metadata(MigrationContext.configure(connection), metadata)

    command.upgrade(config, "one")
    assert [rows() for _ in range(3)] == [[(1,)]] * 3
    assert differences()
    command.upgrade(config, "head")
    assert [rows() for _ in range(3)] == [[(1, "top")]] * 3
    assert not differences()
    command.downgrade(config, "one")
    assert rows() == [(1,)]
    command.downgrade(config, "base")
    with pytest.raises(sa.exc.ProgrammingError, match="shelf"):
        rows()


def test_the_revision_is_read_as_it_is_now(engine: sa.Engine, config: Config) -> None:
    def current() -> Any:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    moves: list[tuple[Callable[..., Any], str, str | None]] = [
        (command.upgrade, "head", "two"),
        (command.downgrade, "one", "one"),
        (command.downgrade, "base", None),
    ]
    for move, target, expected in moves:
        move(config, target)
        assert [current() for _ in range(2)] == [expected] * 2
