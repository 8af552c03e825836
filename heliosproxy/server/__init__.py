"""The wire face: what speaks the PostgreSQL protocol to clients, and to servers on their behalf."""
