"""How clients get in: who they are, whether there is a place, what they are greeted with."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from ..state.settings import alike
from .client.conversation import Conversation
from .client.replication import Replication
from .console.console import DATABASES, Console
from .console.rights import may_act
from .home import Home
from .login.accounts import Row
from .login.admission import Admission, Admitted, Client, Lookup
from .login.errors import LoginRefused
from .protocol import backend
from .upstream.connection import python_encoding
from .upstream.exchange import Exchange
from .upstream.opening import refusal

if TYPE_CHECKING:
    from ..session import Session
    from .client.link import Link
    from .client.startup import Greeting
    from .service import Service
    from .workers.doors import Taken

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


class _Own(NamedTuple):
    """What `Proxy.control` needs for a connection of the proxy's own."""

    control: tuple[str, dict[str, Any]]


class Reception:
    """Lets the clients of *service* in."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._last_pid, self._pid_step = 0, 1

    def number(self, serial: int) -> None:
        """This process is the worker *serial*: the process numbers of its clients are no other's."""
        self._last_pid, self._pid_step = serial % WORKERS, WORKERS

    async def admit(self, link: Link, who: Greeting) -> Conversation | Console | Replication:
        """Let a client in; returns its conversation, after the greeting was written.

        Raises:
            psycopg.Error: the server refused the login, or one of the client's settings.
            TooManyRequests: it would be one more than a limit.
            LoginRefused: it may not log in, or not to this database.
        """
        place = await self._service.doors.arrive(link.address)
        if link.transport.is_closing():
            place.free()
            raise LoginRefused("the client has gone")
        link.place = place
        try:
            return await self._admitted(link, who, place)
        except BaseException:  # at once: the next try may come before the socket is closed
            place.free()
            raise

    async def _admitted(
        self, link: Link, who: Greeting, place: Taken
    ) -> Conversation | Console | Replication:
        await self._authenticate(link, who)
        if who.database in DATABASES:
            return self._console(link, who)
        if self._service.control.is_disabled(who.database):
            raise LoginRefused(f'database "{who.database}" takes no new clients for now', sqlstate="57P03")
        await self._service.doors.enter(place, who.user, who.database)
        if who.replication:
            relay = await Replication.open(link, self._service.proxy, who)
            self._greet(link, who, self._own_pid(), relay.server.reported)
            return relay
        home = await self._service.homes.of(who)
        # Not before it is let in: what others share is no matter of whoever knocks.
        link.greeting = who = replace(who, settings=alike(who.settings)[0])
        session = home.session(who.settings)
        conversation = Conversation(link, home, session)
        reported = await self._prepared(home, conversation)
        conversation.encoding = python_encoding(reported.get(b"client_encoding", b"UTF8"))
        self._greet(link, who, self._pid(session), reported)
        return conversation

    def _console(self, link: Link, who: Greeting) -> Console:
        acts = may_act(self._service.settings, self._service.accounts.trusting, who.user, link)
        self._greet(link, who, self._own_pid(), _CONSOLE)
        return Console(link, self._service, acts=acts)

    def _greet(self, link: Link, who: Greeting, pid: int, reported: Mapping[bytes, bytes]) -> None:
        link.pid, link.key = pid, secrets.token_bytes(32 if who.minor >= 2 else 4)
        self._service.links[link.pid] = link
        self._service.timeouts.start()
        greeting = [backend.authentication(0)]
        greeting += [backend.parameter_status(name, value) for name, value in reported.items()]
        greeting.append(backend.backend_key_data(link.pid, link.key))
        greeting.append(backend.ready_for_query(b"I"))
        link.write(b"".join(greeting))

    def _pid(self, session: Session) -> int:
        """The process number that a client is told: of its server process where it keeps that for good."""
        if "session" in session.pins and session.server.backend_pid not in self._service.links:
            return int(session.server.backend_pid)
        return self._own_pid()

    def _own_pid(self) -> int:
        while True:
            self._last_pid = (self._last_pid + self._pid_step) % _MOST_PIDS
            if self._last_pid >= WORKERS and self._last_pid not in self._service.links:
                return self._last_pid

    async def _authenticate(self, link: Link, who: Greeting) -> None:
        """Make sure that it is who it says; raises LoginRefused."""
        client = Client(who.user, who.database, link.encrypted is not None, link.binding, link.certificate)
        admission = Admission(self._service.authenticator, client)
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
        query: Any = self._service.settings.auth_query

        def ask(conn: psycopg.Connection[Any]) -> Row | None:
            return psycopg.RawCursor(conn).execute(query, [user]).fetchone()

        own = _Own((self._service.proxy.config.node[0].dsn.get_secret_value(), {}))
        try:
            row: Row | None = await self._service.proxy.control_async(own, ask)
        except (psycopg.Error, OSError) as error:
            # What the query is and what the server thinks of it is not for who is not yet logged in.
            logger.error('auth_query failed for user "%s": %s', user, error)
            raise LoginRefused(
                "users cannot be looked up now: the proxy's log has the reason", "08006"
            ) from None
        return row

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
