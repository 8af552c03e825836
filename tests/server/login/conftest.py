"""Certificates, and both ends of a line: a client for real servers, a server for libpq, each as short as can be."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heliosproxy.server.login.admission import Admission, Admitted, Ask, Authenticator, Client
from heliosproxy.server.login.certificates import certificate_of, end_point_hash, subject_cn
from heliosproxy.server.login.errors import LoginRefused
from heliosproxy.server.login.login import ServerLogin
from heliosproxy.server.login.tls import UpstreamTls, spoke_alpn

SSL_REQUEST = 80877103


class Line:
    """One end of a connection, message by message."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket | ssl.SSLSocket = sock

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def packet(self) -> bytes:
        return self.exactly(int.from_bytes(self.exactly(4), "big") - 4)

    def message(self) -> tuple[bytes, bytes]:
        return self.exactly(1), self.packet()

    def send(self, kind: bytes, body: bytes) -> None:
        self.sock.sendall(kind + (len(body) + 4).to_bytes(4, "big") + body)


class Refusal(Exception):
    """The server's ErrorResponse."""


def _log_in(
    host: str,
    port: int,
    user: str,
    login: Callable[[bytes | None], ServerLogin],
    tls: UpstreamTls | None,
    name: str | None = None,
) -> ServerLogin:
    with socket.create_connection((host, port), timeout=20) as sock:
        line = Line(sock)
        binding = None
        if tls is not None and tls.context is not None:
            if not tls.direct:
                line.send(b"", SSL_REQUEST.to_bytes(4, "big"))
                assert line.exactly(1) == b"S"
            wrapped = tls.context.wrap_socket(sock, server_hostname=tls.server_hostname(name or host))
            tls.check(wrapped)
            line.sock = wrapped
            der = wrapped.getpeercert(binary_form=True)
            assert der is not None
            binding = end_point_hash(der)
        ours = login(binding)
        parameters = f"user\0{user}\0database\0postgres\0\0".encode()
        line.send(b"", (3 << 16).to_bytes(4, "big") + parameters)
        try:
            while True:
                kind, body = line.message()
                if kind == b"R":
                    answer = ours.answer(int.from_bytes(body[:4], "big"), body[4:])
                    if answer is not None:
                        line.send(b"p", answer)
                elif kind == b"E":
                    fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
                    raise Refusal(fields[b"C"], fields[b"M"])
                elif kind == b"Z":
                    line.send(b"X", b"")
                    return ours
        finally:
            line.sock.close()


@pytest.fixture(scope="session")
def log_in() -> Callable[..., ServerLogin]:
    """Logs in to a real server with a `ServerLogin`, made from the binding; raises `refusal` or LoginRefused."""
    return _log_in


@pytest.fixture(scope="session")
def refusal() -> type[Refusal]:
    return Refusal


class Served:
    """A server that lets clients log in, and nothing else."""

    def __init__(self, authenticator: Authenticator, tls: ssl.SSLContext | None, cert: Path | None) -> None:
        self._authenticator = authenticator
        self._tls = tls
        self._binding = end_point_hash(certificate_of(str(cert))) if cert is not None else None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.row: tuple[str, str] | None = None
        self.admitted: list[Admitted] = []
        self.asked: list[str] = []
        self.broken: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            sock, _ = self._socket.accept()
            sock.settimeout(20)
            line = Line(sock)
            try:
                if sock.recv(1, socket.MSG_PEEK) == b"q":
                    return
                self._serve(line)
            except (EOFError, ConnectionError, ssl.SSLError):
                pass  # the client has hung up, or does not like our certificate
            except BaseException as error:  # noqa: BLE001 - for the test to see
                self.broken.append(error)
            finally:
                line.sock.close()
                sock.close()

    def _serve(self, line: Line) -> None:
        encrypted = False
        if line.sock.recv(1, socket.MSG_PEEK) == b"\x16":
            assert self._tls is not None
            line.sock = self._tls.wrap_socket(line.sock, server_side=True)
            assert spoke_alpn(line.sock)
            encrypted = True
        packet = line.packet()
        while packet[:4] != (3 << 16).to_bytes(4, "big"):
            assert packet == SSL_REQUEST.to_bytes(4, "big")
            line.sock.sendall(b"N" if self._tls is None else b"S")
            if self._tls is not None:
                line.sock = self._tls.wrap_socket(line.sock, server_side=True)
                encrypted = True
            packet = line.packet()
        fields = packet[4:].split(b"\0")
        names = dict(zip(fields[::2], fields[1::2], strict=False))
        certificate = subject_cn(line.sock) if isinstance(line.sock, ssl.SSLSocket) else None
        user = names[b"user"].decode()
        binding = self._binding if encrypted else None
        client = Client(user, names[b"database"].decode(), encrypted, binding, certificate)
        try:
            self._converse(line, Admission(self._authenticator, client))
        except LoginRefused as error:
            line.send(b"E", f"SFATAL\0VFATAL\0C{error.sqlstate}\0M{error}\0\0".encode())
            return
        line.send(b"R", bytes(4))
        for name, value in ((b"client_encoding", b"UTF8"), (b"server_version", b"18.0")):
            line.send(b"S", name + b"\0" + value + b"\0")
        line.send(b"K", bytes(8))
        line.send(b"Z", b"I")
        while line.message()[0] != b"X":
            pass

    def _converse(self, line: Line, admission: Admission) -> None:
        step = admission.start()
        while not isinstance(step, Admitted):
            if isinstance(step, Ask):
                line.send(b"R", step.code.to_bytes(4, "big") + step.payload)
                kind, body = line.message()
                assert kind == b"p"
                step = admission.answer(body)
            else:
                self.asked.append(step.user)
                step = admission.found(self.row)
        self.admitted.append(step)
        if step.final is not None:
            line.send(b"R", step.final.code.to_bytes(4, "big") + step.final.payload)

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            last.sendall(b"q")
            self._thread.join(30)
        self._socket.close()
        assert not self.broken


@pytest.fixture(scope="session")
def serving() -> Callable[..., object]:
    """A context manager: a server with an authenticator, and perhaps a TLS context with its certificate."""

    @contextmanager
    def serve(
        authenticator: Authenticator, tls: ssl.SSLContext | None = None, cert: Path | None = None
    ) -> Iterator[Served]:
        served = Served(authenticator, tls, cert)
        try:
            yield served
        finally:
            served.close()

    return serve
