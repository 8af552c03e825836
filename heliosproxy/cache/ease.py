"""What the short ways of the cache need of a session: worked out once, kept until it does anything at a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..session import Session
    from .book import Book, Look
    from .stage import CacheStage


def make(stage: CacheStage) -> Callable[[Session], tuple[int, Book, Look | None] | None]:
    """A function: session → (number of its context, book, look) while it may use the cache; None for any other."""
    service = stage.service

    def eased(session: Session) -> tuple[int, Book, Look | None] | None:
        ease: tuple[int, Book, Look | None] | None = session.ease
        if ease is None:
            ease = session.ease = stage.ease(session)
            if ease is None:
                return None
        book: Book = ease[1]
        if book.look is not ease[2] or book.next_poll <= service.clock():
            session.ease = None
            return None
        return ease

    return eased
