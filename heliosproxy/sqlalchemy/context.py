"""What one execution of a statement brings to the path."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects.postgresql.psycopg import PGExecutionContext_psycopg

from .options import hints


class HeliosContext(PGExecutionContext_psycopg):
    """As psycopg's.

    Attributes:
        helios: for `Cursor.execute`; None where no ``helios_…`` execution option is set.
    """

    helios: dict[str, Any] | None = None

    def pre_exec(self) -> None:
        """Before the cursor is used, and outside of what SQLAlchemy wraps in its own exceptions."""
        base: Any = super()
        base.pre_exec()
        options: Any = self.execution_options
        if options:
            self.helios = hints(options)
