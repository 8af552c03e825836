"""The administrator's database: SHOW, PAUSE, KILL, … to any PostgreSQL client, in PgBouncer's words and columns."""
