"""What programs do with SQLAlchemy's ORM, in transaction mode with the cache on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


@pytest.fixture
def engine(make: Callable[..., Any], dsn: str) -> Any:
    with psycopg.connect(dsn) as conn:
        conn.execute("DROP TABLE IF EXISTS book, author")
        conn.execute("CREATE TABLE author (id serial PRIMARY KEY, name text NOT NULL)")
        conn.execute(
            "CREATE TABLE book (id serial PRIMARY KEY, title text NOT NULL, author_id int NOT NULL REFERENCES author)"
        )
    return make(helios_cache=True)


def fill(session: Session) -> int:
    author = Author(name="Ada", books=[Book(title=f"Notes {i}") for i in range(2500)])
    session.add(author)
    session.commit()
    return author.id


def test_many_rows_are_inserted_and_know_their_keys(colour: Any, engine: Any) -> None:
    def body(session: Session) -> Any:
        key = fill(session)
        author = session.get(Author, key, options=[selectinload(Author.books)])
        assert author is not None
        return len({book.id for book in author.books})

    assert colour.session(engine, body) == 2500


def test_a_session_that_wrote_reads_what_it_wrote(colour: Any, engine: Any) -> None:
    key = colour.session(engine, fill)

    def rename(session: Session) -> Any:
        author = session.get_one(Author, key)
        author.name = "Augusta"
        session.flush()
        session.expire_all()
        inside = session.get_one(Author, key).name
        session.rollback()
        return inside, session.get_one(Author, key).name

    def read(session: Session) -> str:
        return session.get_one(Author, key).name

    assert [colour.session(engine, read) for _ in range(2)] == ["Ada", "Ada"]
    assert colour.session(engine, rename) == ("Augusta", "Ada")
    assert colour.session(engine, read) == "Ada"


def test_the_identity_is_found_in_memory_until_somebody_writes(
    colour: Any, engine: Any, leases: Callable[[Any], int], dsn: str
) -> None:
    key = colour.session(engine, fill)

    def read(session: Session) -> str:
        return session.get_one(Author, key).name

    def write(session: Session) -> None:
        session.get_one(Author, key).name = "Augusta"
        session.commit()

    colour.session(engine, read)
    before = leases(engine)
    assert [colour.session(engine, read) for _ in range(5)] == ["Ada"] * 5
    assert leases(engine) == before
    colour.session(engine, write)
    assert colour.session(engine, read) == "Augusta"


def test_savepoints(colour: Any, engine: Any) -> None:
    def body(session: Session) -> list[str]:
        session.add(Author(name="kept"))
        session.flush()
        with pytest.raises(sa.exc.IntegrityError), session.begin_nested():
            session.add(Book(title="of nobody", author_id=-1))
            session.flush()
        session.commit()
        return [*session.scalars(sa.select(Author.name))]

    assert colour.session(engine, body) == ["kept"]


def test_rows_in_portions_from_a_cursor_on_the_server(colour: Any, engine: Any) -> None:
    colour.session(engine, fill)

    def body(connection: sa.Connection) -> Any:
        options = {"yield_per": 100}
        found = connection.execute(sa.select(Book.id), execution_options=options)
        sizes = [len(part) for part in found.partitions()]
        connection.rollback()
        return sizes

    assert colour.run(engine, body) == [100] * 25


def test_a_cursor_on_the_server_takes_options_of_the_path(colour: Any, engine: Any) -> None:
    colour.session(engine, fill)

    def body(connection: sa.Connection) -> Any:
        options = {"stream_results": True, "helios_cache": False}
        return len(connection.execute(sa.select(Book.id), execution_options=options).all())

    assert colour.run(engine, body) == 2500


def test_two_phase_commit(colour: Any, engine: Any) -> None:
    def prepare(connection: sa.Connection) -> Any:
        transaction = connection.begin_twophase()
        connection.execute(sa.insert(Author), {"name": "twice"})
        transaction.prepare()
        transaction.commit()
        return connection.scalar(sa.select(Author.name))

    assert colour.run(engine, prepare) == "twice"


def test_arrays_json_and_ranges_come_back_as_they_went(colour: Any, engine: Any) -> None:
    from sqlalchemy.dialects import postgresql as pg

    given = {"a": [1, None, 3], "b": {"x": [1, 2.5, None]}, "c": pg.Range(1, 5)}
    wanted = sa.select(
        sa.literal(given["a"], pg.ARRAY(sa.Integer)),
        sa.literal(given["b"], pg.JSONB),
        sa.literal(given["c"], pg.INT4RANGE),
    )

    def body(connection: sa.Connection) -> Any:
        return tuple(connection.execute(wanted).one())

    for _ in range(3):  # sent, remembered, answered from memory
        assert colour.run(engine, body) == tuple(given.values())
