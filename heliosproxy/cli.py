"""The command line: ``heliosproxy check | serve | demo``."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
from pathlib import Path
from typing import Annotated, Literal

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

    Where there is a [server] section, certificates, users and the like are looked at, too. Nothing is connected to.
    Exit status 0: it is valid. 2: it is not; the error names file, line and key.
    """
    # Within the commands, so that `--version` and `--help` do not wait for pydantic and psycopg.
    from heliosproxy.check import report
    from heliosproxy.config import Config, unavailable
    from heliosproxy.errors import ConfigError

    try:
        config = Config.load(file)
        # What asks for more than there is cannot be served anyway, and is told so below.
        if (config.server is not None or config.user) and not unavailable(config):
            from heliosproxy.server.checks import check as check_server

            check_server(config)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(report(config), nl=False)


@app.command()
def serve(
    dsn: Annotated[str, typer.Argument(help="The database, where no file names one.")] = "",
    file: Annotated[
        Path | None, typer.Option("--config", "-c", help="The configuration, a TOML file.")
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            help="host:port, or a folder for a Unix socket; may be repeated. Default 127.0.0.1:6432."
        ),
    ] = None,
    mode: Annotated[str | None, typer.Option(help="session, transaction or statement.")] = None,
    cache: Annotated[
        bool, typer.Option("--cache", help="Answer from memory what was not written since.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that serve; default 1.")] = None,
    log_format: Annotated[
        Literal["text", "json"], typer.Option(help="Lines for people, or one JSON object per line.")
    ] = "text",
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="What is logged, from this on.")
    ] = "info",
) -> None:
    """Speak the PostgreSQL protocol to any client, and share a few connections to the database among all.

    SIGTERM ends it when the open transactions have ended, Ctrl-C at once. SIGHUP reads the file again. Exit status
    2: it cannot be started so.
    """
    from heliosproxy.config import Config
    from heliosproxy.errors import ConfigError, UnsupportedError
    from heliosproxy.server.logs import configure
    from heliosproxy.server.main import run

    if dsn.endswith(".toml"):
        typer.echo(f"{dsn}: a file is given with --config {dsn}", err=True)
        raise typer.Exit(2)
    configure(log_format, log_level)
    overrides: dict[str, object] = {}
    if listen:
        overrides["server.listen"] = listen
    if mode:
        overrides["pool.mode"] = mode
    if cache:
        overrides["cache.enabled"] = True
    if workers:
        overrides["server.workers"] = workers

    def load() -> Config:
        config = Config.load(file, overrides=overrides)
        if config.server is None:
            config = Config.load(file, overrides={**overrides, "server.listen": ["127.0.0.1:6432"]})
        return config.with_dsn(dsn) if dsn else config

    def started(addresses: list[str]) -> None:
        text = f"listening on {', '.join(addresses)}"
        if log_format == "json":  # who reads both outputs as one wants objects only
            logging.getLogger("heliosproxy.server").info(text)
        else:
            typer.echo(text)

    try:
        run(load(), started, load if file is not None else None)
    except (ConfigError, UnsupportedError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


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
