"""One pass over the JSON tree: every node is visited, the ones that say something have a handler.

Unknown nodes are walked, never skipped, so a new node of a new grammar hides nothing. The walk is a loop, not a
recursion: a tree may be 1,024 levels deep, and the caller's stack may be, too.
"""

from __future__ import annotations

from typing import Any

from heliosproxy.sql.facts import NO_NAMES, Facts
from heliosproxy.sql.nodes import HANDLERS, Stack, skip


def walk(facts: Facts, node: Any) -> None:
    """Add to *facts* what *node* and everything below it says."""
    get = HANDLERS.get
    deferred = facts.deferred
    deferred.append((node, NO_NAMES))
    while deferred:
        node, facts.scope = deferred.pop()
        stack: Stack = [node]
        pop, push = stack.pop, stack.append
        while stack:
            node = pop()
            if node.__class__ is list:
                stack += node
            elif node.__class__ is dict:
                for key, value in node.items():
                    kind = value.__class__
                    if kind is dict or kind is list:
                        handler = get(key)
                        if handler is None:
                            push(value)
                        elif handler is not skip:
                            handler(facts, value, stack)
