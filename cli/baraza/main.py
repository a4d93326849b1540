"""The command line: every command, and how one ends. ``./baraza`` runs it by ``python -m baraza``.

Importing it is cheap: each command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from typing import NoReturn

import typer

from baraza import interrupts, streams
from baraza.commands import (
    audit,
    backups,
    bench,
    break_glass,
    catalogue,
    chaos,
    console,
    counts,
    day,
    demo,
    deposits,
    dividends,
    events,
    evidence,
    ledger,
    loans,
    members,
    money,
    operate,
    orders,
    plans,
    proof,
    reconcile,
    records,
    returns,
    sagas,
    schemas,
    stack,
    statement,
    test,
    withdrawals,
)
from baraza.commands.options import Commands
from baraza.environment import remove_foreign
from baraza.system import running
from baraza.terminal import FOUND_A_PROBLEM, USAGE, Refusal, notify

INTERRUPTED = 130
DETAIL_LENGTH_MAX = 300
REGISTERED = (counts, records)
"""They add their commands to the groups of others."""

app = Commands(
    name="baraza",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Sagas by choreography on Kafka, with one auditable view.",
    epilog="Start with: ./baraza demo",
)
app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(stack.rotate)
app.command()(chaos.chaos)
app.command()(sagas.timeline)
app.command()(operate.redrive)
app.command("console")(console.console)
app.command()(audit.audit)
app.command()(backups.backup)
app.command()(backups.restore)
app.command()(backups.rebuild)
app.command()(backups.reread)
app.command()(events.topics)
app.command()(bench.bench)
app.command()(proof.explore)
app.command()(proof.simulate)
app.command("test", context_settings={"ignore_unknown_options": True})(test.run)
app.add_typer(demo.app, name="demo")
app.add_typer(orders.app, name="orders")
app.add_typer(returns.app, name="returns")
app.add_typer(sagas.app, name="sagas")
app.add_typer(sagas.saga_app, name="saga")
app.add_typer(operate.letters_app, name="letters")
app.add_typer(plans.app, name="plans")
app.add_typer(evidence.app, name="evidence")
app.add_typer(events.app, name="events")
app.add_typer(catalogue.catalogue_app, name="catalogue")
app.add_typer(catalogue.customers_app, name="customers")
app.add_typer(ledger.app, name="ledger")
app.add_typer(reconcile.app, name="reconcile")
app.add_typer(members.app, name="members")
app.add_typer(deposits.app, name="deposits")
app.add_typer(withdrawals.app, name="withdrawals")
app.add_typer(loans.app, name="loans")
app.add_typer(dividends.app, name="dividends")
app.add_typer(money.app, name="money")
app.add_typer(statement.app, name="statement")
app.add_typer(day.app, name="day")
app.add_typer(schemas.app, name="schemas")
app.add_typer(break_glass.app, name="break-glass")


@cache
def command() -> Callable[..., object]:
    """Return the command line as one callable; it takes a tenth of a second to make."""
    return typer.main.get_command(app)


def main() -> NoReturn:
    """Run one command. Exit status 0: success, 1: it found a problem, 2: wrong usage, 130: interrupted,
    143: terminated.
    """
    remove_foreign(os.environ)
    streams.install()
    interrupts.install()
    status = _status()
    interrupts.uninstall()
    sys.exit(status)


def _status() -> int:
    """Run one command and return its exit status, after all of its output is written."""
    try:
        status = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        notify("Interrupted.")
        return INTERRUPTED
    except Refusal as error:
        return _failed(str(error), error.exit_code)
    except Exception as error:
        return _failed(expected(error) or unexpected(error), exit_code(error))
    return status


def _failed(text: str, status: int) -> int:
    """Report an error, and a full disk, of which it may be the effect; return the exit status."""
    notify(f"baraza: {text}")
    if status == FOUND_A_PROBLEM and (shortage := running.shortage()):
        notify(shortage)
    return status


def _run() -> int:
    try:
        command()(prog_name="./baraza")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def exit_code(error: Exception) -> int:
    """Return the exit status for an expected error: 2 where the command itself must be changed."""
    from stack.errors import InvalidSettings

    return USAGE if isinstance(error, InvalidSettings) else FOUND_A_PROBLEM


def expected(error: Exception) -> str | None:
    """Return the sentence for an expected error of the stack or the operating system; None for any other."""
    from stack.errors import StackError

    if isinstance(error, StackError):
        return str(error)
    if isinstance(error, PermissionError) and error.filename is not None:
        return f"No permission for {error.filename}; make it accessible, or choose another folder with --home."
    if isinstance(error, OSError):
        reason = (error.strerror or str(error) or type(error).__name__).lower()
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{reason}. Check the path, or choose another folder with --home."
    return None


def unexpected(error: Exception) -> str:
    """Keep the traceback of an error that is a defect of ours in a file, and return the sentence that names it."""
    import tempfile
    import traceback

    what = f"This is a defect of baraza, an unexpected {type(error).__name__}: {str(error)[:DETAIL_LENGTH_MAX]}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="baraza-", suffix=".txt", delete=False, encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(error)))
    except (OSError, ValueError):
        return what
    return f"{what}\nPlease report it with the file {file.name}."


if __name__ == "__main__":
    main()
