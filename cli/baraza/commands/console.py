"""``baraza console``: the address of the console's pages, or of a saga's page."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from baraza.commands.options import Home
from baraza.references import saga_of
from baraza.system import running
from baraza.system.running import CONSOLE, TRACKER_API
from baraza.terminal import put

Referred = Annotated[
    str | None,
    typer.Argument(
        metavar="[REFERENCE]",
        help="A saga's id, or a number of its payment or its shipment: the page of that saga.",
        show_default=False,
    ),
]
Open = Annotated[bool, typer.Option("--open", help="Also open it in the browser of this machine.")]


def console(order: Referred = None, open_it: Open = False, home: Home = None) -> None:
    """Write the address of the console, or of a saga's page there, and open it with --open."""
    stack = running.find(home)
    address = stack.url(CONSOLE)
    if order is not None:
        with stack.api(TRACKER_API) as tracker:
            address = f"{address}/sagas/{saga_of(tracker, order)}"
    put(address)
    if open_it:
        webbrowser.open(address)
