"""The command line: ``heliosproxy check | demo``."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="One PostgreSQL connection, as a platform."
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"heliosproxy {importlib.metadata.version('heliosproxy')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """One PostgreSQL connection, as a platform."""


@app.command()
def check(file: Annotated[Path, typer.Argument(help="The configuration, a TOML file.")]) -> None:
    """Print the effective configuration of FILE, environment included, and what this version cannot do of it.

    Exit status 0: it is valid. 2: it is not; the error names file, line and key.
    """
    # Within the commands, so that `--version` and `--help` do not wait for pydantic and psycopg.
    from heliosproxy.check import report
    from heliosproxy.config import Config
    from heliosproxy.errors import ConfigError

    try:
        config = Config.load(file)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(report(config), nl=False)


@app.command()
def demo(
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds measured in all, half for each side.")
    ] = 8.0,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Run against a real PostgreSQL that it starts for itself, and show what is gained."""
    status = importlib.import_module("heliosproxy.demo").run(seconds=seconds, json=json)
    raise typer.Exit(status)
