"""``baraza backup``, ``restore``, ``reconcile``, ``rebuild`` and ``reread``: a service's database, after a loss."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from baraza.commands.options import Home, as_argument, command
from baraza.system import running
from baraza.terminal import UsageRefusal, notify

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="For example inventory.", show_default=False)]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.", show_default=False)]
Topics = Annotated[list[str], typer.Argument(metavar="TOPIC…", help="For example payment.events.", show_default=False)]
Since = Annotated[
    str, typer.Option("--since", metavar="TIME", help="The time of the restored backup.", show_default=False)
]


def backup(service: Service, file: File, home: Home = None) -> None:
    """Write a copy of a service's database into a file, while everything runs."""
    _check_writable(file)
    running.load(home).backup(service, file)
    restoring = command("restore", service, as_argument(file), home=home)
    notify(f"{file} contains {service} as of the start of this command. Restore it: {restoring}")


def _check_writable(file: Path) -> None:
    """Raise UsageRefusal for a file that cannot be written, before a whole database is copied."""
    reason = None
    try:
        if file.is_dir():
            reason = "is a directory"
        elif file.exists() and not file.is_file():
            reason = "not a file"
        elif not file.parent.resolve(strict=True).is_dir():
            reason = "not a directory"
        elif not os.access(file.parent, os.W_OK | os.X_OK):
            reason = "permission denied"
    except (OSError, RuntimeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
    if reason:
        raise UsageRefusal(f"{file} cannot be written: {reason}. Name a file that is new, or one to replace.")


def restore(service: Service, file: File, home: Home = None) -> None:
    """Stop a service and restore its database from a backup; it stays stopped until you reconcile it."""
    stack = running.load(home)
    try:
        since = stack.restore(service, file).isoformat()
    except (KeyboardInterrupt, SystemExit):
        notify(f"{service} may be stopped, and its database is the old one or the restored one; restore it again.")
        raise
    notify(f"{service} is stopped; its database is of {since}. Enter again what was entered by hand since, then:")
    notify(command("reconcile", service, "--since", since, home=home))


def reconcile(service: Service, since: Since, home: Home = None) -> None:
    """Bring a restored database up to date with what its service published since, and start the service."""
    from chassis.values.times import rfc3339

    try:
        at = rfc3339(since)
    except ValueError as error:
        raise UsageRefusal(f"--since {since!r}: {error}.") from None
    notify(running.load(home).reconcile(service, at).rstrip())
    notify(f"{service} runs. When it has caught up: ./baraza audit")


def rebuild(file: File, home: Home = None) -> None:
    """Rebuild the tracker's database from Kafka alone. What the database is now is first written into a file."""
    _check_writable(file)
    notify(running.load(home).rebuild(file).rstrip())
    notify(f"The tracker runs. {file} contains its database as it was.")


def reread(topics: Topics, home: Home = None) -> None:
    """Let the tracker read topics from Kafka's earliest messages again; what it has recorded changes nothing."""
    from saga_tracker.definitions import DEFINITIONS
    from saga_tracker.ingest.decoding import topics as tracked_topics

    stack, read = running.load(home), tracked_topics(DEFINITIONS)
    if unknown := [topic for topic in topics if topic not in read]:
        raise UsageRefusal(f"The tracker does not read {unknown[0]!r}; it reads {', '.join(read)}.")
    notify(stack.reread(topics).rstrip())
