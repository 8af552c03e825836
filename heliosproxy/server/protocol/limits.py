"""How long a message may be, and why."""

from __future__ import annotations

STARTUP = 10_000
"""Bytes of a startup packet: PostgreSQL's own MAX_STARTUP_PACKET_LENGTH."""

LARGE = 0x3FFFFFFF
"""Bytes of a message: PostgreSQL's PQ_LARGE_MESSAGE_LIMIT, the largest it allocates."""

SMALL = 10_000
"""Bytes of a message that holds names at most: PostgreSQL's PQ_SMALL_MESSAGE_LIMIT."""

BEFORE_LOGIN = 65_536
"""Bytes of a password or SASL message: PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH. Who has not logged in gets no more."""
