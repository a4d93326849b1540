"""The command line's entrance: ``python -m baraza.main``, which is what ``./baraza`` runs.

Importing it is cheap; what a command needs is imported when the command runs.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from baraza import interrupts
from baraza.commands import (
    audit,
    backups,
    bench,
    chaos,
    demo,
    events,
    load,
    operate,
    orders,
    proof,
    sagas,
    schemas,
    stack,
    test,
)
from baraza.terminal import FOUND_A_PROBLEM, USAGE, Refusal, say

INTERRUPTED = 130

app = typer.Typer(
    name="baraza",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Order sagas by choreography on Kafka, with one auditable view.",
    epilog="Start with: ./baraza demo",
)
app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(stack.rotate)
app.command()(demo.demo)
app.command()(chaos.chaos)
app.command()(sagas.timeline)
app.command()(operate.redrive)
app.command()(audit.audit)
app.command()(backups.backup)
app.command()(backups.restore)
app.command()(backups.reconcile)
app.command()(events.topics)
app.command()(bench.bench)
app.command()(proof.explore)
app.command()(proof.simulate)
app.command("test", context_settings={"ignore_unknown_options": True})(test.run)
app.add_typer(orders.app, name="orders")
app.add_typer(sagas.app, name="sagas")
app.add_typer(sagas.saga_app, name="saga")
app.add_typer(operate.letters_app, name="letters")
app.add_typer(events.app, name="events")
app.add_typer(load.catalogue_app, name="catalogue")
app.add_typer(load.customers_app, name="customers")
app.add_typer(schemas.app, name="schemas")


def main() -> NoReturn:
    """Run one command. Exit status 0: fine, 1: it found a problem, 2: it was not understood, 130: interrupted,
    143: terminated.
    """
    interrupts.install()
    try:
        app(prog_name="./baraza")
    except KeyboardInterrupt:
        say("Interrupted.")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone, which is no error; the flush at exit must not find it out again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Refusal as error:
        say(f"baraza: {error}")
        sys.exit(error.exit_code)
    except Exception as error:
        text = foreseen(error)
        if text is None:
            raise
        say(f"baraza: {text}")
        sys.exit(exit_code(error))
    sys.exit(0)


def exit_code(error: Exception) -> int:
    """Return the exit status for an error that was foreseen: 2 where the command itself must be changed."""
    from stack.errors import InvalidSettings

    return USAGE if isinstance(error, InvalidSettings) else FOUND_A_PROBLEM


def foreseen(error: Exception) -> str | None:
    """Return the sentence for an error of the stack's or the operating system's; None for one that nobody foresaw."""
    from stack.errors import StackError

    if isinstance(error, StackError):
        return str(error)
    if isinstance(error, PermissionError):
        return f"No permission for {error.filename}; make it accessible, or choose another folder with --home."
    return None


if __name__ == "__main__":
    main()
