"""``baraza deposits``: prompts to pay on a phone, and receipts of money that came."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from baraza.commands.options import Commands, Home, Json, order_id
from baraza.commands.sacco_options import (
    MEMBERS,
    MONEY,
    Amount,
    Key,
    Member,
    Person,
    Phone,
    Provider,
    Receipt,
    ShortCode,
    given,
    member_of,
    minor_of,
    paged,
    put_fields,
    put_rows,
    receipt_of,
    short_code_of,
    submit,
)
from baraza.repetition import done
from baraza.system import running
from baraza.system.running import STAFF
from baraza.terminal import notify, put, put_json

app = Commands(no_args_is_help=True, help="Money that members pay in: prompts on phones, and receipts.")

Deposit = Annotated[str, typer.Argument(metavar="DEPOSIT", help="Its id, as `request` printed it.", show_default=False)]
Target = Annotated[
    str,
    typer.Option("--target", help="SAVINGS, DEPOSITS, SHARES or a loan; the member's policy by default."),
]
PROMPT = ("id", "state", "amount_minor", "phone", "reference", "receipt", "requested_at", "ended_at")
SHOWN = (
    "id", "state", "advice", "member_id", "amount_minor", "received_minor", "phone", "provider", "short_code",
    "reference", "target", "receipt", "failure", "failure_detail", "requested_at", "ended_at",
)  # fmt: skip
RECEIPT = ("receipt", "state", "reason", "amount_minor", "reference", "completed_at")
RECEIPT_SHOWN = (
    "receipt", "state", "reason", "amount_minor", "member_id", "hint_member_id", "provider", "short_code", "reference",
    "collection_id", "policy", "policy_version", "completed_at", "recorded_at", "ended_at", "saga_id",
)  # fmt: skip


@app.command("request")
def request(
    member: Member,
    amount: Amount,
    phone: Phone = None,
    target: Target = "",
    provider: Provider = None,
    key: Key = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Prompt a phone to pay. A prompt credits nothing: money is credited when its receipt comes."""
    body = {"member_id": member_of(member), "amount_minor": minor_of(amount), "target": target.strip().upper()}
    found = submit("/v1/collections", body | given(phone=phone, provider=provider), key, home)
    with done(f"The prompt was accepted all the same, as {found['id']}."):
        put_json(found) if as_json else put(line(found))


@app.command("show")
def show(deposit: Deposit, home: Home = None, as_json: Json = False) -> None:
    """Show a prompt as it stands, and whether it may be requested again."""
    with running.find(home).api(MEMBERS) as api:
        found = api.get(f"/v1/collections/{order_id(deposit, 'the id of a deposit')}")
    put_json(found) if as_json else put_fields(found, SHOWN)


@app.command("list")
def list_prompts(member: Member, home: Home = None, as_json: Json = False) -> None:
    """List a member's prompts, the newest first."""
    path = f"/v1/members/{member_of(member)}/collections"
    with running.find(home).api(MEMBERS) as api:
        put_rows(list(paged(api, path, "collections", {}, cursors={"next": "before"})), PROMPT, as_json=as_json)


@app.command("receipts")
def list_receipts(member: Member, home: Home = None, as_json: Json = False) -> None:
    """List the receipts that were credited to a member, the oldest first."""
    wanted: dict[str, str | int] = {"member_id": member_of(member)}
    cursors = {"next_at": "after_at", "next": "after"}
    with running.find(home).api(MEMBERS) as api:
        put_rows(list(paged(api, "/v1/receipts", "receipts", wanted, cursors=cursors)), RECEIPT, as_json=as_json)


@app.command("receipt")
def show_receipt(receipt: Receipt, short_code: ShortCode = None, home: Home = None, as_json: Json = False) -> None:
    """Show a receipt: whose it is, where its parts went, and by which version of which policy."""
    with running.find(home).api(MEMBERS) as api:
        found = api.get(f"/v1/receipts/{receipt_of(receipt)}", given(short_code=_code(short_code)))
    if as_json:
        put_json(found)
        return
    put_fields(found, RECEIPT_SHOWN)
    for each in found["allocations"]:
        put("  " + "  ".join(f"{name} {value}" for name, value in each.items() if value is not None))


@app.command("enter")
def enter(
    short_code: Annotated[str, typer.Argument(metavar="SHORT_CODE", help="That was paid.", show_default=False)],
    receipt: Receipt,
    amount: Amount,
    at: Annotated[
        str,
        typer.Option("--at", metavar="TIME", help="With its zone: 2026-11-21T10:00:00+03:00.", show_default=False),
    ],
    reference: Annotated[
        str | None, typer.Option("--reference", help="What the payer typed.", show_default=False)
    ] = None,
    person: Person = STAFF,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Enter a receipt from a member's phone that nothing has brought. It counts once the provider confirms it."""
    number = receipt_of(receipt)
    body = {"receipt": number, "amount_minor": minor_of(amount), "completed_at": at} | given(reference=reference)
    with running.find(home).api_as(MONEY, person) as api:
        found: Any = api.call("POST", f"/v1/receipts/{short_code_of(short_code)}", body=body)
    with done(f"{number} was entered all the same."):
        put_json(found) if as_json else put(f"{number}  entered, saga {found['saga_id']}")
        notify("Nothing is credited until the provider confirms it.")


def line(found: Any) -> str:
    """Return a request in one line, with the advice that is shown to its member."""
    return f"{found['id']}  {found['state']}  {found['advice']}"


def _code(short_code: str | None) -> str | None:
    return None if short_code is None else short_code_of(short_code)
