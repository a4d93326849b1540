"""``baraza members``: members, their accounts and their statements."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from baraza.commands.ledger import cell_of
from baraza.commands.options import Commands, Home, Json, check_reason
from baraza.commands.sacco_options import (
    LEDGER,
    MEMBERS,
    Member,
    Person,
    Reason,
    amount,
    choice_of,
    given,
    member_of,
    paged,
    put_fields,
    put_rows,
)
from baraza.repetition import done, repeatable
from baraza.storefront import tabular
from baraza.storefront.inputs import rereadable
from baraza.storefront.tabular import Column
from baraza.system import running
from baraza.system.running import STAFF
from baraza.terminal import notify, progress, put, put_json, put_table

app = Commands(no_args_is_help=True, help="Members of the SACCO, their accounts and their statements.")

BATCH = 200
"""Members of one bulk request, as the API allows."""
NAME_LENGTH_MAX, ID_LENGTH_MAX, PHONE_LENGTH_MAX = 128, 16, 32
OPENING_MAX = 100_000_000_000
COLUMNS = (
    Column(name="member_id", parse=tabular.key(ID_LENGTH_MAX), expects="3 to 16 letters and digits"),
    Column(name="name", parse=tabular.name(NAME_LENGTH_MAX), expects=f"a name of 1 to {NAME_LENGTH_MAX} characters"),
    Column(name="phone", parse=tabular.name(PHONE_LENGTH_MAX), expects="a phone, such as 0712345678"),
    Column(name="opening_shares_minor", parse=tabular.whole_number(OPENING_MAX), expects="cents, from 0"),
    Column(name="opening_deposits_minor", parse=tabular.whole_number(OPENING_MAX), expects="cents, from 0"),
)
ACCOUNTS = ("fosa", "deposits", "shares", "dividends_payable", "member_receivable")
STATUSES = ("ACTIVE", "DORMANT", "BLOCKED", "DECEASED")
KINDS = ("SAVINGS", "DEPOSITS", "SHARES")
LISTED = ("member_id", "name", "state", "status", "phone")
SHOWN = (
    "member_id", "name", "state", "status", "status_reason", "phone", "language", "policy", "destination",
    "day_max_minor", "failure_reason", "registered_at", "onboarded_at",
)  # fmt: skip
LINE = ("booked_at", "effective_at", "amount", "balance", "reference", "step", "saga_id")
OWED = ("penalties", "fees", "interest", "principal")

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="A CSV file with a header line; - for stdin.", show_default=False)
]
AccountName = Annotated[str, typer.Option("--account", help=f"One of {', '.join(ACCOUNTS)}.")]


@app.command("load")
def load(file: File, person: Person = STAFF, home: Home = None, as_json: Json = False) -> None:
    """Register members (CSV: member_id, name, phone, opening_shares_minor, opening_deposits_minor).

    Loading a file again registers no member twice. A number that is another member's is refused.
    """
    with rereadable(file) as found:
        read = partial(tabular.records, found.path, COLUMNS, key="member_id", name=found.name)
        total = sum(1 for _ in read())
        registered, known = _register(read(), total, person, home)
    if as_json:
        put_json({"members": total, "registered": registered, "known": known})
    else:
        notify(f"Registered {registered} members; {known} were registered before. Their accounts are being opened.")


def _register(records: Iterator[Mapping[str, Any]], total: int, person: str, home: Path | None) -> tuple[int, int]:
    registered = known = 0
    with running.find(home).api_as(MEMBERS, person) as api, progress("Members", total) as advance:
        again = "Load the file again: members who are registered are not registered twice."
        with repeatable("Whether the last members were registered is unknown.", again):
            while batch := list(itertools.islice(records, BATCH)):
                answer = api.call("POST", "/v1/members/bulk", body=batch)
                registered, known = registered + answer["registered"], known + answer["known"]
                advance(len(batch))
    return registered, known


@app.command("list")
def list_members(
    state: Annotated[
        str | None, typer.Option("--state", help="REGISTERED, ACTIVE or FAILED.", show_default=False)
    ] = None,
    status: Annotated[
        str | None, typer.Option("--status", help=f"One of {', '.join(STATUSES)}.", show_default=False)
    ] = None,
    phone: Annotated[str | None, typer.Option("--phone", help="Whose phone it is.", show_default=False)] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List members in the order of their numbers."""
    wanted = given(
        state=None if state is None else choice_of("--state", state, ("REGISTERED", "ACTIVE", "FAILED")),
        status=None if status is None else choice_of("--status", status, STATUSES),
        phone=phone,
    )
    with running.find(home).api(MEMBERS) as api:
        put_rows(list(paged(api, "/v1/members", "members", wanted, cursors={"next": "after"})), LISTED, as_json=as_json)


