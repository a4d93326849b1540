"""``baraza withdrawals``: savings that are paid to members' phones."""

from __future__ import annotations

from typing import Annotated

import typer

from baraza.commands.deposits import line
from baraza.commands.options import Commands, Home, Json, check_reason, command, order_id
from baraza.commands.sacco_options import (
    MEMBERS,
    Amount,
    Key,
    Member,
    Phone,
    Provider,
    Reason,
    given,
    member_of,
    minor_of,
    paged,
    put_fields,
    put_rows,
    submit,
)
from baraza.repetition import done
from baraza.system import running
from baraza.terminal import put, put_json

app = Commands(no_args_is_help=True, help="Savings that are paid to members' phones. Nothing can take a payout back.")

Withdrawal = Annotated[
    str, typer.Argument(metavar="WITHDRAWAL", help="Its id, as `request` printed it.", show_default=False)
]
LISTED = ("id", "state", "amount_minor", "fee_minor", "excise_minor", "phone", "receipt", "requested_at", "ended_at")
SHOWN = (
    "id", "state", "advice", "member_id", "amount_minor", "fee_minor", "excise_minor", "phone", "provider",
    "short_code", "receipt", "failure_cause", "failure_reason", "requested_at", "cancellation_requested_at", "ended_at",
)  # fmt: skip


@app.command("request")
def request(
    member: Member,
    amount: Amount,
    phone: Phone = None,
    provider: Provider = None,
    key: Key = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Pay savings to one of the member's phones. The money is held until the outcome is proven."""
    body = {"member_id": member_of(member), "amount_minor": minor_of(amount)}
    found = submit("/v1/withdrawals", body | given(phone=phone, provider=provider), key, home)
    with done(f"The withdrawal was accepted all the same, as {found['id']}."):
        put_json(found) if as_json else put(line(found))


@app.command("show")
def show(withdrawal: Withdrawal, home: Home = None, as_json: Json = False) -> None:
    """Show a withdrawal as it stands, and whether it may be requested again."""
    with running.find(home).api(MEMBERS) as api:
        found = api.get(f"/v1/withdrawals/{order_id(withdrawal, 'the id of a withdrawal')}")
    put_json(found) if as_json else put_fields(found, SHOWN)


@app.command("list")
def list_withdrawals(member: Member, home: Home = None, as_json: Json = False) -> None:
    """List a member's withdrawals, the newest first."""
    path = f"/v1/members/{member_of(member)}/withdrawals"
    with running.find(home).api(MEMBERS) as api:
        put_rows(list(paged(api, path, "withdrawals", {}, cursors={"next": "before"})), LISTED, as_json=as_json)


@app.command("cancel")
def cancel(withdrawal: Withdrawal, reason: Reason, home: Home = None, as_json: Json = False) -> None:
    """Request the cancellation of a withdrawal. What the provider may have taken already is proven first."""
    check_reason(reason)
    name = order_id(withdrawal, "the id of a withdrawal")
    with running.find(home).api(MEMBERS) as api:
        found = api.call("POST", f"/v1/withdrawals/{name}/cancellation", body={"reason": reason})
    see = command("withdrawals", "show", name, home=home)
    with done(f"The cancellation of {name} was requested all the same. See what became of it: {see}"):
        put_json(found) if as_json else put(line(found))
