"""``baraza backup``, ``restore`` and ``reconcile``: one service's database, and the way back from its loss."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from baraza import running
from baraza.commands.options import Home
from baraza.terminal import UsageRefusal, say

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="For example inventory.", show_default=False)]
File = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]


def backup(service: Service, file: File, home: Home = None) -> None:
    """Write a copy of a service's database into a file, while everything runs."""
    running.load(home).backup(service, file)
    say(f"{file} holds {service} as it was when this began. Back to it: ./baraza restore {service} {file}")


def restore(service: Service, file: File, home: Home = None) -> None:
    """Stop a service and put its database back as a backup has it; the service stays stopped until you reconcile."""
    since = running.load(home).restore(service, file).isoformat()
    say(f"{service} is stopped, and its database is of {since}. Enter by hand what was entered by hand since, then:")
    say(f"./baraza reconcile {service} --since {since}")


def reconcile(
    service: Service,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Of when the restored database is.", show_default=False)
    ],
    home: Home = None,
) -> None:
    """Bring a restored database up to what its service has said on Kafka since, and start the service."""
    try:
        at = datetime.fromisoformat(since)
    except ValueError:
        raise UsageRefusal(f"--since {since!r}; write it like 2026-11-21T09:30:00+00:00.") from None
    say(running.load(home).reconcile(service, at if at.tzinfo else at.replace(tzinfo=UTC)).rstrip())
    say(f"{service} runs. When it has caught up: ./baraza audit")
