"""CSV files as people write them. A flaw is reported by its line and column, and by what is expected there."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from baraza.terminal import UsageRefusal
from chassis.values.text import human_text, identifier

FIELD_LENGTH_MAX = 10_000
"""A longer field means that a quote was not closed."""
SEPARATORS = (";", "\t", "|")
"""What spreadsheets write instead of a comma, by the language of their user."""
DIGITS_MAX = 30
"""Python refuses to parse thousands of digits, and no number of ours has this many."""

Value = str | int
Record = dict[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: ``parse`` returns the value or raises ValueError, ``expects`` describes a valid cell."""

    name: str
    parse: Callable[[str], Value]
    expects: str


def name(length_max: int) -> Callable[[str], str]:
    """Return a parser of texts for people, by the rule that the services have."""
    return partial(human_text, length_max=length_max)


def key(length_max: int) -> Callable[[str], str]:
    """Return a parser of identifiers, by the rule that the services have."""
    return partial(identifier, length_max=length_max)


def whole_number(maximum: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from zero to ``maximum``, in plain digits."""

    def parse(cell: str) -> int:
        digits = cell.strip()
        if not digits.isascii() or not digits.isdigit() or len(digits) > DIGITS_MAX or int(digits) > maximum:
            raise ValueError
        return int(digits)

    return parse


def currency(cell: str) -> str:
    """Parse an ISO 4217 code."""
    from chassis.values.money import is_currency

    code = cell.strip()
    if not is_currency(code):
        raise ValueError("Not a currency of ISO 4217 with minor units" if len(code) == len("USD") else "")
    return code


def records(path: Path, columns: Sequence[Column], *, key: str, name: str | None = None) -> Iterator[Record]:
    """Yield each line as a record. No two lines may have the same value in the column ``key``.

    ``name`` is what messages call the file, if not by its path.

    Raises UsageRefusal where a line is invalid, with its number and column, or where the file cannot be read.
    """
    named = name or str(path)
    names = [column.name for column in columns]
    csv.field_size_limit(FIELD_LENGTH_MAX)
    begins_at = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            _check_header(named, next(reader, None), names)
            seen: dict[Value, int] = {}
            while True:
                begins_at = reader.line_num + 1
                cells = next(reader, None)
                if cells is None:
                    return
                if not any(cell.strip() for cell in cells):  # as editors leave at the end, and Excel with its commas
                    continue
                record = _record(named, begins_at, cells, columns)
                first = seen.setdefault(record[key], begins_at)
                if first != begins_at:
                    raise UsageRefusal(
                        f"{named}, line {begins_at}: {key} {record[key]!r} is on line {first} already; keep one."
                    )
                yield record
    except UnicodeDecodeError as error:
        raise UsageRefusal(f"{named}{_undecodable(path)} is not UTF-8; save the file as UTF-8.") from error
    except csv.Error as error:
        raise UsageRefusal(_flaw(named, begins_at, reader.line_num, error)) from error
    except OSError as error:
        raise unreadable(Path(named), error) from error


def _undecodable(path: Path) -> str:
    """Return where the first bytes are that are not UTF-8: a decoder counts within what it has read ahead."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f", line {number}, byte {error.start + 1}"
    return ""


def _check_header(name: str, header: Sequence[str] | None, names: Sequence[str]) -> None:
    wanted = ",".join(names)
    if header is None:
        raise UsageRefusal(f"{name} is empty; its first line must be {wanted}.")
    if [cell.strip() for cell in _without_excess(header, len(names))] != names:
        found = f"{name} starts with {','.join(header)[:100]!r}; its first line must be {wanted}"
        separator = next((each for each in SEPARATORS if len(header) == 1 and each in header[0]), None)
        raise UsageRefusal(found + ("." if separator is None else f", with commas instead of {separator!r}."))


def _without_excess(cells: Sequence[str], count: int) -> Sequence[str]:
    """Return the cells without the empty ones behind the last column, which spreadsheets leave."""
    return cells if any(cell.strip() for cell in cells[count:]) else cells[:count]


def _record(name: str, line: int, row: Sequence[str], columns: Sequence[Column]) -> Record:
    cells = _without_excess(row, len(columns))
    if len(cells) != len(columns):
        names = ",".join(column.name for column in columns)
        raise UsageRefusal(f"{name}, line {line}: {len(cells)} fields, expected {len(columns)} ({names}).")
    record: Record = {}
    for column, cell in zip(columns, cells, strict=True):
        try:
            record[column.name] = column.parse(cell)
        except ValueError as error:
            reason = f" {error}." if str(error) else ""
            raise UsageRefusal(
                f"{name}, line {line}, column {column.name}: {cell[:100]!r}; expected {column.expects}.{reason}"
            ) from None
    return record


def _flaw(name: str, begins_at: int, found_at: int, error: csv.Error) -> str:
    """Return what is wrong with a record, which may have lines: a quote that is not closed shows at the last one."""
    if found_at > begins_at or "unexpected end" in str(error):
        return (
            f"{name}, line {begins_at}: a quote that opens on this line is not closed ({error}, line {found_at}); "
            "close it, or double it inside quotes."
        )
    return f"{name}, line {begins_at}: {error}; write plain CSV, quotes doubled inside quotes."


def unreadable(path: Path, error: OSError) -> UsageRefusal:
    """Return the refusal of a file that cannot be opened."""
    reason = (error.strerror or type(error).__name__).lower()
    return UsageRefusal(f"{path} cannot be read: {reason}. Check the path.")
