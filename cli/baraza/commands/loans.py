"""``baraza loans``: loans, which two persons look at before anything is paid, and repayments from savings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from baraza.commands.deposits import line
from baraza.commands.options import Commands, Home, Json, check_reason
from baraza.commands.sacco_options import (
    MEMBERS,
    Amount,
    Key,
    Loan,
    Member,
    Person,
    Phone,
    Provider,
    Reason,
    choice_of,
    given,
    loan_of,
    member_of,
    minor_of,
    paged,
    ppm_of,
    put_fields,
    put_rows,
    submit,
)
from baraza.repetition import done
from baraza.system import running
from baraza.system.running import STAFF
from baraza.terminal import notify, put, put_json

app = Commands(no_args_is_help=True, help="Loans: applied for, appraised, approved by another person, paid out.")

MONTHS_MAX = 360
PARTS_MAX = 10_000
STATES = ("APPLIED", "APPRAISED", "REFUSED", "DISBURSING", "ACTIVE", "PAID")
LISTED = ("loan_id", "member_id", "state", "principal_minor", "balance_minor", "applied_at", "proposed_by",
          "approved_by")  # fmt: skip
SHOWN = (
    "loan_id", "member_id", "state", "principal_minor", "balance_minor", "interest_ppm", "term_months",
    "loan_fee_minor", "penalty_ppm", "phone", "provider", "short_code", "applied_by", "applied_at", "proposed_by",
    "proposal_reason", "proposed_at", "approved_by", "approval_reason", "approved_at", "ended_at",
)  # fmt: skip
PART = ("part", "state", "amount_minor", "generation", "receipt", "failure_reason", "ended_at", "saga_id")
REPAYMENT = ("id", "state", "loan_id", "amount_minor", "failure_reason", "requested_at", "ended_at")


@app.command("apply")
def apply(
    loan: Loan,
    member: Member,
    amount: Amount,
    interest: Annotated[
        str, typer.Option("--interest", metavar="PERCENT", help="A year's, such as 12.", show_default=False)
    ],
    months: Annotated[int, typer.Option("--months", min=1, max=MONTHS_MAX, help="Its term.", show_default=False)],
    fee: Annotated[
        str | None, typer.Option("--fee", metavar="KES", help="Of the loan; none by default.", show_default=False)
    ] = None,
    penalty: Annotated[str, typer.Option("--penalty", metavar="PERCENT", help="A year's, of what is late.")] = "0",
    phone: Phone = None,
    provider: Provider = None,
    person: Person = STAFF,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Apply for a loan under a number of your choice. The same application again is the same loan."""
    body = {
        "loan_id": loan_of(loan),
        "member_id": member_of(member),
        "principal_minor": minor_of(amount),
        "interest_ppm": ppm_of(interest, "--interest"),
        "term_months": months,
        "penalty_ppm": ppm_of(penalty, "--penalty"),
        "loan_fee_minor": 0 if fee is None else minor_of(fee, "--fee"),
    }
    with running.find(home).api_as(MEMBERS, person) as api:
        found = api.call("POST", "/v1/loans", body=body | given(phone=phone, provider=provider))
    with done(f"{found['loan_id']} is applied for all the same."):
        put_json(found) if as_json else put(_line(found))


@app.command("show")
def show(loan: Loan, home: Home = None, as_json: Json = False) -> None:
    """Show a loan with the parts in which it is paid out."""
    with running.find(home).api(MEMBERS) as api:
        found = api.get(f"/v1/loans/{loan_of(loan)}")
    if as_json:
        put_json(found)
        return
    put_fields(found, SHOWN)
    if found["parts"]:
        put_rows(found["parts"], PART, as_json=False)


@app.command("list")
def list_loans(
    member: Annotated[str | None, typer.Option("--member", help="Of this member only.", show_default=False)] = None,
    state: Annotated[
        str | None, typer.Option("--state", help=f"One of {', '.join(STATES)}.", show_default=False)
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List loans in the order of their numbers."""
    wanted = given(
        member_id=None if member is None else member_of(member),
        state=None if state is None else choice_of("--state", state, STATES),
    )
    with running.find(home).api(MEMBERS) as api:
        put_rows(list(paged(api, "/v1/loans", "loans", wanted, cursors={"next": "after"})), LISTED, as_json=as_json)


@app.command("appraise")
def appraise(loan: Loan, reason: Reason, person: Person = STAFF, home: Home = None, as_json: Json = False) -> None:
    """Propose that a loan is approved. Nothing is paid until another person approves it."""
    found = _decide("appraisal", loan, reason, person, home, as_json=as_json)
    if not as_json:
        notify(f'Another person approves it: ./baraza loans approve {found["loan_id"]} --by NAME --reason "…"')


@app.command("approve")
def approve(loan: Loan, reason: Reason, person: Person = STAFF, home: Home = None, as_json: Json = False) -> None:
    """Approve what another person appraised. It is paid out in parts, as much as a phone may receive in a day."""
    _decide("approval", loan, reason, person, home, as_json=as_json)


@app.command("refuse")
def refuse(loan: Loan, reason: Reason, person: Person = STAFF, home: Home = None, as_json: Json = False) -> None:
    """Refuse a loan that is not approved."""
    _decide("refusal", loan, reason, person, home, as_json=as_json)


def _decide(verb: str, loan: str, reason: str, person: str, home: Path | None, *, as_json: bool) -> Mapping[str, Any]:
    check_reason(reason)
    number = loan_of(loan)
    with running.find(home).api_as(MEMBERS, person) as api:
        found: Mapping[str, Any] = api.call("POST", f"/v1/loans/{number}/{verb}", body={"reason": reason})
    with done(f"The {verb} of {number} is stored all the same."):
        put_json(found) if as_json else put(_line(found))
    return found


@app.command("release")
def release(
    loan: Loan,
    part: Annotated[int, typer.Argument(metavar="PART", min=1, max=PARTS_MAX, show_default=False)],
    person: Person = STAFF,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Pay out a part that waits for its day, or one again whose payout is proven not paid."""
    number = loan_of(loan)
    with running.find(home).api_as(MEMBERS, person) as api:
        found = api.call("POST", f"/v1/loans/{number}/parts/{part}/release")
    with done(f"Part {part} of {number} is released all the same."):
        put_json(found) if as_json else put(_line(found))


@app.command("repay")
def repay(
    loan: Loan, member: Member, amount: Amount, key: Key = None, home: Home = None, as_json: Json = False
) -> None:
    """Repay a loan from savings: penalties, fees, interest, then principal. It is one booking."""
    body = {"member_id": member_of(member), "loan_id": loan_of(loan), "amount_minor": minor_of(amount)}
    found = submit("/v1/repayments", body, key, home)
    with done(f"The repayment was accepted all the same, as {found['id']}."):
        put_json(found) if as_json else put(line(found))


@app.command("repayments")
def repayments(member: Member, home: Home = None, as_json: Json = False) -> None:
    """List a member's repayments from savings, the newest first."""
    path = f"/v1/members/{member_of(member)}/repayments"
    with running.find(home).api(MEMBERS) as api:
        put_rows(list(paged(api, path, "repayments", {}, cursors={"next": "before"})), REPAYMENT, as_json=as_json)


def _line(found: Mapping[str, Any]) -> str:
    from baraza.commands.sacco_options import amount

    return f"{found['loan_id']}  {found['state']}  {amount(found['principal_minor'])}  member {found['member_id']}"
