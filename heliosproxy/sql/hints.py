"""Hints in comments: ``/* helios:cache=off ttl=5s */``; what they may say is in `hint_values`."""

from __future__ import annotations

from heliosproxy.sql import parser

MARK = "helios:"


def hints(text: str) -> dict[str, str]:
    """Return the hints of *text* as written; of several for one key the last wins.

    Only a comment that starts with ``helios:`` is a hint: the word inside a string constant is data, and
    a user who can put text into a constant must not be able to steer the proxy.
    """
    if MARK not in text:
        return {}
    found: dict[str, str] = {}
    for comment in parser.comments(text):
        body = comment[2:].removesuffix("*/") if comment.startswith("/*") else comment[2:]
        body = body.strip()
        if not body.startswith(MARK):
            continue
        for word in body[len(MARK) :].replace(",", " ").split():
            key, _, value = word.partition("=")
            if key:
                found[key.lower()] = value
    return found
