"""What serves the clients of one process: pools, logins, cancel requests."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from ..pool.key import PoolKey
from ..pool.pool import Pool
from ..state.settings import alike
from .client.conversation import Conversation
from .console.console import DATABASES, Console
from .console.rights import may_act
from .control import Control
from .home import Home
from .keepalive import of_clients
from .limits import Limits
from .login import tls
from .login.accounts import Accounts, Row
from .login.admission import Admission, Admitted, Client, Lookup
from .login.authenticators import authenticator_of
from .login.certificates import certificate_of, end_point_hash
from .login.errors import LoginRefused
from .login.targets import resolve
from .protocol import backend, frontend
from .timeouts import Timeouts
from .upstream.connection import python_encoding
from .upstream.exchange import Exchange
from .upstream.opening import Reach, open_upstream, refusal
from .workers.doors import Doors, FarDoors, Taken
from .workers.peers import Alone, Peers

if TYPE_CHECKING:
    from ..config.features import Server
    from ..proxy import Proxy
    from ..session import Session
    from .client.link import Link
    from .client.startup import Greeting
    from .upstream.connection import Upstream

logger = logging.getLogger("heliosproxy.server")

WORKERS = 1000
"""Process numbers of clients are the worker's own modulo this."""

_CONSOLE = {
    b"server_version": b"15.0 (heliosproxy console)",
    b"server_encoding": b"UTF8",
    b"client_encoding": b"UTF8",
    b"DateStyle": b"ISO, MDY",
    b"integer_datetimes": b"on",
    b"standard_conforming_strings": b"on",
}
"""What the console reports of itself: drivers rely on some of it."""

_MOST_PIDS = 2_000_000_000 // WORKERS * WORKERS
_UNREAD = 50  # hundredths of a second in which a client may read that it is hung up on
CANCEL = 10.0
"""Seconds for the delivery of a cancel request: its server connection is kept back meanwhile."""


class _Own(NamedTuple):
    """What `Proxy.control` needs for a connection of the proxy's own."""

    control: tuple[str, dict[str, Any]]


