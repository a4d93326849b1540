"""Reads a feed's columns by their names, whole columns at a time, into amounts of minor units and times in UTC.

Whatever cannot be read refuses the whole feed, with the line and the column: half a feed would look like payments that
the gateway lacks. Amounts never become floats.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from reconciliation.model.exponents import decimals_in_feed, decimals_of_ours

MICRO_DIGITS: Final = 6
"""Amounts are read with six decimals, more than any currency has, before they become minor units."""
AMOUNT: Final = r"\A-?[0-9]{1,12}(\.[0-9]{1,6})?\z"
CURRENCY: Final = r"\A[A-Z]{3}\z"
LOCAL_TIME: Final = r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?\z"
PAYMENT_ID: Final = r"\A(?P<number>[0-9]{1,19})(?:-[0-9]{1,5})?\z"
"""A payment's number; behind it that of the attempt, where that is a further one."""
PAYMENT_ID_MAX: Final = 2**63 - 1
"""63 bits, as our payment ids have."""
FIRST_LINE: Final = 2
"""The header is line 1."""
ABBREVIATED: Final[Mapping[str, int]] = {
    "PST": -8, "PDT": -7, "MST": -7, "MDT": -6, "CST": -6, "CDT": -5, "EST": -5, "EDT": -4, "BRT": -3, "BST": 1,
    "WEST": 1, "CEST": 2, "EEST": 3, "SGT": 8, "HKT": 8, "JST": 9, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13,
}  # fmt: skip
"""Hours from UTC of abbreviations that some reports have, and that no database of time zones knows."""

Text: TypeAlias = Any
"""A column of an Arrow table; pyarrow has no annotations."""


class FeedRefused(ValueError):
    """A feed cannot be read; nothing of it is. The text names the line, the column and the value."""


