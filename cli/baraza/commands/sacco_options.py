"""Options and texts that the commands of a SACCO share: members, amounts, days, keys, and who acts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from baraza.commands.options import check_key
from baraza.repetition import repeatable
from baraza.system import running
from baraza.system.running import STAFF
from baraza.terminal import UsageRefusal, notify, put, put_json, put_table

if TYPE_CHECKING:
    from baraza.system.client import Api

MEMBERS, MONEY, LEDGER = "members", "mobile-money", "ledger"
CURRENCY: Final = "KES"
PAGE: Final = 500
LISTED_MAX: Final = 1_000
AMOUNT: Final = re.compile(r"([0-9]{1,13})(?:\.([0-9]{2}))?")
PERCENT: Final = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,4}))?")
PERCENT_MAX_PPM: Final = 1_000_000
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400

Member: TypeAlias = Annotated[str, typer.Argument(metavar="MEMBER", help="The member's number.", show_default=False)]
Loan: TypeAlias = Annotated[str, typer.Argument(metavar="LOAN", help="Its number, such as LN17.", show_default=False)]
Receipt: TypeAlias = Annotated[
    str, typer.Argument(metavar="RECEIPT", help="The provider's receipt number.", show_default=False)
]
Amount: TypeAlias = Annotated[
    str, typer.Option("--amount", metavar="KES", help="In shillings, such as 1500.", show_default=False)
]
Reason: TypeAlias = Annotated[str, typer.Option("--reason", help="Kept for good.", show_default=False)]
Person: TypeAlias = Annotated[
    str, typer.Option("--by", metavar="NAME", help="Who acts; the development issuer believes every name.")
]
Phone: TypeAlias = Annotated[
    str | None, typer.Option("--phone", help="One of the member's; the first by default.", show_default=False)
]
Provider: TypeAlias = Annotated[
    str | None,
    typer.Option("--provider", help="Over which provider; that of the lowest rank by default.", show_default=False),
]
Key: TypeAlias = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="The same key is the same request again.", show_default=False),
]
ShortCode: TypeAlias = Annotated[
    str | None, typer.Option("--short-code", help="Needed where two have this number.", show_default=False)
]


def member_of(text: str) -> str:
    """Return a member's number as it is stored. Raises UsageRefusal."""
    return _matching(text, r"[A-Z0-9]{3,16}", "a member's number, which has 3 to 16 letters and digits, such as 00123")


def loan_of(text: str) -> str:
    """Return a loan's number as it is stored. Raises UsageRefusal."""
    return _matching(text, r"LN[0-9]{1,12}", "a loan's number, which is LN and digits, such as LN17")


def run_of(text: str) -> str:
    """Return the id of a dividend run as it is stored. Raises UsageRefusal."""
    return _matching(text, r"[A-Z0-9-]{3,24}", "a dividend run's id, such as 2025-DIV")


def receipt_of(text: str) -> str:
    """Return a receipt's number as it is stored. Raises UsageRefusal."""
    return _matching(text, r"[A-Z0-9-]{3,40}", "a receipt's number, such as RKTQDM7W6S")


def short_code_of(text: str) -> str:
    """Return a short code. Raises UsageRefusal."""
    return _matching(text, r"[0-9]{5,7}", "a short code, which has 5 to 7 digits, such as 600100")


def choice_of(option: str, text: str, choices: Sequence[str]) -> str:
    """Return one of the choices, in capitals. Raises UsageRefusal, which names them."""
    found = text.strip().upper()
    if found not in choices:
        raise UsageRefusal(f"{option} {text!r}; choose one of {', '.join(choices)}.")
    return found


def _matching(text: str, pattern: str, expected: str) -> str:
    found = text.strip().upper()
    if re.fullmatch(pattern, found) is None:
        raise UsageRefusal(f"{text!r} is not {expected}.")
    return found


def minor_of(text: str, option: str = "--amount") -> int:
    """Return an amount in cents from a text in shillings. It never was a float. Raises UsageRefusal."""
    found = AMOUNT.fullmatch(text.strip())
    minor = 0 if found is None else int(found[1]) * 100 + int(found[2] or 0)
    if minor <= 0:
        raise UsageRefusal(f"{option} {text!r}; write shillings, such as 1500 or 1500.50, without separators.")
    return minor


