"""The terminal: data goes to stdout, everything else to stderr, and an error is one sentence."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

FOUND_A_PROBLEM = 1
USAGE = 2
COPIED = frozenset({"saga", "saga or plan", "address"})
"""Columns that people copy from, which are never broken; nor is the first one of a table, which identifies its row."""

Advance = Callable[[int], None]


class Refusal(Exception):
    """An expected error ends the command; the text states what happened and what to do about it."""

    exit_code = FOUND_A_PROBLEM


class UsageRefusal(Refusal):
    """The command line itself is wrong; the text states what is expected."""

    exit_code = USAGE


def notify(text: str) -> None:
    """Write a message for the person, which is not data."""
    sys.stderr.write(f"{text}\n")


def put_json(value: Any) -> None:
    """Write one JSON value as one line of data and flush it, so that a pipe's reader has it at once."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=not _carries_unicode(), default=_plain)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _carries_unicode() -> bool:
    """Return whether every character can be written to stdout as it is."""
    return codecs.lookup(sys.stdout.encoding).name == "utf-8"


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def put(text: str) -> None:
    """Write text as data."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def is_interactive() -> bool:
    """Return whether stderr, where progress goes, is a terminal."""
    return sys.stderr.isatty()


def console(*, to_stderr: bool = False) -> Console:
    """Return a rich console; colours and widths adapt to where it writes."""
    from rich.console import Console

    return Console(stderr=to_stderr, highlight=False, soft_wrap=not sys.stdout.isatty())


def put_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Write a table as data: drawn on a terminal, tab-separated under the same headings into a pipe."""
    if not sys.stdout.isatty():
        put("\t".join(headings))
        for row in rows:
            put("\t".join("" if cell is None else str(cell) for cell in row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading in right else "left"
        is_whole = heading == headings[0] or heading in COPIED
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=is_whole)
    for row in rows:
        table.add_row(*("" if cell is None else Text(str(cell)) for cell in row))
    console().print(table)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Advance]:
    """Show a progress bar on stderr while the block runs, on a terminal only; yields what advances it."""
    if not is_interactive():
        yield lambda _count: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    counted = (BarColumn(), MofNCompleteColumn()) if total is not None else (TextColumn("{task.completed}"),)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), *counted, TimeElapsedColumn())
    with Progress(*columns, console=console(to_stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def stop(code: int) -> NoReturn:
    """End the command with this exit status."""
    import typer

    raise typer.Exit(code)
