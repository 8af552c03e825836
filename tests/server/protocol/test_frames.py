"""Cutting a stream: every byte once, wherever the reads end, and nothing but a protocol violation for garbage."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosproxy.server.protocol import backend, frontend
from heliosproxy.server.protocol.errors import ProtocolViolation
from heliosproxy.server.protocol.frames import Frames

ROWS = st.builds(backend.data_row, st.lists(st.none() | st.binary(max_size=40), max_size=3))
OTHERS = st.one_of(
    st.builds(backend.command_complete, st.sampled_from([b"SELECT 1", b"BEGIN"])),
    st.builds(backend.ready_for_query, st.sampled_from([b"I", b"T", b"E"])),
    st.builds(lambda text: backend.error_response({"S": "ERROR", "M": text}), st.text(max_size=30)),
    st.just(b"1\0\0\0\4"),
)
MESSAGES = st.lists(st.one_of(ROWS, OTHERS), max_size=12)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[a:b] for a, b in pairwise(edges)]


@given(MESSAGES, st.lists(st.integers(0, 5000), max_size=12))
def test_every_byte_comes_out_once_and_in_order(messages: list[bytes], places: list[int]) -> None:
    frames = Frames(backend=True)
    stream = b"".join(messages)
    pieces = [piece for chunk in cut(stream, places) for piece in frames.feed(chunk)]
    assert b"".join(buffer[start:end] for _, buffer, start, end in pieces) == stream
    whole = [buffer[start:end] for kind, buffer, start, end in pieces if kind & 0xFF != ord("D")]
    assert whole == [message for message in messages if message[:1] != b"D"]
    assert frames.inside == 0


@given(ROWS, st.integers(1, 100))
def test_a_row_is_never_collected(row: bytes, size: int) -> None:
    frames = Frames(backend=True)
    for at in range(0, len(row), size):
        chunk = row[at : at + size]
        given_out = sum(end - start for _, _, start, end in frames.feed(chunk))
        assert given_out >= len(chunk) - 4 or at < 5  # but for a header that is not complete
    assert frames.inside == 0


@given(st.binary(max_size=200), st.booleans())
def test_garbage_is_a_protocol_violation_or_a_message(data: bytes, server: bool) -> None:
    frames = Frames(backend=server)
    with contextlib.suppress(ProtocolViolation):
        for byte in range(len(data)):
            frames.feed(data[byte : byte + 1])


@pytest.mark.parametrize("length", [b"\0\0\0\0", b"\0\0\0\3", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"])
def test_a_length_that_cannot_be_is_refused_at_once(length: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="invalid message length"):
        Frames(backend=False).feed(b"Q" + length)


def test_a_message_that_holds_names_at_most_is_small() -> None:
    Frames(backend=False).feed(b"Q" + (20_000).to_bytes(4, "big"))
    with pytest.raises(ProtocolViolation, match="invalid message length"):
        Frames(backend=False).feed(b"E" + (20_000).to_bytes(4, "big"))


@given(st.binary(max_size=120))
def test_a_malformed_body_is_a_protocol_violation(body: bytes) -> None:
    for kind, parse in [
        (b"Q", frontend.parse_query),
        (b"P", frontend.split_parse),
        (b"B", frontend.parse_bind),
        (b"E", frontend.parse_execute),
        (b"D", frontend.parse_describe),
    ]:
        message = frontend.message(kind, body)
        with contextlib.suppress(ProtocolViolation):
            parse(message, 0, len(message))


@given(st.binary(max_size=80))
def test_a_startup_packet_is_read_or_refused(body: bytes) -> None:
    for parse in (frontend.parse_startup, frontend.parse_cancel):
        with contextlib.suppress(ProtocolViolation):
            parse(body)


NAMES = st.binary(max_size=10).filter(lambda name: b"\0" not in name)


@given(NAMES, NAMES, st.lists(st.integers(0, 2**32 - 1), max_size=5))
def test_what_is_written_as_parse_is_read_as_that(name: bytes, text: bytes, types: list[int]) -> None:
    message = frontend.parse(name, text, types)
    found_name, found_text, rest = frontend.split_parse(message, 0, len(message))
    assert (found_name, found_text) == (name, text)
    assert frontend.parse_raw(name, text, rest) == message


@given(
    NAMES, NAMES, NAMES, st.lists(st.none() | st.binary(max_size=10), max_size=5), st.lists(st.integers(0, 1))
)
def test_a_bind_for_another_statement_is_otherwise_the_same(
    portal: bytes, name: bytes, other: bytes, values: list[bytes | None], formats: list[int]
) -> None:
    body = portal + b"\0" + name + b"\0" + len(formats).to_bytes(2, "big")
    body += b"".join(f.to_bytes(2, "big") for f in formats) + len(values).to_bytes(2, "big")
    for value in values:
        body += b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value
    message = frontend.message(b"B", body + b"\0\0")
    assert frontend.split_bind(message, 0, len(message))[:2] == (portal, name)
    rest = frontend.split_bind(message, 0, len(message))[2]
    renamed = frontend.rename_bind(message, 0, len(message), rest, other)
    bind = frontend.parse_bind(renamed, 0, len(renamed))
    assert bind == frontend.Bind(portal, other, tuple(formats), tuple(values), ())