def ppm_of(text: str, option: str) -> int:
    """Return parts per million from a text in per cent. Raises UsageRefusal."""
    found = PERCENT.fullmatch(text.strip())
    ppm = PERCENT_MAX_PPM + 1 if found is None else int(found[1]) * 10_000 + int((found[2] or "").ljust(4, "0"))
    if ppm > PERCENT_MAX_PPM:
        raise UsageRefusal(f"{option} {text!r}; write per cent from 0 to 100, such as 12.5.")
    return ppm


def day_of(text: str) -> str:
    """Return a day. Raises UsageRefusal."""
    try:
        return date.fromisoformat(text.strip()).isoformat()
    except ValueError as error:
        raise UsageRefusal(f"{text!r} is not a day; write it like 2026-11-21.") from error


def amount(minor: Any, currency: str = CURRENCY) -> str:
    """Return an amount for a person; the ledger's are texts."""
    from baraza.system.client import NotUnderstood
    from chassis.values.money import shown

    try:
        return "" if minor is None else shown(int(minor), currency)
    except (TypeError, ValueError) as error:
        raise NotUnderstood(f"{minor!r:.40} in an answer is no amount. Run ./baraza status.") from error


def age(seconds: Any) -> str:
    """Return a span of time for a person, in its two largest units."""
    if not isinstance(seconds, int | float):
        return ""
    left = max(0, int(seconds))
    if left < MINUTE_S:
        return f"{left} s"
    if left < HOUR_S:
        return f"{left // MINUTE_S} min"
    if left < DAY_S:
        return f"{left // HOUR_S} h {left % HOUR_S // MINUTE_S} min"
    return f"{left // DAY_S} d {left % DAY_S // HOUR_S} h"


def given(**fields: Any) -> dict[str, Any]:
    """Return what was given of these fields."""
    return {name: value for name, value in fields.items() if value is not None}


def paged(
    api: Api, path: str, name: str, wanted: Mapping[str, str | int], *, cursors: Mapping[str, str]
) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of every page. ``cursors`` are parameters by the members of a page that continue it."""
    from baraza.system.client import objects

    params: dict[str, str | int] = {"limit": PAGE, **wanted}
    while True:
        page = api.get(path, params)
        yield from objects(page, name)
        if any(page[member] is None for member in cursors):
            return
        params |= {parameter: str(page[member]) for member, parameter in cursors.items()}


def put_rows(
    items: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, right: Sequence[str] = ()
) -> None:
    """Write objects: one JSON object a line, or a table in which ``…_minor`` is an amount for people."""
    if as_json:
        for item in items:
            put_json(item)
        return
    titles = tuple(column.removesuffix("_minor") for column in columns)
    sums = tuple(column.removesuffix("_minor") for column in columns if column.endswith("_minor"))
    put_table(titles, [[cell(item, column) for column in columns] for item in items], right=(*sums, *right))


def cell(item: Mapping[str, Any], column: str) -> Any:
    """Return what a table shows of an object's member."""
    return amount(item[column]) if column.endswith("_minor") else item[column]


def put_fields(found: Mapping[str, Any], names: Sequence[str]) -> None:
    """Write the members of an object that have a value, one a line."""
    titles = {name: name.removesuffix("_minor").replace("_", " ") for name in names}
    width = max(map(len, titles.values())) + 2
    lines = [(titles[name], cell(found, name)) for name in names if found[name] is not None]
    put("\n".join(f"{title:<{width}}{value}" for title, value in lines))


def submit(path: str, body: Mapping[str, Any], key: str | None, home: Path | None, person: str = STAFF) -> Any:
    """Make a request of members under an idempotency key, which is written to stderr. Return the answer."""
    from chassis.wire.envelope import new_id

    check_key(key)
    chosen = key or new_id()
    with running.find(home).api_as(MEMBERS, person) as api:
        notify(f"Idempotency key: {chosen}")
        again = f"Repeat it safely: the same command with --idempotency-key {shlex.quote(chosen)}"
        with repeatable("Whether the request was accepted is unknown.", again):
            return api.call("POST", path, body=body, headers={"Idempotency-Key": chosen})