def read(data: bytes, *, required: Sequence[str], optional: Sequence[str] = ()) -> pa.Table:
    """Return these columns of a CSV file as texts without blanks around them; an optional one that is missing is null.

    Raises FeedRefused where a required column is missing, or where it is no CSV.
    """
    header = _header(data)
    if missing := [name for name in required if name not in header]:
        raise FeedRefused(f"It has no column {', '.join(missing)}; its columns are {', '.join(header)[:500]}.")
    names = [*required, *optional]
    try:
        table = pacsv.read_csv(
            pa.BufferReader(data),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                include_columns=names,
                include_missing_columns=True,
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise FeedRefused(f"It is no CSV that can be read: {error}") from error
    return pa.table({name: pc.utf8_trim_whitespace(table[name]) for name in names})


def _header(data: bytes) -> list[str]:
    first = data[:65_536].decode("utf-8-sig", errors="replace")
    return next(csv.reader(io.StringIO(first)), [])


def filled(texts: Text) -> Text:
    """Return texts with null where there is none."""
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def first_filled(*columns: Text) -> Text:
    """Return by line the first text that there is."""
    return pc.coalesce(*(filled(column) for column in columns))


def payment_ids(texts: Text) -> Text:
    """Return numbers of payments; null for a text that is none of ours."""
    is_ours = pc.fill_null(pc.match_substring_regex(texts, PAYMENT_ID), False)
    named = pc.struct_field(pc.extract_regex(texts, PAYMENT_ID), "number")
    numbers = pc.cast(pc.if_else(is_ours, named, pa.scalar(None, pa.string())), pa.uint64())
    is_short = pc.less_equal(numbers, pa.scalar(PAYMENT_ID_MAX, pa.uint64()))
    return pc.cast(pc.if_else(is_short, numbers, pa.scalar(None, pa.uint64())), pa.int64())


def currencies(texts: Text, column: str) -> Text:
    """Return the codes in capital letters. Raises FeedRefused."""
    codes = pc.utf8_upper(pc.fill_null(texts, ""))
    _refuse(pc.invert(pc.match_substring_regex(codes, CURRENCY)), codes, column, "three letters of ISO 4217")
    return codes


def minor_units(texts: Text, codes: Text, column: str, gateway: str) -> Text:
    """Return decimals of major units as our minor units; an empty text is 0. Raises FeedRefused.

    A digit behind those that the gateway has for the currency, or behind our minor unit, refuses the feed.
    """
    texts = pc.if_else(pc.equal(pc.fill_null(texts, ""), ""), "0", texts)
    _refuse(pc.invert(pc.match_substring_regex(texts, AMOUNT)), texts, column, "a decimal of major units")
    micros = _micros(texts)
    step = _by_currency(codes, lambda code: 10 ** (MICRO_DIGITS - decimals_in_feed(gateway, code)))
    _refuse(_has_rest(micros, step), texts, column, f"a decimal with no more digits than {gateway} has for it")
    divisor = _by_currency(codes, lambda code: 10 ** (MICRO_DIGITS - decimals_of_ours(code)))
    _refuse(_has_rest(micros, divisor), texts, column, "a whole number of minor units")
    return pc.divide(micros, divisor)


def _micros(texts: Text) -> Text:
    """Return decimals as millionths. The text is taken apart: no number is ever a float or has too few digits."""
    is_negative = pc.starts_with(texts, "-")
    digits = pc.utf8_ltrim(texts, "-")
    whole = pc.replace_substring_regex(digits, r"\..*$", "")
    rest = pc.replace_substring_regex(digits, r"\A[0-9]+\.?", "")
    joined = pc.binary_join_element_wise(whole, pc.utf8_rpad(rest, MICRO_DIGITS, "0"), "")
    found = pc.cast(joined, pa.int64())
    return pc.if_else(is_negative, pc.negate(found), found)


def _by_currency(codes: Text, number: Callable[[str], int]) -> Text:
    encoded = pc.dictionary_encode(codes).combine_chunks()
    known = encoded.dictionary.to_pylist() if len(encoded) else []
    return pa.array([number(code) for code in known], pa.int64()).take(encoded.indices)


def _has_rest(amounts: Text, divisor: Text) -> Text:
    return pc.not_equal(pc.multiply(pc.divide(amounts, divisor), divisor), amounts)


def utc_times(texts: Text, zones: Text, column: str) -> Text:
    """Return local times of these zones, line by line, in UTC. Raises FeedRefused.

    A time that the clock shows twice is taken as the later one. It decides on a day only, never on a match.
    """
    texts = pc.fill_null(texts, "")
    _refuse(pc.invert(pc.match_substring_regex(texts, LOCAL_TIME)), texts, column, "a time such as 2026-11-29 10:00:00")
    zones = pc.fill_null(zones, "")
    try:
        local = pc.cast(texts, pa.timestamp("us"))
        found: Any = pa.nulls(len(texts), pa.timestamp("us", "UTC"))
        for zone in pc.unique(zones).to_pylist():
            found = pc.if_else(pc.equal(zones, zone), _in_utc(local, zone), found)
    except pa.ArrowInvalid as error:
        raise FeedRefused(f"A time in column {column} cannot be read: {error}") from error
    return found


def _in_utc(local: Text, zone: str) -> Text:
    if zone in ABBREVIATED:
        shifted = pc.subtract(local, pa.scalar(timedelta(hours=ABBREVIATED[zone]), pa.duration("us")))
        return pc.assume_timezone(shifted, "UTC")
    if zone == "":
        raise FeedRefused("A line has no TimeZone; without it no time can be read.")
    try:
        there = pc.assume_timezone(local, zone, ambiguous="latest", nonexistent="latest")
    except pa.ArrowInvalid as error:
        raise FeedRefused(f"TimeZone {zone!r} is not known; it is a name such as Europe/Amsterdam.") from error
    return pc.cast(there, pa.timestamp("us", "UTC"))


def _refuse(is_wrong: Text, texts: Text, column: str, expected: str) -> None:
    """Refuse a feed with a wrong value, and name the first one. Raises FeedRefused."""
    if not pc.any(is_wrong).as_py():
        return
    index = pc.index(is_wrong, pa.scalar(True)).as_py()
    raise FeedRefused(
        f"Line {index + FIRST_LINE}, column {column}: {texts[index].as_py()!r} is not {expected}. Ask the gateway for "
        f"the report again, or compare its settings."
    )
