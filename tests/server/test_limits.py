"""How many clients get in: never more than the limits say, and what was taken is given back on every way out."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosproxy.config.features import Server
from heliosproxy.config.identity import User
from heliosproxy.embedded.home import wait_until
from heliosproxy.errors import TooManyRequests
from heliosproxy.server.limits import Limits, Place
from heliosproxy.server.login.scram import Verifier
from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served
from tests.server.test_logins import as_user, free_port

VERIFIER = Verifier.of("right", iterations=4096).text()
NAMES = st.sampled_from(["ada", "bob", "carol"])
MOST = st.none() | st.integers(1, 3)


def limits(
    overall: int | None = None,
    user: int | None = None,
    database: int | None = None,
    address: int | None = None,
    own: dict[str, int] | None = None,
) -> Limits:
    settings = Server(
        max_user_connections=user, max_database_connections=database, max_address_connections=address
    )
    users = [User(name=name, verifier="", max_connections=most) for name, most in (own or {}).items()]
    return Limits(settings, overall, users)


def counts(made: Limits) -> dict[str, dict[str, int]]:
    return {each.key: each.count for each in (made.overall, made.users, made.databases, made.addresses)}


STEPS = st.lists(
    st.tuples(st.sampled_from(["arrive", "enter", "free"]), st.integers(0, 20), NAMES, NAMES), max_size=60
)


@given(STEPS, st.tuples(MOST, MOST, MOST, MOST), st.dictionaries(NAMES, st.integers(1, 3)))
def test_counts_are_never_negative_never_above_their_limit_and_zero_in_the_end(
    steps: list[tuple[str, int, str, str]], most: tuple[int | None, ...], own: dict[str, int]
) -> None:
    made = limits(*most, own=own)
    places: list[Place] = []
    for step, which, name, other in steps:
        if step == "arrive":
            with contextlib.suppress(TooManyRequests):
                places.append(made.arrive(other))
        elif places:
            place = places[which % len(places)]
            if step == "free":
                place.free()  # some of them twice
            else:
                try:
                    made.enter(place, name, other)
                except TooManyRequests:
                    place.free()
        for limit in (made.overall, made.users, made.databases, made.addresses):
            for key, count in limit.count.items():
                allowed = limit.own.get(key, limit.most)
                assert allowed is not None
                assert 0 < count <= allowed
    for place in places:
        place.free()
    assert not any(counts(made).values())


def test_without_limits_nothing_is_counted() -> None:
    made = limits()
    place = made.arrive("10.0.0.1")
    made.enter(place, "ada", "shop")
    assert not any(counts(made).values())
    assert made.arrive("10.0.0.2") is place


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"overall": 1}, "1 clients are connected, and that is pool.max_connections"),
        ({"user": 1}, 'user "ada" has 1 clients connected, and that is server.max_user_connections'),
        ({"user": 9, "own": {"ada": 1}}, "and that is max_connections of its [[user]]"),
        ({"database": 1}, 'database "shop" has 1 clients connected, and that is server.max_database_con'),
        ({"address": 1}, 'address "10.0.0.1" has 1 clients connected, and that is server.max_address_con'),
    ],
)
def test_a_refusal_names_limit_value_and_whom(given: dict[str, Any], told: str) -> None:
    made = limits(**given)
    made.enter(made.arrive("10.0.0.1"), "ada", "shop")
    with pytest.raises(TooManyRequests) as raised:
        made.enter(made.arrive("10.0.0.1"), "ada", "shop")
    assert told in str(raised.value)
    assert raised.value.sqlstate == "53300"


def test_an_operator_gets_in_when_no_client_does(served: Callable[..., Served]) -> None:
    server = served(sections={"pool": {"max_connections": 1}})
    server.connect()
    with pytest.raises(psycopg.OperationalError, match="1 clients are connected"):
        server.connect()
    admin = server.connect(dbname="heliosproxy", user="admin")
    assert len(admin.execute("SHOW CLIENTS").fetchall()) == 2


def counted(server: Served) -> dict[str, dict[str, int]]:
    return counts(server.serving._service.limits)


def empty(server: Served) -> None:
    wait_until(lambda: not any(counted(server).values()), 10, "no place is taken")


@pytest.fixture
def tcp(served: Callable[..., Served]) -> Callable[..., Served]:
    """A server on TCP with two users, and these keys of ``[server]``."""

    def make(ada: int | None = None, **keys: Any) -> Served:
        users: list[dict[str, Any]] = [{"name": name, "verifier": VERIFIER} for name in ("ada", "bob")]
        if ada is not None:
            users[0]["max_connections"] = ada
        return served(sections={"server": keys, "user": users}, addresses=[f"127.0.0.1:{free_port()}"])

    return make


@pytest.mark.parametrize("keys", [{"max_user_connections": 3}, {"max_database_connections": 3}, {"ada": 3}])
def test_logins_at_the_same_time_are_no_more_than_the_limit(
    tcp: Callable[..., Served], keys: dict[str, int]
) -> None:
    server = tcp(**keys)
    together = threading.Barrier(12)
    made: list[psycopg.Connection[Any]] = []
    refused: list[str] = []

    def log_in() -> None:
        together.wait()
        try:
            made.append(as_user(server, "ada", "right"))
        except psycopg.OperationalError as error:
            refused.append(str(error))

    crew = [threading.Thread(target=log_in) for _ in range(12)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert len(made) == 3
    assert len(refused) == 9
    assert all("has 3 clients connected" in each for each in refused)
    for conn in made:
        assert conn.execute("SELECT 1").fetchone() == (1,)
        conn.close()
    empty(server)


def test_one_user_does_not_take_the_places_of_another(tcp: Callable[..., Served]) -> None:
    server = tcp(ada=1, max_user_connections=2)
    as_user(server, "ada", "right")
    for _ in range(2):
        as_user(server, "bob", "right")
    for user in ("ada", "bob"):
        with pytest.raises(psycopg.OperationalError, match=f'user "{user}" has'):
            as_user(server, user, "right")


def test_failed_logins_take_no_place(tcp: Callable[..., Served]) -> None:
    server = tcp(max_user_connections=1, max_address_connections=1, max_database_connections=1)
    for _ in range(5):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            as_user(server, "ada", "wrong")
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            as_user(server, "ada", "right", dbname="missing")
        with pytest.raises(psycopg.OperationalError, match="no_such_setting"):
            as_user(server, "ada", "right", options="-c no_such_setting=1")
    empty(server)
    as_user(server, "ada", "right")


def test_who_goes_while_it_logs_in_gives_its_place_back(tcp: Callable[..., Served]) -> None:
    server = tcp(max_address_connections=5)
    given = psycopg.conninfo.conninfo_to_dict(server.url)
    startup = frontend.startup({b"user": b"ada", b"database": str(given["dbname"]).encode()})
    socks = []
    for _ in range(5):
        sock = socket.create_connection((given["host"], int(given["port"])))
        sock.settimeout(10)
        sock.sendall(startup)
        assert sock.recv(1) == b"R"  # it is asked for its password
        socks.append(sock)
    with pytest.raises(psycopg.OperationalError, match=r'address "127\.0\.0\.1" has 5 clients connected'):
        as_user(server, "ada", "right")
    for sock in socks:
        sock.close()
    empty(server)
    as_user(server, "ada", "right")


def test_who_has_not_proven_its_name_takes_no_place_of_it(tcp: Callable[..., Served]) -> None:
    server = tcp(max_user_connections=1, max_database_connections=1)
    given = psycopg.conninfo.conninfo_to_dict(server.url)
    startup = frontend.startup({b"user": b"ada", b"database": str(given["dbname"]).encode()})
    with socket.create_connection((given["host"], int(given["port"]))) as sock:
        sock.settimeout(10)
        sock.sendall(startup)
        assert sock.recv(1) == b"R"
        as_user(server, "ada", "right")


def test_a_unix_socket_has_no_address(served: Callable[..., Served]) -> None:
    server = served(sections={"server": {"max_address_connections": 1}})
    for _ in range(3):
        server.connect()


@pytest.mark.parametrize("keys", [{}, {"tcp_keepalive_idle": "5s", "tcp_keepalive_count": 7}])
def test_the_system_looks_after_idle_clients(tcp: Callable[..., Served], keys: dict[str, Any]) -> None:
    if not hasattr(socket, "TCP_KEEPIDLE"):
        pytest.skip("this platform has no TCP_KEEPIDLE: the interval of keepalive is NOT tested")
    server = tcp(**keys)
    as_user(server, "ada", "right")
    (link,) = server.serving._service.links.values()
    sock = link.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    found = [
        sock.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    ]
    assert found == ([5, 10, 7] if keys else [60, 10, 3])


def test_keepalive_can_be_left_to_the_system(tcp: Callable[..., Served]) -> None:
    server = tcp(tcp_keepalive=False)
    as_user(server, "ada", "right")
    (link,) = server.serving._service.links.values()
    sock = link.transport.get_extra_info("socket")
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
