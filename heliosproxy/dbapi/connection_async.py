"""The asyncio connection. `connection.py` is generated from this file: tools/async_to_sync.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast, overload

import psycopg
from psycopg import errors as e
from psycopg import pq, waiting
from psycopg._connection_base import CursorRow, Notify
from psycopg._pipeline_async import AsyncPipeline
from psycopg.abc import RV, AdaptContext, ConnParam, Params, PQGen
from psycopg.adapt import AdaptersMap
from psycopg.rows import AsyncRowFactory, Row

from ..call import Call
from ..drivers.aio import drive
from ..drivers.pgserver import reset
from ..effects import Control, Effect, Follow, Lease, Run
from ..session import Session
from .attempt import fly
from .base import PathConnection
from .cursor_base import adopt_foreign
from .cursors_async import AsyncCursor, AsyncPlainCursor, AsyncServerCursor
from .express import arrive, depart
from .home import Home
from .opening import Opening
from .opening_async import open_async
from .transaction import AsyncTransaction

BINARY = pq.Format.BINARY
_WAIT_INTERVAL = 0.1

# Seconds that close() waits for the server to forget the session; a server that takes longer is disconnected.
RESET_TIMEOUT = 10.0


class AsyncConnection(PathConnection[Row], psycopg.AsyncConnection[Row]):
    """A psycopg connection that takes its server connection from a pool, for a time that the mode decides.

    Made by `connect`, by ``heliosproxy.connect_async()`` or by a Proxy; what psycopg documents holds, and
    docs/dbapi.md says what each attribute means while no server connection is held.
    """

    __module__ = "heliosproxy.dbapi"

    @classmethod
    async def connect(
        cls,
        conninfo: str = "",
        *,
        autocommit: bool = False,
        prepare_threshold: int | None = 5,
        context: AdaptContext | None = None,
        row_factory: AsyncRowFactory[Row] | None = None,
        cursor_factory: type[psycopg.AsyncCursor[Row]] | None = None,
        **kwargs: ConnParam,
    ) -> Self:
        """Open a logical connection.

        Args:
            conninfo: libpq's connection string, or a callable that returns one (asked for each server
                connection: rotating passwords). ``helios_…`` options may be in it.
            kwargs: connection parameters and ``helios_…`` options.

        Everything else is psycopg's.

        Raises:
            ConfigError: an option is not understood.
            TooManyRequests: ``max_connections`` are open.
            psycopg.OperationalError: the server refused the login. Session mode logs in each time, the other
                modes once per pool.
        """
        opening = Opening.of(conninfo, kwargs)
        connection: Self = await open_async(
            cls,
            opening,
            autocommit=autocommit,
            prepare_threshold=prepare_threshold,
            context=context,
            row_factory=row_factory,
            cursor_factory=cursor_factory,
        )
        return connection

    @classmethod
    def _born(
        cls,
        home: Home,
        session: Session | None,
        server: Any,
        *,
        autocommit: bool = False,
        prepare_threshold: int | None = 5,
        context: AdaptContext | None = None,
        row_factory: AsyncRowFactory[Row] | None = None,
        cursor_factory: type[psycopg.AsyncCursor[Row]] | None = None,
    ) -> Self:
        parked = home.parked
        if parked is None:
            raise AssertionError("the pool's first login comes before its first connection")
        self = cls(parked.pgconn(b"I") if session is not None else server.pgconn)
        self._parked = parked
        self.cursor_factory = AsyncPlainCursor if session is None else AsyncCursor
        self.server_cursor_factory = AsyncServerCursor
        self._attach(home, session, server)
        self._autocommit = bool(autocommit) or home.statement_mode
        if row_factory:
            self.row_factory = row_factory
        if cursor_factory:
            self.cursor_factory = cursor_factory
        if context:
            self._adapters = AdaptersMap(context.adapters)
        self.prepare_threshold = prepare_threshold
        return self

    if TYPE_CHECKING:
        # As psycopg types them, by our cursor classes.
        @overload
        def cursor(self, *, binary: bool = False) -> AsyncCursor[Row]: ...
        @overload
        def cursor(
            self, *, binary: bool = False, row_factory: AsyncRowFactory[CursorRow]
        ) -> AsyncCursor[CursorRow]: ...
        @overload
        def cursor(
            self, name: str, *, binary: bool = False, scrollable: bool | None = None, withhold: bool = False
        ) -> AsyncServerCursor[Row]: ...
        @overload
        def cursor(
            self,
            name: str,
            *,
            binary: bool = False,
            row_factory: AsyncRowFactory[CursorRow],
            scrollable: bool | None = None,
            withhold: bool = False,
        ) -> AsyncServerCursor[CursorRow]: ...
        def cursor(self, *args: Any, **kwargs: Any) -> Any: ...

    async def execute(
        self,
        query: Any,
        params: Params | None = None,
        *,
        prepare: bool | None = None,
        binary: bool = False,
        helios: dict[str, Any] | None = None,
    ) -> AsyncCursor[Row]:
        """As psycopg's; *helios* as `AsyncCursor.execute` has it."""
        cursor = self.cursor()
        if binary:
            cursor.format = BINARY
        if helios is None:  # a cursor of psycopg's own class does not know the word
            return await cursor.execute(query, params, prepare=prepare)
        return await cursor.execute(query, params, prepare=prepare, helios=helios)

    async def close(self) -> None:
        """Close the logical connection; its server connection goes back to the pool, as if new."""
        if self._gone:
            return
        pool = getattr(self, "_pool", None)
        if pool and getattr(pool, "close_returns", False):
            await pool.putconn(self)
            return
        self._gone = True
        self._closed = not self.closed  # one that was lost stays `broken`, as psycopg's
        in_transaction = self._session is not None and self._session.tx.status.value > 1
        held = self._held is not None or in_transaction or bool(self._session and self._session.pins)
        server = self._detach()
        if server is None:
            return
        if not held:
            server.unbind()
            server.pool.release(server, server.reusable())
            return
        try:
            await waiting.wait_async(
                reset(server, self._home.reset),
                server.pgconn.socket,
                interval=_WAIT_INTERVAL,
                timeout=RESET_TIMEOUT,
            )
        except (e.Error, OSError):
            server.pool.discard(server)
        except BaseException:
            server.pool.discard(server)
            raise
        else:
            server.pool.release(server)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(exc_type, exc_val, exc_tb)
        finally:
            if self.broken and not getattr(self, "_pool", None):
                await self.close()  # psycopg leaves a broken one alone, but ours has a place in a pool

    async def wait(
        self, gen: PQGen[RV], interval: float = _WAIT_INTERVAL, timeout: float | None = None
    ) -> RV:
        """Perform *gen*: the one door through which everything psycopg does goes to a server."""
        session = self._session
        if session is None:
            return await super().wait(gen, interval, timeout)
        if not isinstance(gen, Call):
            gen = adopt_foreign(self, gen)
        if isinstance(gen, Call):
            await self._path(session, gen)
            return cast(RV, None)
        if session.server is None or session.server.pgconn is not self.pgconn:
            self._check_rest()
            try:
                effect: Any = next(gen)
            except StopIteration as stop:
                return cast(RV, stop.value)
            if effect.__class__ is Lease:
                try:
                    server = session.pool.try_lease(effect.signature)
                    session.take(server or await self.perform(effect), self)
                except BaseException as error:
                    gen.throw(error)
                    raise
        try:
            return await super().wait(gen, interval, timeout)
        except BaseException:
            session.stumbled = bool(session.open)
            raise
        finally:
            self._settle()

    async def _path(self, session: Session, call: Call) -> None:
        clock = self._home.clock
        started = clock()
        error: BaseException | None = None
        observers = session.path.observe
        try:
            try:
                way = None if self._short is None else depart(self, session, call)
                if way is not None:
                    try:
                        arrive(self, session, call, await super().wait(way))
                        observers = self._short or ()
                    except BaseException as ex:  # noqa: BLE001 - raised again unless a stage knows better
                        await drive(session.again(call, self, ex), self.perform)
                elif self._ready(call):
                    return
                else:
                    await self._long_way(session, call)
            finally:
                if session.server is not None:
                    self._settle()
            if call.results is not None and call.cursor._results is not call.results:
                self._answered(call, call.results)
        except BaseException as ex:
            error = ex
            raise
        finally:
            call.seconds = clock() - started
            for hook in observers:
                hook(session, call, error)

    async def _long_way(self, session: Session, call: Call) -> None:
        steps = session.start(call, self)
        if steps is not None:
            await drive(steps, self.perform)
            return
        try:
            await super().wait(self._attempt(call))
        except BaseException as ex:  # noqa: BLE001 - raised again unless a stage knows better
            await drive(session.again(call, self, ex), self.perform)
        else:
            session.arrived(call, *self.reply(call))
            if self._prepared._to_flush:
                await super().wait(self._prepared.maintain_gen(self))

    async def perform(self, effect: Effect) -> Any:
        """What a session asks of the outside."""
        if isinstance(effect, Run):
            await super().wait(self._attempt(effect.call))
            return await super().wait(self._prepared.maintain_gen(self))
        if isinstance(effect, Lease):
            return await effect.pool.lease_async(effect.signature, effect.timeout)
        if isinstance(effect, Control):
            return await self._home.proxy.control_async(self._home, effect.work)
        if isinstance(effect, Follow):
            return await effect.landing.wait_async(effect.timeout)
        raise TypeError(f"not an effect: {effect!r}")

    async def _hold(self) -> None:
        """Hold a server connection, brought to the session's state, whatever comes next."""
        session = self._session
        if session is None:
            return
        self._check_connection_ok()
        if session.server is None:
            server = session.pool.try_lease(session.settings.signature)
            lease = Lease(session.pool, session.settings.signature)
            session.take(server or await self.perform(lease), self)
        elif session.server.pgconn is not self.pgconn:
            self.adopt(session.server)
        flight = session.compose(Call(b"", kind="command"), b"")
        if flight is not None:
            await super().wait(fly(self.pgconn, flight.state, flight.begin))
            self._begun(flight)

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[AsyncTransaction]:
        """As psycopg's."""
        tx = AsyncTransaction(self, savepoint_name, force_rollback)
        if self._pipeline:
            async with self.pipeline(), tx, self.pipeline():
                yield tx
        else:
            async with tx:
                yield tx

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[AsyncPipeline]:
        """As psycopg's; the server connection is held for as long as the pipeline is open."""
        if self._pipeline is None:
            async with self.lock:
                await self._hold()
        try:
            async with super().pipeline() as pipeline:
                yield pipeline
        finally:
            self._left_pipeline()

    @asynccontextmanager
    async def _pipeline_nolock(self) -> AsyncIterator[AsyncPipeline]:
        await self._hold()
        try:
            async with super()._pipeline_nolock() as pipeline:
                yield pipeline
        finally:
            self._left_pipeline()

    async def notifies(
        self, *, timeout: float | None = None, stop_after: int | None = None
    ) -> AsyncGenerator[Notify]:
        """As psycopg's; the server connection is held meanwhile (one that listens is held anyway)."""
        session = self._session
        if session is not None:
            async with self.lock:
                await self._hold()
            session.pins.add("notifies")
        try:
            async for notify in super().notifies(timeout=timeout, stop_after=stop_after):
                yield notify
        finally:
            if session is not None:
                session.pins.discard("notifies")
                self._settle()

    def cancel(self) -> None:
        """As psycopg's; the lease is kept until the request is delivered."""
        with self._cancelling_now() as running:
            if running:
                super().cancel()

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:
        """As psycopg's; the lease is kept until the request is delivered."""
        with self._cancelling_now() as running:
            if running:
                await super().cancel_safe(timeout=timeout)
