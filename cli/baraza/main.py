"""The entry point of the command line: ``python -m baraza.main``, which ``./baraza`` runs.

Importing it is cheap: each command imports what it needs when it runs.
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
    catalogue,
    chaos,
    demo,
    events,
    operate,
    orders,
    proof,
    sagas,
    schemas,
    stack,
    test,
)
from baraza.terminal import FOUND_A_PROBLEM, USAGE, Refusal, notify

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
app.add_typer(catalogue.catalogue_app, name="catalogue")
app.add_typer(catalogue.customers_app, name="customers")
app.add_typer(schemas.app, name="schemas")


def main() -> NoReturn:
    """Run one command. Exit status 0: success, 1: it found a problem, 2: wrong usage, 130: interrupted,
    143: terminated.
    """
    interrupts.install()
    try:
        app(prog_name="./baraza")
    except KeyboardInterrupt:
        notify("Interrupted.")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone, which is not an error; the flush at exit must not raise it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Refusal as error:
        notify(f"baraza: {error}")
        sys.exit(error.exit_code)
    except Exception as error:
        text = expected(error)
        if text is None:
            raise
        notify(f"baraza: {text}")
        sys.exit(exit_code(error))
    sys.exit(0)


def exit_code(error: Exception) -> int:
    """Return the exit status for an expected error: 2 where the command itself must be changed."""
    from stack.errors import InvalidSettings

    return USAGE if isinstance(error, InvalidSettings) else FOUND_A_PROBLEM


def expected(error: Exception) -> str | None:
    """Return the sentence for an expected error of the stack or the operating system; None for any other."""
    from stack.errors import StackError

    if isinstance(error, StackError):
        return str(error)
    if isinstance(error, PermissionError):
        return f"No permission for {error.filename}; make it accessible, or choose another folder with --home."
    return None


if __name__ == "__main__":
    main()
