"""LISTEN for many clients by one connection."""
