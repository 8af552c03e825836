"""One client of the wire face."""
