"""Performing what sessions ask for: blocking, and with asyncio."""
