"""``baraza statement``: the providers' statements, which alone prove what no callback has said; and claims on rows."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from baraza.commands.options import Commands, Home, Json, check_reason, order_id
from baraza.commands.sacco_options import (
    LISTED_MAX,
    MONEY,
    Person,
    Reason,
    choice_of,
    day_of,
    given,
    put_rows,
    receipt_of,
    short_code_of,
)
from baraza.repetition import done, repeatable
from baraza.storefront.tabular import unreadable
from baraza.system import running
from baraza.system.running import STAFF
from baraza.terminal import FOUND_A_PROBLEM, UsageRefusal, notify, put, put_json, stop

app = Commands(no_args_is_help=True, help="The providers' statements: imported, matched, and claimed from.")

FILE_BYTES_MAX = 33_554_432
"""As much as mobile-money takes."""
NAME_LENGTH_MAX = 200
ACCOUNTS, CLAIMED = ("UTILITY", "WORKING", "CHARGES"), ("UTILITY", "WORKING")
KINDS = ("IN", "OUT", "CHARGE", "REVERSAL", "TRANSFER")
MATCHES, CLAIM_STATES = ("LISTED", "MATCHED"), ("PROPOSED", "APPROVED", "REFUSED")
FILE = ("imported_at", "short_code", "account", "name", "begins_at", "ends_at", "rows", "new_rows", "gaps",
        "last_balance_minor", "imported_by")  # fmt: skip
ROW = ("completed_at", "short_code", "account", "kind", "receipt", "amount_minor", "reference", "reason", "saga_id")
CLAIM = ("claim_id", "state", "outcome", "saga_id", "short_code", "receipt", "account", "kind", "proposed_by", "reason")

File = Annotated[Path, typer.Argument(metavar="FILE", help="The statement's CSV; - for stdin.", show_default=False)]
ShortCode = Annotated[str, typer.Option("--short-code", help="Whose statement it is.", show_default=False)]
Claim = Annotated[str, typer.Argument(metavar="CLAIM", help="As `statement claims` shows it.", show_default=False)]


@app.command("import")
def import_statement(
    file: File,
    short_code: ShortCode,
    account: Annotated[str, typer.Option("--account", help="UTILITY, WORKING or CHARGES.", show_default=False)],
    day: Annotated[
        str | None,
        typer.Option("--day", metavar="DATE", help="It covers this whole day in Nairobi.", show_default=False),
    ] = None,
    person: Person = STAFF,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Import a statement. Its rows are receipts, outcomes and charges; importing it again changes nothing.

    Exit status 1 if the running balance has a gap: then nothing proves that a payment is absent.
    """
    wanted: dict[str, str | int] = {
        "short_code": short_code_of(short_code),
        "account": choice_of("--account", account, ACCOUNTS),
        "name": name_of(file),
    }
    wanted |= given(day=None if day is None else day_of(day))
    content = content_of(file)
    with (
        running.find(home).api_as(MONEY, person) as api,
        repeatable("Whether the statement was imported is unknown.", "Import it again: no row counts twice."),
    ):
        found = api.upload("/v1/statements", content, wanted)
    with done("The statement is imported all the same."):
        put_json(found) if as_json else put(_line(found))
    if found["gaps"]:
        notify("Its running balance has gaps: rows are missing in it. Export it again, and import that file.")
        stop(FOUND_A_PROBLEM)


def name_of(file: Path) -> str:
    """Return the name under which a file is recorded."""
    name = file.name.encode(errors="replace").decode() if str(file) != "-" else "stdin"
    return name[:NAME_LENGTH_MAX] or "statement.csv"


def content_of(file: Path) -> bytes:
    """Return a statement as it is, - for stdin. Raises UsageRefusal."""
    try:
        with nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb") as opened:
            content = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise unreadable(file, error) from error
    if len(content) > FILE_BYTES_MAX:
        raise UsageRefusal(f"{file} has more than {FILE_BYTES_MAX} bytes; import it in parts, such as by day.")
    if not content.strip():
        raise UsageRefusal(f"{file} is empty; expected a statement's CSV.")
    return content


def _line(found: Mapping[str, object]) -> str:
    before = " It was imported before." if found["is_repeated"] else ""
    return (
        f"{found['rows']} rows, {found['new_rows']} of them new: {found['matched']} matched, {found['listed']} listed, "
        f"{found['gaps']} gaps.{before}"
    )


@app.command("list")
def list_files(home: Home = None, as_json: Json = False) -> None:
    """List the files that were imported, the last one first."""
    _put_rows("/v1/statements", {"limit": LISTED_MAX}, FILE, home, as_json=as_json)


