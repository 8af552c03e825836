"""Server connections of the wire face."""
