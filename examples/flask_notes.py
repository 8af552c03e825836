"""A Flask application over SQLAlchemy. Set HELIOS=1, and the same application has heliosproxy in its engine.

pip install 'heliosproxy[embedded,sqlalchemy]' flask && python examples/flask_notes.py
"""

import os
from typing import Any

import sqlalchemy as sa
from flask import Flask, abort, g, jsonify, request
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]

    def public(self) -> dict[str, Any]:
        return {"id": self.id, "text": self.text}


def create_app(url: str, **engine_keywords: Any) -> Flask:
    """The application; *engine_keywords* are where heliosproxy is turned on, and the only place that knows it."""
    app = Flask(__name__)
    engine = app.extensions["engine"] = sa.create_engine(url, pool_pre_ping=True, **engine_keywords)
    Base.metadata.create_all(engine)

    @app.before_request
    def begin() -> None:
        g.session = Session(engine)

    @app.teardown_request
    def end(error: BaseException | None) -> None:
        if (session := g.pop("session", None)) is not None:
            session.close()

    @app.post("/notes")
    def add() -> Any:
        note = Note(text=request.json["text"])
        g.session.add(note)
        g.session.commit()
        return jsonify(note.public()), 201

    @app.get("/notes")
    def all_notes() -> Any:
        return jsonify([note.public() for note in g.session.scalars(sa.select(Note).order_by(Note.id))])

    @app.get("/notes/<int:key>")
    def one(key: int) -> Any:
        note = g.session.get(Note, key)
        return jsonify(note.public()) if note is not None else abort(404)

    @app.put("/notes/<int:key>")
    def change(key: int) -> Any:
        note = g.session.get(Note, key) or abort(404)
        note.text = request.json["text"]
        g.session.commit()
        return jsonify(note.public())

    @app.delete("/notes/<int:key>")
    def remove(key: int) -> Any:
        g.session.execute(sa.delete(Note).where(Note.id == key))
        g.session.commit()
        return "", 204

    return app


def main() -> None:
    """Start a PostgreSQL of its own, and ask the application a few things."""
    from heliosproxy.embedded import Cluster

    keywords = {"plugins": ["heliosproxy"], "helios_mode": "transaction", "helios_cache": True}
    with Cluster(replicas=0) as cluster:
        url = cluster.primary.dsn.replace("postgresql://", "postgresql+psycopg://")
        app = create_app(url, **(keywords if os.environ.get("HELIOS") else {}))
        client = app.test_client()
        key = client.post("/notes", json={"text": "buy milk"}).json["id"]
        print(client.get(f"/notes/{key}").json)
        client.put(f"/notes/{key}", json={"text": "buy oats"})
        print(client.get(f"/notes/{key}").json)
        app.extensions["engine"].dispose()


if __name__ == "__main__":
    main()