@app.command("show")
def show(member: Member, home: Home = None, as_json: Json = False) -> None:
    """Show a member, the balances of its accounts, and what is owed of its loans."""
    number, stack = member_of(member), running.find(home)
    with stack.api(MEMBERS) as api:
        found = api.get(f"/v1/members/{number}")
    books = _books(stack, number)
    if as_json:
        put_json({**found, "books": books})
        return
    put_fields(found, SHOWN)
    put_table(("account", "balance"), _balances(books), right=("balance",))
    for loan in books["loans"]:
        owed = ", ".join(f"{part} {amount(loan['owed'][part])}" for part in OWED)
        put(f"{loan['loan_id']}  {loan['state']}  owed: {owed}")


def _books(stack: running.Running, number: str) -> Mapping[str, Any]:
    """Return what the ledger has of a member: nothing, while no account of a new one is open."""
    from baraza.system.client import Refused

    missing = 404
    with stack.api(LEDGER) as api:
        try:
            found: Mapping[str, Any] = api.get(f"/v1/members/{number}/accounts")
        except Refused as error:
            if error.status != missing:
                raise
            return {"accounts": [], "loans": []}
    return found


def _balances(books: Mapping[str, Any]) -> list[Sequence[str]]:
    return [(each["code"], amount(each["balance"], each["currency"])) for each in books["accounts"]]


@app.command("statement")
def statement(
    member: Member,
    account: AccountName = "fosa",
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="With its zone.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="With its zone.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write the statement of a member's account, the newest line first. The account fosa is the savings."""
    wanted = given(account=choice_of("--account", account, tuple(map(str.upper, ACCOUNTS))).lower(), since=since)
    wanted |= given(until=until, limit=100)
    path = f"/v1/members/{member_of(member)}/statement"
    with running.find(home).api(LEDGER) as api:
        lines = list(paged(api, path, "lines", wanted, cursors={"next_cursor": "cursor"}))
    if as_json:
        for each in lines:
            put_json(each)
        return
    money = ("amount", "balance")
    rows = [[amount(each[name]) if name in money else cell_of(each[name]) for name in LINE] for each in lines]
    put_table(LINE, rows, right=money)


@app.command("status")
def change_status(
    member: Member,
    status: Annotated[str, typer.Argument(metavar="STATUS", help=f"One of {', '.join(STATUSES)}.")],
    reason: Reason,
    account: Annotated[
        str | None,
        typer.Option("--account", help="Only SAVINGS, DEPOSITS or SHARES; the member by default.", show_default=False),
    ] = None,
    person: Person = STAFF,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Change the status of a member or of one account. What is not ACTIVE pays nothing, and receipts for it wait."""
    check_reason(reason)
    number = member_of(member)
    body = {"status": choice_of("STATUS", status, STATUSES), "reason": reason}
    body |= {} if account is None else {"account": choice_of("--account", account, KINDS)}
    with running.find(home).api_as(MEMBERS, person) as api:
        found = api.call("POST", f"/v1/members/{number}/status", body=body)
    with done(f"The status of {number} is changed all the same."):
        put_json(found) if as_json else put_fields(found, SHOWN)