class Service:
    """The clients of one process, and what they share. Whoever makes one has asked `checks` whether it can be served.

    Attributes:
        proxy: whose path they take.
        settings: the ``[server]`` section.
        accounts, authenticator: who may log in, and how that is found out.
        tls: of the listeners; None = there is none.
        binding: hash of our certificate, for channel binding; None where there is none.
        since: when it was made, on the monotonic clock.
        limits: how many clients there may be.
        doors: where they are counted.
        timeouts: how long they may take.
        keepalive: socket options of those on TCP.
        links: the clients that are connected, by their process number.
        homes: the pools, as their clients see them.
        control: what an operator may do to them.
        peers: the line to the other processes of the server.
    """

    def __init__(self, proxy: Proxy, settings: Server) -> None:
        self.proxy = proxy
        self.settings = settings
        self.control = Control(self)
        self.peers: Peers | Alone = Alone(self.control.handlers)
        accounts = Accounts(proxy.config.user, settings.auth_query)
        self.accounts = accounts
        self.authenticator = authenticator_of(accounts)
        self.tls: ssl.SSLContext | None = None
        self.binding: bytes | None = None
        if settings.tls_cert and settings.tls_key:
            self.tls = tls.listener(settings.tls_cert, settings.tls_key)
            self.binding = end_point_hash(certificate_of(settings.tls_cert))
        for name in accounts.plain:
            logger.warning('user "%s": its password stands in the configuration as it is', name)
        self.since = time.monotonic()
        self.limits = Limits(settings, proxy.config.pool.max_connections, proxy.config.user)
        self.doors: Doors | FarDoors = Doors(self.limits)
        self.timeouts = Timeouts(self)
        self.keepalive = of_clients(settings)
        self.links: dict[int, Link] = {}
        self._everybody: set[Link] = set()
        self.homes: dict[PoolKey, Home] = {}
        self._last_pid, self._pid_step = 0, 1
        self._share = ""
        self._tasks: set[asyncio.Task[Any]] = set()

    def number(self, serial: int) -> None:
        """This process is the worker *serial*: the process numbers of its clients are no other's."""
        self._last_pid, self._pid_step = serial % WORKERS, WORKERS
        if self.settings.workers > 1:
            # Part of the names of pools, because their errors count what this process has and may have.
            self._share = f" (worker {serial}'s share)"

    def arrived(self, link: Link) -> None:
        """A client is connected; nothing is known of it yet."""
        self._everybody.add(link)

    def left(self, link: Link) -> None:
        """A client is gone."""
        self._everybody.discard(link)
        if self.links.get(link.pid) is link:
            del self.links[link.pid]
        if link.place is not None:
            link.place.free()

    @property
    def busy(self) -> bool:
        """Whether anybody is connected, if only to log in."""
        return bool(self._everybody)

    async def drain(self, seconds: float, hurry: asyncio.Event) -> None:
        """Hang up on every client as soon as it has nothing under way; returns when none is left, or it is time."""
        end = asyncio.get_running_loop().time() + seconds
        while self._everybody and not hurry.is_set() and asyncio.get_running_loop().time() < end:
            for link in list(self._everybody):
                if link.conversation is None or link.conversation.at_rest:
                    link.dismiss()
            with suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), 0.05)

    async def close(self) -> None:
        """Hang up on everybody, clients and servers; returns when the sockets are closed, or after a second."""
        self.timeouts.stop()
        for link in list(self._everybody):
            link.dismiss()
        for task in self._tasks:
            task.cancel()
        for home in self.homes.values():
            home.close()
        for again in range(100):
            if again == _UNREAD:
                for link in list(self._everybody):
                    link.transport.abort()
            if not self._everybody and not any(home.upstreams for home in self.homes.values()):
                return
            await asyncio.sleep(0.01)

    # -- login ---------------------------------------------------------------------------------------

    async def admit(self, link: Link, who: Greeting) -> Conversation | Console:
        """Let a client in; returns its conversation, after the greeting was written.

        Raises:
            psycopg.Error: the server refused the login, or one of the client's settings.
            TooManyRequests: it would be one more than a limit.
            LoginRefused: it may not log in, or not to this database.
        """
        place = await self.doors.arrive(link.address)
        if link.transport.is_closing():
            place.free()
            raise LoginRefused("the client has gone")
        link.place = place
        try:
            return await self._admitted(link, who, place)
        except BaseException:  # at once: the next try may come before the socket is closed
            place.free()
            raise

    async def _admitted(self, link: Link, who: Greeting, place: Taken) -> Conversation | Console:
        await self._authenticate(link, who)
        if who.database in DATABASES:
            return self._console(link, who)
        if self.control.is_disabled(who.database):
            raise LoginRefused(f'database "{who.database}" takes no new clients for now', sqlstate="57P03")
        await self.doors.enter(place, who.user, who.database)
        home = await self.home_of(who)
        # Not before it is let in: what others share is no matter of whoever knocks.
        link.greeting = who = replace(who, settings=alike(who.settings)[0])
        session = home.session(who.settings)
        conversation = Conversation(link, home, session)
        reported = await self._prepared(home, conversation)
        conversation.encoding = python_encoding(reported.get(b"client_encoding", b"UTF8"))
        self._greet(link, who, self._pid(session), reported)
        return conversation

    def _console(self, link: Link, who: Greeting) -> Console:
        acts = may_act(self.settings, self.accounts.trusting, who.user, link)
        self._greet(link, who, self._own_pid(), _CONSOLE)
        return Console(link, self, acts=acts)

    def _greet(self, link: Link, who: Greeting, pid: int, reported: Mapping[bytes, bytes]) -> None:
        link.pid, link.key = pid, secrets.token_bytes(32 if who.minor >= 2 else 4)
        self.links[link.pid] = link
        self.timeouts.start()
        greeting = [backend.authentication(0)]
        greeting += [backend.parameter_status(name, value) for name, value in reported.items()]
        greeting.append(backend.backend_key_data(link.pid, link.key))
        greeting.append(backend.ready_for_query(b"I"))
        link.write(b"".join(greeting))

    def _pid(self, session: Session) -> int:
        """The process number that a client is told: of its server process where it keeps that for good."""
        if "session" in session.pins and session.server.backend_pid not in self.links:
            return int(session.server.backend_pid)
        return self._own_pid()

    def _own_pid(self) -> int:
        while True:
            self._last_pid = (self._last_pid + self._pid_step) % _MOST_PIDS
            if self._last_pid >= WORKERS and self._last_pid not in self.links:
                return self._last_pid

    async def _authenticate(self, link: Link, who: Greeting) -> None:
        """Make sure that it is who it says; raises LoginRefused."""
        client = Client(who.user, who.database, link.encrypted is not None, link.binding, link.certificate)
        admission = Admission(self.authenticator, client)
        step = admission.start()
        while not isinstance(step, Admitted):
            if isinstance(step, Lookup):
                step = admission.found(await self._look_up(step.user))
            else:
                link.write(backend.authentication(step.code, step.payload))
                step = admission.answer(await link.password())
        if step.final is not None:
            link.write(backend.authentication(step.final.code, step.final.payload))

    async def _look_up(self, user: str) -> Row | None:
        """The row of ``auth_query``, by a connection of our own that has none of the client's settings."""
        query: Any = self.settings.auth_query

        def ask(conn: psycopg.Connection[Any]) -> Row | None:
            return psycopg.RawCursor(conn).execute(query, [user]).fetchone()

        own = _Own((self.proxy.config.node[0].dsn.get_secret_value(), {}))
        try:
            row: Row | None = await self.proxy.control_async(own, ask)
        except (psycopg.Error, OSError) as error:
            # What the query is and what the server thinks of it is not for who is not yet logged in.
            logger.error('auth_query failed for user "%s": %s', user, error)
            raise LoginRefused(
                "users cannot be looked up now: the proxy's log has the reason", "08006"
            ) from None
        return row

    async def home_of(self, who: Greeting) -> Home:
        """The pool for *who*; raises what connecting for the first time does."""
        home = self._home(who)
        await self._ready(home)
        return home

    def key_of(self, database: str) -> PoolKey:
        """The key of the pool of *database*, whether there is one or not."""
        node = self.proxy.config.node[0]
        return PoolKey.of(node.name, node.dsn.get_secret_value(), dbname=database)._replace(face="wire")

    def _home(self, who: Greeting) -> Home:
        dsn = self.proxy.config.node[0].dsn.get_secret_value()
        parameters: dict[str, Any] = {"dbname": who.database}
        key = self.key_of(who.database)
        home = self.homes.get(key)
        if home is None:

            async def connect(_: Pool[Upstream]) -> Upstream:
                # Resolved each time: passwords and addresses change.
                return await open_upstream(self.homes[key], resolve(dsn, parameters))

            pool = self.proxy.wire_pool(key, connect, f"{key}{self._share}")
            home = self.homes[key] = Home(self.proxy, pool, (dsn, parameters))
            if self.control.is_paused(who.database):
                home.pause()
        return home

    async def _ready(self, home: Home) -> None:
        """The first login tells what servers of this pool report."""
        if home.harmless is None:
            try:
                server = home.pool.try_lease() or await home.pool.lease_async()
            except BaseException:
                if home.harmless is None and not home.pool.stock.size:
                    # A database that is not there: any client can ask for any number of these.
                    self.homes.pop(home.pool.key, None)
                    self.proxy.pools.forget(home.pool)
                raise
            home.pool.release(server)

    async def _prepared(self, home: Home, conversation: Conversation) -> dict[bytes, bytes]:
        """What a server reports to this client; asked with the client's settings where they are new."""
        session = conversation.session
        signature = session.settings.signature
        found = home.reported if signature is None else home.validated.get(signature)
        if found is not None and not home.session_mode:
            return found
        server = home.pool.try_lease(signature) or await home.pool.lease_async(signature)
        session.take(server, conversation)
        commands = session.to_restore(server)
        if commands:
            done: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()
            server.send(server.ask(b";".join(commands), done.set_result))
            try:
                exchange = await done
            except BaseException:  # the client has gone meanwhile
                conversation.close()
                raise
            if exchange.error:
                server.settings, server.signature, server.last = session.settings.values, object(), None
                server.tainted = True
                conversation.close()
                raise refusal(exchange.error)
        reported = dict(server.reported)
        if signature is not None:
            if len(home.validated) > 1000:
                home.validated.clear()
            home.validated[signature] = reported
        if not home.session_mode:
            conversation.give_back()
        return reported

    def vacate(self, text: str, again: Sequence[float] = (0.2, 0.8, 2.0)) -> None:
        """Close what is idle in the databases that *text* names: it is about to want one without sessions.

        PostgreSQL waits five seconds for those that are leaving, so clients of ours may leave a little later, too.
        """
        if again:
            asyncio.get_running_loop().call_later(again[0], self.vacate, text, again[1:])
        for home in self.homes.values():
            if home.pool.key.database in text:
                while (server := home.pool.try_lease()) is not None:
                    home.pool.discard(server)

    # -- cancel --------------------------------------------------------------------------------------

    def cancel(self, pid: int, key: bytes, done: Callable[[], None]) -> None:
        """Cancel what the client with this process number runs, if *key* is its own; it may be another worker's.

        *done* is called when it is delivered: who waits for that must not have its next statement cancelled.
        """
        if not self.cancel_here(pid, key.hex(), done):
            asked = self.peers.ask("others", "cancel", pid, key.hex(), within=CANCEL)
            self._in_background(asked).add_done_callback(lambda _: done())

    async def cancel_for_another(self, pid: int, key: str) -> bool:
        """As `cancel_here`, for another worker; returns when it is delivered."""
        delivered = asyncio.Event()
        found = self.cancel_here(pid, key, delivered.set)
        if found:
            await delivered.wait()
        return found

    def cancel_here(self, pid: int, key: str, done: Callable[[], None] | None = None) -> bool:
        """As `cancel`, in this process; whether the client is here. *key* is in hexadecimal."""
        link = self.links.get(pid)
        if link is None or not hmac.compare_digest(link.key.hex(), key) or link.conversation is None:
            return False
        server = link.conversation.running
        if server is not None:
            self.cancel_on(server, done)
            return True
        if link.served:
            link.conversation.cancel_wait()
        if done is not None:
            done()
        return True

    def cancel_on(self, server: Upstream, done: Callable[[], None] | None = None) -> None:
        """Cancel what *server* runs now; *done* is called when the request is delivered."""
        # From this moment on: what is read in the same round of the loop must not hand the connection on.
        server.keep()
        task = self._in_background(self._cancel(server))
        # By callbacks, because a task that is cancelled before it began runs nothing of its own.
        task.add_done_callback(lambda _: server.unkeep())
        if done is not None:
            task.add_done_callback(lambda _: done())

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _cancel(self, server: Upstream) -> None:
        reach: Reach = server.address
        try:
            async with asyncio.timeout(CANCEL):
                reader, writer = await reach.connect()
                with closing(writer):
                    writer.write(frontend.cancel_request(server.backend_pid, server.secret))
                    await reader.read()  # the server hangs up once the request is delivered
        except OSError as error:  # TimeoutError is one
            server.expires_at = 0.0  # it may still be delivered, and must not hit who comes next
            reason = str(error) or "no answer"
            logger.warning("a cancel request could not be delivered to %s: %s", reach, reason)
