"""A FastAPI application over SQLAlchemy's asyncio. Set HELIOS=1, and the same application has heliosproxy in it.

pip install 'heliosproxy[embedded,sqlalchemy]' fastapi httpx && python examples/fastapi_notes.py
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import sqlalchemy as sa
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Text(BaseModel):
    text: str


class Stored(Text):
    id: int


async def session(request: Request) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(request.app.state.engine, expire_on_commit=False) as session:
        yield session


Database = Annotated[AsyncSession, Depends(session)]


async def note(key: int, session: Database) -> Note:
    if (found := await session.get(Note, key)) is None:
        raise HTTPException(404)
    return found


Found = Annotated[Note, Depends(note)]


def create_app(url: str, **engine_keywords: Any) -> FastAPI:
    """The application; *engine_keywords* are where heliosproxy is turned on, and the only place that knows it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = app.state.engine = create_async_engine(url, pool_pre_ping=True, **engine_keywords)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/notes", status_code=201, response_model=Stored)
    async def add(given: Text, session: Database) -> Any:
        note = Note(text=given.text)
        session.add(note)
        await session.commit()
        return note

    @app.get("/notes", response_model=list[Stored])
    async def all_notes(session: Database) -> Any:
        return (await session.scalars(sa.select(Note).order_by(Note.id))).all()

    @app.get("/notes/{key}", response_model=Stored)
    async def one(note: Found) -> Any:
        return note

    @app.put("/notes/{key}", response_model=Stored)
    async def change(note: Found, given: Text, session: Database) -> Any:
        note.text = given.text
        await session.commit()
        return note

    @app.delete("/notes/{key}", status_code=204)
    async def remove(note: Found, session: Database) -> None:
        await session.delete(note)
        await session.commit()

    return app


async def ask(app: FastAPI) -> None:
    """Ask the application a few things."""
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        key = (await client.post("/notes", json={"text": "buy milk"})).json()["id"]
        print((await client.get(f"/notes/{key}")).json())
        await client.put(f"/notes/{key}", json={"text": "buy oats"})
        print((await client.get(f"/notes/{key}")).json())


def main() -> None:
    """Start a PostgreSQL of its own for the application."""
    from heliosproxy.embedded import Cluster

    keywords = {"plugins": ["heliosproxy"], "helios_mode": "transaction", "helios_cache": True}
    with Cluster(replicas=0) as cluster:
        url = cluster.primary.dsn.replace("postgresql://", "postgresql+psycopg://")
        asyncio.run(ask(create_app(url, **(keywords if os.environ.get("HELIOS") else {}))))


if __name__ == "__main__":
    main()
