"""Processes of clients, which begin and end together."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import multiprocessing
from collections.abc import Callable, Coroutine, Iterator
from multiprocessing.connection import Connection
from typing import Any

PATIENCE = 600.0


class Cue:
    """What a process of the crew waits for.

    Attributes:
        over: set when it is to end.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.over = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        """Say that all is ready, and wait until everybody is."""
        self._pipe.send(None)
        await asyncio.to_thread(self._pipe.recv)
        self._ending = asyncio.create_task(self._end())

    async def _end(self) -> None:
        try:
            await asyncio.to_thread(self._pipe.recv)
        finally:
            self.over.set()


Work = Callable[..., Coroutine[Any, Any, Any]]


def _run(module: str, pipe: Connection, arguments: dict[str, Any]) -> None:
    from heliosproxy.server.running import new_loop

    work: Work = importlib.import_module(module).work
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            pipe.send(runner.run(work(Cue(pipe), **arguments)))
    except BaseException as error:
        pipe.send(RuntimeError(f"a process of clients failed: {error!r}"))
        raise


class Crew:
    """Processes that run ``work(cue, **arguments)`` of *module*, one for each of *arguments*."""

    def __init__(self, module: str, arguments: list[dict[str, Any]]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for each in arguments:
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_run, args=(module, theirs, each), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def _heard(self, part: slice) -> list[Any]:
        found = []
        for pipe in self._pipes[part]:
            if not pipe.poll(PATIENCE):
                raise TimeoutError("a process of clients says nothing")
            found.append(pipe.recv())
            if isinstance(found[-1], Exception):
                raise found[-1]
        return found

    def ready(self) -> None:
        """Wait until all are."""
        self._heard(slice(None))

    def tell(self) -> None:
        """Let all begin; the second time: let all end."""
        for pipe in self._pipes:
            pipe.send(None)

    def results(self, part: slice = slice(None)) -> list[Any]:
        """What each of them, or of a *part* of them, has found."""
        return self._heard(part)

    def close(self) -> None:
        """End those that still run."""
        for process in self._processes:
            process.join(5)
            process.kill()


@contextlib.contextmanager
def crew(module: str, arguments: list[dict[str, Any]]) -> Iterator[Crew]:
    """A `Crew` that is ready."""
    made = Crew(module, arguments)
    try:
        made.ready()
        yield made
    finally:
        made.close()
