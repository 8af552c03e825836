"""Which functions leave a session alone: asked once per pool."""

from __future__ import annotations

# A name counts when every function that has it is PostgreSQL's own or written in C.
HARMLESS = b"""
SELECT proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
GROUP BY proname
HAVING pg_catalog.bool_and(l.lanname IN ('internal', 'c') OR p.pronamespace = 'pg_catalog'::regnamespace)
"""
