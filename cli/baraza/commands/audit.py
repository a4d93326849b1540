"""``baraza audit``: check from outside that nothing was lost."""

from __future__ import annotations

from typing import Annotated

import typer

from baraza.commands.options import SECONDS_MAX, Home, Json, finite
from baraza.system import running
from baraza.terminal import FOUND_A_PROBLEM, put_json, stop

Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        min=0,
        max=SECONDS_MAX,
        callback=finite,
        metavar="SECONDS",
        help="How long to wait until nothing moves.",
    ),
]


def audit(home: Home = None, wait: Wait = 60.0, as_json: Json = False) -> None:
    """Check from outside that nothing was lost: money, stock, points, shipments, messages.

    Reads every service's database with a read-only login, and the records of the gateway and the courier.
    Exit status 1, and the offending ids, if an invariant is broken.
    """
    from baraza.audit import console

    report = console.run(running.find(home), wait)
    put_json(report.to_json()) if as_json else console.show(report)
    if not report.is_green:
        stop(FOUND_A_PROBLEM)
