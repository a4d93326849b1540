"""``baraza up``, ``down``, ``status`` and ``rotate``: the stack as a whole."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from baraza.commands.options import Home, Json, Replicas, replicas_of
from baraza.system import running
from baraza.system.startup import progress_shown, start
from baraza.terminal import FOUND_A_PROBLEM, notify, put_json, put_table, stop

if TYPE_CHECKING:
    from stack.lifecycle import Stack

Docker = Annotated[bool, typer.Option("--docker", help="Run Kafka, PostgreSQL, Redis and the registry in containers.")]
Observe = Annotated[bool, typer.Option("--observe", help="Also run Prometheus with our alerts, and Zipkin for traces.")]
Sagas = Annotated[
    str | None,
    typer.Option(
        "--sagas",
        metavar="NAME,…",
        help="Start only what these sagas need; kept for the next up. 'all': all that are installed.",
        show_default=False,
    ),
]
Login = Annotated[str, typer.Argument(metavar="LOGIN", help="For example payment or operator.", show_default=False)]


def up(
    sagas: Sagas = None,
    replicas: Replicas = None,
    docker: Docker = False,
    observe: Observe = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Start the stack, or whatever is missing: Kafka, PostgreSQL, Redis, the registry, every service.

    With --sagas only the services and simulators that these sagas need, besides checkout and the tracker.
    """
    started_at_s = time.monotonic()
    stack = start(home, docker=docker, observe=observe, replicas=replicas_of(replicas), sagas=sagas)
    if stack.stopped:
        notify(f"Stopped: {', '.join(stack.stopped)}. Sagas that need them wait until they are started again.")
    if as_json:
        put_json(_addresses(stack))
    elif stack.started:
        notify(f"Up in {time.monotonic() - started_at_s:.0f} s. Next: ./baraza status, ./baraza orders --help")
        notify(_console(stack))
    else:
        notify("Already up. Next: ./baraza status")
        notify(_console(stack))


def down(home: Home = None) -> None:
    """Stop the stack and all of its processes; its data is kept for the next up."""
    from stack.lifecycle import down as take_down
    from stack.settings import from_environment

    settings = from_environment(home=home)
    running.remember(settings.home)
    with progress_shown() as watch:
        stopped = take_down(settings.home, watch)
    notify("Down." if stopped else "Already down.")


def status(home: Home = None, as_json: Json = False) -> None:
    """Show every process of the stack, its memory and since when it runs; exit status 1 if one is not ready."""
    stack = running.load(home)
    components = stack.status()
    if as_json:
        put_json([asdict(component) for component in components])
    else:
        rows = [
            (
                component.name,
                "ready" if component.ready else component.state.lower(),
                component.pid or "",
                _mebibytes(component.memory_bytes),
                _time(component.started_at),
                _duration(component.up_s) if component.pid else "",
                component.address,
            )
            for component in components
        ]
        headings = ("process", "state", "pid", "memory", "started", "up", "address")
        put_table(headings, rows, right=("pid", "memory", "up"))
    if shortage := stack.shortage():
        notify(shortage)
    if shortage or not all(component.ready for component in components):
        stop(FOUND_A_PROBLEM)


def rotate(login: Login, home: Home = None) -> None:
    """Give a login a new password in Kafka, PostgreSQL and Redis, wherever it has one, while everything runs."""
    running.load(home).rotate(login)
    notify(f"{login} has a new password. Open connections stay; new ones use it.")


def _console(stack: Stack) -> str:
    """Return the sentence with the address of the pages, where one signs in with a click."""
    return f"The console: {stack.endpoints.url(running.CONSOLE)}"


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


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count >> 20} MB"


def _time(at: datetime | None) -> str:
    return "" if at is None else at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _duration(seconds: int) -> str:
    if seconds < 60:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 3600 else f"{seconds // 3600} h {seconds % 3600 // 60} min"
