"""Starts a stack, and shows on stderr what its processes do meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from baraza.system import running
from baraza.terminal import is_interactive, notify

if TYPE_CHECKING:
    from stack.lifecycle import Stack
    from stack.progress import Progress, Watcher

MEBIBYTE = 1_048_576


def start(
    home: Path | None,
    *,
    docker: bool = False,
    observe: bool = False,
    replicas: dict[str, int] | None = None,
    sagas: str | None = None,
) -> Stack:
    """Start the processes that do not run yet, stop those that the sagas do not need, and return the stack.

    Raises StackError, after every process that this call started was stopped.
    """
    from stack.lifecycle import up
    from stack.selection import read
    from stack.settings import from_environment

    selected = None if sagas is None else read(sagas)
    settings = from_environment(home=home, docker=docker, observed=observe, replicas=replicas or {}, sagas=selected)
    running.remember(settings.home)
    with progress_shown() as watch:
        return up(settings, watch)


@contextmanager
def progress_shown() -> Iterator[Watcher]:
    """Show what the processes do: one changing line on a terminal, else one line for each download."""
    if is_interactive():
        with _live() as on_screen:
            yield on_screen
        return
    announced: set[str] = set()
    lock = threading.Lock()

    def watch(progress: Progress) -> None:
        with lock:
            if progress.what == "downloading" and progress.component not in announced:
                announced.add(progress.component)
                notify(f"{progress.component}: {progress.what}")

    yield watch


@contextmanager
def _live() -> Iterator[Watcher]:
    from rich.live import Live
    from rich.text import Text

    from baraza.terminal import console

    busy: dict[str, str] = {}
    ready: set[str] = set()
    lock = threading.Lock()

    def line() -> Text:
        components = ", ".join(f"{name} {what}" for name, what in busy.items())
        return Text(f"{len(ready)} ready{': ' if components else ''}{components}", overflow="ellipsis", no_wrap=True)

    with Live(line(), console=console(to_stderr=True), transient=True, refresh_per_second=8) as live:

        def watch(progress: Progress) -> None:
            with lock:
                if progress.what in ("ready", "stopped"):
                    busy.pop(progress.component, None)
                    ready.add(progress.component)
                else:
                    of = f" {progress.done // MEBIBYTE} of {progress.total // MEBIBYTE} MB" if progress.total else ""
                    busy[progress.component] = progress.what + of
                live.update(line())

        yield watch
