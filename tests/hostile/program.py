"""All scenarios over one face, in a process that they may kill: ``python -m tests.hostile.program DSN FACE MODE``.

Prints one JSON object a line: ``[name, "begun"]``, then ``[name, outcomes]``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from typing import Any

import psycopg
from psycopg import sql

import heliosproxy
from tests.hostile.scenarios import EVIL, SCENARIOS, Step

FACES = {
    "plain": None,
    "sync session": "session",
    "sync transaction": "transaction",
    "sync statement": "statement",
    "async session": "session",
    "async transaction": "transaction",
}
MODES = ("autocommit", "transactions")


class Runner:
    """Runs scenarios on two connections of one face; awaits what has to be awaited."""

    def __init__(self, dsn: str, face: str, mode: str) -> None:
        self.face, self.autocommit, self.dsn = face, mode == "autocommit", dsn
        pool = FACES[face]
        self.proxy = heliosproxy.Proxy({"pool.mode": pool, "cache.enabled": True}) if pool else None

    async def run(self) -> None:
        if sys.stdin.readline():
            raise AssertionError("nothing is to be read")
        for name, scenario in SCENARIOS.items():
            if scenario.block and "statement" in self.face:
                continue
            print(json.dumps([name, "begun"]), flush=True)
            self.setup()
            self.connections = {who: await self.connect() for who in "ab"}
            outcomes = []
            for step in scenario.steps():
                outcomes.append(await self.outcome(step))
                await self.awaited(
                    self.connections["b"].commit()
                )  # `b` holds no lock that `a` would wait for
            for connection in self.connections.values():
                outcomes.append(await self.usable(connection))
                await self.awaited(connection.close())
            print(json.dumps([name, outcomes]), flush=True)
        if self.proxy is not None:
            self.proxy.close()

    def setup(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            evil = sql.Identifier(EVIL)
            for text in (
                "DROP SCHEMA IF EXISTS hostile CASCADE",
                "DROP SCHEMA IF EXISTS {} CASCADE",
                "CREATE SCHEMA hostile",
                "CREATE SCHEMA {}",
                "CREATE TABLE hostile.things (id int, what text)",
                "INSERT INTO hostile.things SELECT g, 'thing' FROM generate_series(10, 20) g",
                "CREATE TABLE hostile.shadow AS SELECT 'hostile' AS what",
                "CREATE TABLE {}.shadow AS SELECT 'evil' AS what",
                "DROP ROLE IF EXISTS {}",
                "CREATE ROLE {}",
                "GRANT USAGE ON SCHEMA hostile TO {}",
                "GRANT SELECT ON hostile.things TO {}",
            ):
                try:
                    conn.execute(sql.SQL(text).format(evil))
                except psycopg.errors.DuplicateObject:
                    pass
                except psycopg.errors.DependentObjectsStillExist:
                    conn.execute(sql.SQL("DROP OWNED BY {}").format(evil))
                    conn.execute(sql.SQL(text).format(evil))

    async def connect(self) -> Any:
        asked = {"options": "-c search_path=hostile", "autocommit": self.autocommit}
        if self.proxy is None:
            return psycopg.connect(self.dsn, **asked)
        if self.face.startswith("async"):
            return await self.proxy.connect_async(self.dsn, **asked)
        return self.proxy.connect(self.dsn, **asked)

    async def awaited(self, value: Any) -> Any:
        return await value if self.face.startswith("async") else value

    async def outcome(self, step: Step) -> Any:
        try:
            return await self.perform(self.connections[step.who], step)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
            known = error if isinstance(error, psycopg.Error) else None
            return ["error", type(error).__name__, known.sqlstate if known else None]

    async def perform(self, conn: Any, step: Step) -> Any:
        if step.how == "execute":
            cursor = await self.awaited(conn.execute(step.query, step.params, prepare=step.prepare))
            return await self.told(cursor)
        if step.how == "copy":
            return shown([row async for row in self.copied(conn, step)])
        if step.how == "stream":
            return shown([row async for row in self.each(conn.cursor().stream(step.query, step.params))])
        if step.how == "server":
            # A cursor needs a block of its own in autocommit; one by hand suits every mode but "statement".
            if self.autocommit:
                return "no block"
            cursor = conn.cursor(name="c" + EVIL)
            try:
                await self.awaited(cursor.execute(step.query, step.params))
                return shown(await self.awaited(cursor.fetchall()))
            finally:
                await self.awaited(cursor.close())
        assert step.how == "pipeline"
        if self.face.startswith("async"):
            async with conn.pipeline():
                cursor = await conn.execute(step.query, step.params)
        else:
            with conn.pipeline():
                cursor = conn.execute(step.query, step.params)
        return await self.told(cursor)

    async def told(self, cursor: Any) -> Any:
        if cursor.description is None:
            return ["done", cursor.statusmessage]
        return [
            *shown(await self.awaited(cursor.fetchall())),
            shown([column.name for column in cursor.description]),
        ]

    async def copied(self, conn: Any, step: Step) -> Any:
        if self.face.startswith("async"):
            async with conn.cursor() as cursor, cursor.copy(step.query, step.params) as copy:
                async for row in copy:
                    yield bytes(row)
        else:
            with conn.cursor() as cursor, cursor.copy(step.query, step.params) as copy:
                for row in copy:
                    yield bytes(row)

    async def each(self, rows: Any) -> Any:
        if self.face.startswith("async"):
            async for row in rows:
                yield row
        else:
            for row in rows:
                yield row

    async def usable(self, conn: Any) -> Any:
        try:
            await self.awaited(conn.rollback())
            answer = await self.told(await self.awaited(conn.execute("SELECT count(*) FROM things")))
            await self.awaited(conn.rollback())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
            return ["not usable", type(error).__name__, str(error)[:200]]
        return ["usable", answer, conn.closed, conn.info.transaction_status.name]


def shown(value: Any) -> list[str]:
    text = repr(value)
    return [
        text
        if len(text) < 200
        else f"{text[:50]}… {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()}"
    ]


if __name__ == "__main__":
    asyncio.run(Runner(*sys.argv[1:4]).run())
