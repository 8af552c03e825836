"""How long a message may be, and why."""

from __future__ import annotations

STARTUP = 10_000
"""Bytes of a startup packet: PostgreSQL's own MAX_STARTUP_PACKET_LENGTH."""

LARGE = 0x3FFFFFFE
"""Length of a client's message: PostgreSQL's PQ_LARGE_MESSAGE_LIMIT, one less than the largest it allocates. It hangs
up at 0x3FFFFFFF without a word."""

REPLY = LARGE + 4
"""Length of a server's message: the longest body that PostgreSQL can build, and the length itself."""

SMALL = 10_000
"""Bytes of a message that holds names at most: PostgreSQL's PQ_SMALL_MESSAGE_LIMIT."""

BEFORE_LOGIN = 65_536
"""Bytes of a password or SASL message: PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH. Who has not logged in gets no more."""