@app.command("rows")
def list_rows(
    match: Annotated[str, typer.Option("--match", help="LISTED matches nothing of ours; or MATCHED.")] = "LISTED",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List rows of statements: those that match nothing of ours, each with the reason."""
    wanted: dict[str, str | int] = {"match": choice_of("--match", match, MATCHES), "limit": LISTED_MAX}
    _put_rows("/v1/statement-rows", wanted, ROW, home, as_json=as_json)


@app.command("claim")
def claim(
    saga: Annotated[str, typer.Argument(metavar="SAGA", help="A payout in doubt.", show_default=False)],
    receipt: Annotated[str, typer.Option("--receipt", help="Of the row that proves it.", show_default=False)],
    short_code: ShortCode,
    reason: Reason,
    account: Annotated[str, typer.Option("--account", help="UTILITY or WORKING.")] = "UTILITY",
    person: Person = STAFF,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Propose that a payout in doubt is paid, by a row of a statement. Another person approves it."""
    check_reason(reason)
    body = {
        "saga_id": order_id(saga, "the id of a saga"),
        "receipt": receipt_of(receipt),
        "short_code": short_code_of(short_code),
        "account": choice_of("--account", account, CLAIMED),
        "reason": reason,
    }
    _propose("/v1/claims", body, person, home, as_json=as_json)


@app.command("booked")
def booked(
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="Of the row.", show_default=False)],
    posting: Annotated[
        str, typer.Option("--posting", metavar="POSTING", help="The manual posting that books it.", show_default=False)
    ],
    kind: Annotated[str, typer.Option("--kind", help=f"The row's: {', '.join(KINDS)}.", show_default=False)],
    short_code: ShortCode,
    reason: Reason,
    account: Annotated[str, typer.Option("--account", help="UTILITY, WORKING or CHARGES.")] = "UTILITY",
    person: Person = STAFF,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Propose that a row which matches nothing is booked by a manual posting. Another person approves it.

    Such a row is a transfer of float, for example. Once it is explained it keeps no day open.
    """
    check_reason(reason)
    body = {
        "posting_id": order_id(posting, "the id of a manual posting"),
        "receipt": receipt_of(receipt),
        "short_code": short_code_of(short_code),
        "account": choice_of("--account", account, ACCOUNTS),
        "kind": choice_of("--kind", kind, KINDS),
        "reason": reason,
    }
    _propose("/v1/claims/booked", body, person, home, as_json=as_json)


def _propose(path: str, body: Mapping[str, str], person: str, home: Path | None, *, as_json: bool) -> None:
    with running.find(home).api_as(MONEY, person) as api:
        found = api.call("POST", path, body=body)
    with done(f"It is claimed all the same, as {found['claim_id']}."):
        put_json(found) if as_json else put(f"{found['claim_id']}  PROPOSED")
        if not as_json:
            notify(f"Another person approves it: ./baraza statement approve {found['claim_id']} --by NAME")


@app.command("claims")
def list_claims(
    state: Annotated[str, typer.Option("--state", help=f"One of {', '.join(CLAIM_STATES)}.")] = CLAIM_STATES[0],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List claims, the oldest first."""
    wanted: dict[str, str | int] = {"state": choice_of("--state", state, CLAIM_STATES), "limit": LISTED_MAX}
    _put_rows("/v1/claims", wanted, CLAIM, home, as_json=as_json)


@app.command("approve")
def approve(claim_id: Claim, person: Person = STAFF, home: Home = None) -> None:
    """Approve another person's claim: it is evidence that a payout is paid, or a row is matched with its posting."""
    _decide(claim_id, "APPROVED", person, home)


@app.command("refuse")
def refuse(claim_id: Claim, person: Person = STAFF, home: Home = None) -> None:
    """Refuse a claim. The payout stays in doubt, or the row without a match."""
    _decide(claim_id, "REFUSED", person, home)


def _decide(claim_id: str, decision: str, person: str, home: Path | None) -> None:
    name = order_id(claim_id, "a claim's id")
    with running.find(home).api_as(MONEY, person) as api:
        api.call("POST", f"/v1/claims/{name}", body={"decision": decision})
    with done(f"{name} is {decision} all the same."):
        put(f"{name}  {decision}")


def _put_rows(
    path: str, wanted: Mapping[str, str | int], columns: tuple[str, ...], home: Path | None, *, as_json: bool
) -> None:
    from baraza.system.client import objects

    with running.find(home).api(MONEY) as api:
        put_rows(objects(api.get(path, wanted), "rows"), columns, as_json=as_json)
