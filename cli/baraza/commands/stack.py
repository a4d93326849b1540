"""``baraza up``, ``down`` and ``status``: the stack as a whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baraza import running
from baraza.commands.options import Home, Json
from baraza.terminal import FOUND_A_PROBLEM, UsageRefusal, is_interactive, put_json, put_table, say, stop

if TYPE_CHECKING:
    from stack.progress import Progress, Watcher
    from stack.running import Stack

MEBIBYTE = 1_048_576


def up(
    replicas: Annotated[
        list[str] | None,
        typer.Option("--replicas", metavar="SERVICE=NUMBER", help="How many processes of a service; may be repeated."),
    ] = None,
    docker: Annotated[
        bool, typer.Option("--docker", help="Kafka, PostgreSQL, Redis and the registry in containers.")
    ] = False,
    observe: Annotated[
        bool, typer.Option("--observe", help="Also Prometheus with our alerts, and Zipkin for the traces.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Start the stack, or what is missing of it: Kafka, PostgreSQL, Redis, the registry, every service."""
    started_at = time.monotonic()
    stack = start(home, docker=docker, observe=observe, replicas=replicas_of(replicas or []))
    if as_json:
        put_json(_addresses(stack))
    elif stack.started:
        say(f"Up in {time.monotonic() - started_at:.0f} s. Next: ./baraza status, ./baraza orders --help")
    else:
        say("It is up already. Next: ./baraza status")


def down(home: Home = None) -> None:
    """Stop the stack and every process of it; what it holds stays for the next up."""
    from stack.running import down as take_down
    from stack.settings import from_environment

    with watching() as watch:
        stopped = take_down(from_environment(home=home).home, watch)
    say("Down." if stopped else "It was down already.")


def status(home: Home = None, as_json: Json = False) -> None:
    """Show every process of the stack; exit status 1 when one is not ready."""
    components = running.load(home).status()
    if as_json:
        put_json(
            [
                {
                    "name": component.name,
                    "service": component.service,
                    "state": component.state,
                    "ready": component.ready,
                    "pid": component.pid,
                    "address": component.address,
                    "up_s": component.up_s,
                }
                for component in components
            ]
        )
    else:
        rows = [
            (
                component.name,
                "ready" if component.ready else component.state.lower(),
                component.pid or "",
                _duration(component.up_s),
                component.address,
            )
            for component in components
        ]
        put_table(("process", "state", "pid", "up", "address"), rows, right=("pid", "up"))
    if not all(component.ready for component in components):
        stop(FOUND_A_PROBLEM)


def rotate(
    login: Annotated[str, typer.Argument(metavar="LOGIN", help="For example payment or operator.", show_default=False)],
    home: Home = None,
) -> None:
    """Give a login a new password at Kafka, PostgreSQL and Redis, wherever it has one, while everything runs."""
    running.load(home).rotate(login)
    say(f"{login} has a new password. Connections that there are stay; the next ones use it.")


def start(
    home: Path | None, *, docker: bool = False, observe: bool = False, replicas: dict[str, int] | None = None
) -> Stack:
    """Start what does not run yet and return the stack. Raises StackError; then nothing that it began is left."""
    from stack.running import up as bring_up
    from stack.settings import from_environment

    settings = from_environment(home=home, docker=docker, observed=observe, replicas=replicas or {})
    with watching() as watch:
        return bring_up(settings, watch)


@contextmanager
def watching() -> Iterator[Watcher]:
    """Show what the parts do: one line that changes on a terminal, a line for each download elsewhere."""
    if is_interactive():
        with _live() as on_screen:
            yield on_screen
        return
    said: set[tuple[str, str]] = set()
    lock = threading.Lock()

    def watch(progress: Progress) -> None:
        with lock:
            if progress.what == "downloading" and (progress.component, progress.what) not in said:
                said.add((progress.component, progress.what))
                say(f"{progress.component}: {progress.what}")

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
        parts = ", ".join(f"{part} {what}" for part, what in busy.items())
        return Text(f"{len(ready)} ready{': ' if parts else ''}{parts}", overflow="ellipsis", no_wrap=True)

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


def replicas_of(texts: list[str]) -> dict[str, int]:
    """Return what ``--replicas`` options say. Raises UsageRefusal."""
    replicas: dict[str, int] = {}
    for text in texts:
        service, _, number = text.partition("=")
        if not service or not number.isdecimal():
            raise UsageRefusal(f"--replicas {text!r}; write it like payment=2.")
        replicas[service] = int(number)
    return replicas


def _addresses(stack: Stack) -> dict[str, object]:
    endpoints = stack.endpoints
    return {
        "home": str(stack.home),
        "kafka": endpoints.kafka,
        "registry_url": endpoints.registry_url,
        "jwks_url": endpoints.jwks_url,
        "started": list(stack.started),
        "http": {service: list(urls) for service, urls in endpoints.http.items()},
    }


def _duration(seconds: int) -> str:
    if seconds < 60:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 3600 else f"{seconds // 3600} h {seconds % 3600 // 60} min"
