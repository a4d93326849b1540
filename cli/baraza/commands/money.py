"""``baraza money``: what is in doubt, what is unallocated, and what persons decide about it.

In doubt is money whose outcome is not proven. It is held until it is proven: no command here ends a doubt.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza.commands.options import SECONDS_MAX, Commands, Home, Json, check_reason, finite, order_id
from baraza.commands.sacco_options import (
    LISTED_MAX,
    MEMBERS,
    MONEY,
    Member,
    Person,
    Reason,
    Receipt,
    ShortCode,
    age,
    amount,
    choice_of,
    given,
    member_of,
    paged,
    put_rows,
    receipt_of,
    short_code_of,
)
from baraza.repetition import done
from baraza.system import running
from baraza.system.running import STAFF
from baraza.terminal import FOUND_A_PROBLEM, notify, put, put_json, put_table, stop

if TYPE_CHECKING:
    from baraza.system.client import Api

app = Commands(no_args_is_help=True, help="Money in doubt and unallocated, lanes and float, and who decides.")

MISSING = 404
IN_DOUBT = ("since", "age", "whose", "phone", "amount", "step", "state", "sent", "queried", "next look", "saga")
UNALLOCATED = ("receipt", "age", "amount", "reason", "reference", "hint", "short code", "saga")
PROPOSAL = ("proposal_id", "kind", "receipt", "state", "member_id", "proposed_by", "reason", "decided_by", "outcome")
LANE = ("short_code", "name", "state", "reason", "changed_by", "since")
FLOAT = ("short_code", "utility_minor", "reserved_minor", "members_reserve_minor", "working_minor", "charges_minor",
         "told_at")  # fmt: skip
CALLBACK = ("received_at", "kind", "fate", "reason", "saga_id", "receipt", "remote", "id")
QUESTION = ("queried_at", "kind", "answered_at", "answer")
ROW = ("completed_at", "account", "kind", "receipt", "amount_minor", "match", "reason")
MONEY_RECEIPT = ("receipt", "state", "door", "amount_minor", "reference", "completed_at", "received_at", "saga_id")
FATES = ("APPLIED", "DUPLICATE", "ORPHAN", "REFUSED", "LATE")
LANES, LANE_STATES = ("MEMBERS", "BULK"), ("OPEN", "PAUSED")
PROPOSAL_STATES = ("PROPOSED", "APPROVED", "REFUSED")
ASKS_NO_MORE = frozenset({"SENT", "UNSURE"})
"""States of a step that has been sent; without a next look in one of these, nothing looks for its outcome."""

Proposal = Annotated[
    str, typer.Argument(metavar="PROPOSAL", help="Its id, as `money proposals` shows it.", show_default=False)
]
SagaId = Annotated[str, typer.Argument(metavar="SAGA", help="As `money in-doubt` shows it.", show_default=False)]


@app.command("in-doubt")
def in_doubt(
    older_than: Annotated[
        float,
        typer.Option("--older-than", metavar="SECONDS", min=0, max=SECONDS_MAX, callback=finite, help="Only these."),
    ] = 0.0,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List money whose outcome is not proven: whose, how much, since when, the queries, and the next look.

    Exit status 1 if nothing looks for the outcome of one of them any more.
    """
    from baraza.system.client import objects

    now = datetime.now(UTC)
    before = (now - timedelta(seconds=older_than)).isoformat().replace("+00:00", "Z")
    with running.find(home).api(MONEY) as api:
        answer = api.get("/v1/money/in-doubt", given(limit=LISTED_MAX, before=before if older_than else None))
    found = objects(answer, "in_doubt")
    if as_json:
        for each in found:
            put_json(each)
    else:
        put_table(IN_DOUBT, [doubt_row(each, now) for each in found], right=("age", "amount", "sent", "queried"))
    if len(found) >= LISTED_MAX:
        notify(f"Only the oldest {LISTED_MAX} are listed.")
    if unwatched := [each for each in found if each["state"] in ASKS_NO_MORE and each["next_look_at"] is None]:
        notify(f"{len(unwatched)} have no next look. Only a statement can prove them: ./baraza statement import FILE")
        stop(FOUND_A_PROBLEM)


def doubt_row(each: Mapping[str, Any], now: datetime) -> tuple[Any, ...]:
    """Return the cells of money in doubt."""
    next_look = each["next_look_at"]
    if next_look is None:
        next_look = "when its lane opens" if each["state"] == "PAUSED" else "none"
    return (
        each["since"],
        age(seconds_since(each["since"], now)),
        each["member_id"],
        each["phone"],
        amount(each["amount_minor"], each["currency"]),
        each["step"],
        each["state"],
        each["sends"],
        _queried(each["queries"], each["queried_at"]),
        next_look,
        each["saga_id"],
    )


def _queried(count: int, last_at: str | None) -> str:
    """Return how often a provider was queried. One that answers at once leaves no question whose time is known."""
    if not count:
        return "never"
    return str(count) if last_at is None else f"{count}, last {last_at}"


def seconds_since(time: Any, now: datetime) -> float | None:
    """Return how long ago a time in an answer was; None for what is no time."""
    try:
        return (now - datetime.fromisoformat(time)).total_seconds()
    except (TypeError, ValueError):
        return None


@app.command("unallocated")
def unallocated(home: Home = None, as_json: Json = False) -> None:
    """List receipts that wait for a person: why, for how long, and whose phone the payer's may be (a hint)."""
    wanted: dict[str, str | int] = {"state": "SUSPENSE"}
    cursors = {"next_at": "after_at", "next": "after"}
    with running.find(home).api(MEMBERS) as api:
        found = list(paged(api, "/v1/receipts", "receipts", wanted, cursors=cursors))
    if as_json:
        for each in found:
            put_json(each)
        return
    rows = [
        (
            each["receipt"], age(each["waiting_s"]), amount(each["amount_minor"], each["currency"]), each["reason"],
            each["reference"], each["hint_member_id"], each["short_code"], each["saga_id"],
        )
        for each in found
    ]  # fmt: skip
    put_table(UNALLOCATED, rows, right=("age", "amount"))
    if found:
        notify('Say whose one is: ./baraza money assign RECEIPT MEMBER --reason "…"; or: money return RECEIPT')


@app.command("assign")
def assign(
    receipt: Receipt,
    member: Member,
    reason: Reason,
    target: Annotated[
        str, typer.Option("--target", help="SAVINGS, DEPOSITS, SHARES or a loan; the member's policy by default.")
    ] = "",
    short_code: ShortCode = None,
    person: Person = STAFF,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Propose whose an unallocated receipt is. Nothing is booked until another person approves it."""
    body = {"member_id": member_of(member), "target": target.strip().upper(), "reason": reason}
    _propose("assignments", receipt, body, short_code, person, home, as_json=as_json)


@app.command("return")
def return_receipt(
    receipt: Receipt,
    reason: Reason,
    short_code: ShortCode = None,
    person: Person = STAFF,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Propose that a receipt goes back to its payer. What is credited already is taken from the member's savings."""
    _propose("returns", receipt, {"reason": reason}, short_code, person, home, as_json=as_json)


def _propose(
    kind: str,
    receipt: str,
    body: dict[str, Any],
    short_code: str | None,
    person: str,
    home: Path | None,
    *,
    as_json: bool,
) -> None:
    check_reason(body["reason"])
    code = None if short_code is None else short_code_of(short_code)
    path = f"/v1/receipts/{receipt_of(receipt)}/{kind}"
    with running.find(home).api_as(MEMBERS, person) as api:
        found = api.call("POST", path, body=body | given(short_code=code))
    with done(f"It is proposed all the same, as {found['proposal_id']}."):
        put_json(found) if as_json else put(f"{found['proposal_id']}  {found['state']}")
        if not as_json:
            notify(f'Another person approves it: ./baraza money approve {found["proposal_id"]} --by NAME --reason "…"')


@app.command("proposals")
def proposals(
    state: Annotated[
        str, typer.Option("--state", help=f"One of {', '.join(PROPOSAL_STATES)}.", show_default=True)
    ] = PROPOSAL_STATES[0],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List what is proposed about receipts: assignments and returns, in the order in which they were proposed."""
    wanted: dict[str, str | int] = {"state": choice_of("--state", state, PROPOSAL_STATES), "limit": 500}
    found = list[dict[str, Any]]()
    with running.find(home).api(MEMBERS) as api:
        for kind in ("assignments", "returns"):
            found += [{**each, "kind": kind.removesuffix("s")} for each in _all(api, f"/v1/{kind}", wanted)]
    put_rows(found, PROPOSAL, as_json=as_json)


def _all(api: Api, path: str, wanted: Mapping[str, str | int]) -> list[Mapping[str, Any]]:
    """Return every object of a list that is continued after the id of the last one."""
    found, params = list[Mapping[str, Any]](), dict(wanted)
    while page := api.listed(path, params):
        found += page
        if len(page) < int(params["limit"]):
            break
        params["after"] = str(page[-1]["proposal_id"])
    return found


@app.command("approve")
def approve(
    proposal: Proposal, reason: Reason, person: Person = STAFF, home: Home = None, as_json: Json = False
) -> None:
    """Approve what another person proposed about a receipt. Its saga begins."""
    _decide("approval", proposal, reason, person, home, as_json=as_json)


@app.command("refuse")
def refuse(
    proposal: Proposal, reason: Reason, person: Person = STAFF, home: Home = None, as_json: Json = False
) -> None:
    """Refuse a proposal about a receipt, or withdraw one's own. The receipt stays what it is."""
    _decide("refusal", proposal, reason, person, home, as_json=as_json)


def _decide(verb: str, proposal: str, reason: str, person: str, home: Path | None, *, as_json: bool) -> None:
    check_reason(reason)
    name = order_id(proposal, "a proposal's id")
    with running.find(home).api_as(MEMBERS, person) as api:
        found = api.call("POST", f"/v1/{_kind_of(api, name)}/{name}/{verb}", body={"reason": reason})
    with done(f"The {verb} of {name} is stored all the same."):
        put_json(found) if as_json else put(f"{found['proposal_id']}  {found['state']}")


def _kind_of(api: Api, proposal_id: str) -> str:
    """Return which kind of proposal has this id."""
    from baraza.system.client import Refused

    try:
        api.get(f"/v1/assignments/{proposal_id}")
    except Refused as error:
        if error.status != MISSING:
            raise
        return "returns"
    return "assignments"


@app.command("evidence")
def evidence(saga: SagaId, home: Home = None, as_json: Json = False) -> None:
    """Show what speaks about one saga's money: callbacks, queries to the provider, rows of statements."""
    from baraza.system.client import objects

    with running.find(home).api(MONEY) as api:
        found = api.get(f"/v1/money/{order_id(saga, 'the id of a saga')}/evidence")
    if as_json:
        put_json(found)
        return
    for name, columns in (("callbacks", CALLBACK), ("questions", QUESTION), ("statement_rows", ROW)):
        listed = objects(found, name)
        notify(f"{len(listed)} {name.replace('_', ' ')}")
        if listed:
            put_rows(listed, columns, as_json=False)


@app.command("callbacks")
def callbacks(
    fate: Annotated[str, typer.Option("--fate", help=f"One of {', '.join(FATES)}.")] = "ORPHAN",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List callbacks by what became of them. ORPHAN: of no request of ours. --json has their bodies."""
    wanted: dict[str, str | int] = {"fate": choice_of("--fate", fate, FATES), "limit": LISTED_MAX}
    _put_rows("/v1/money-callbacks", wanted, CALLBACK, home, as_json=as_json)


@app.command("receipts")
def receipts(
    state: Annotated[
        str, typer.Option("--state", help="UNCONFIRMED waits for the provider; FAILED can be reopened.")
    ] = "UNCONFIRMED",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List receipts that are not credited yet, as mobile-money has them."""
    wanted: dict[str, str | int] = {
        "state": choice_of("--state", state, ("UNCONFIRMED", "FAILED")),
        "limit": LISTED_MAX,
    }
    _put_rows("/v1/receipts", wanted, MONEY_RECEIPT, home, as_json=as_json)


@app.command("reopen")
def reopen(saga: SagaId, person: Person = STAFF, home: Home = None, as_json: Json = False) -> None:
    """Begin the saga of a receipt again that was stopped before it was recorded. Its money is here."""
    name = order_id(saga, "the id of a saga")
    with running.find(home).api_as(MONEY, person) as api:
        found = api.call("POST", f"/v1/receipts/{name}/reopen")
    with done(f"The receipt of {name} is reopened all the same."):
        put_json(found) if as_json else put(f"{name}  reopened as {found['saga_id']}")


@app.command("lanes")
def lanes(home: Home = None, as_json: Json = False) -> None:
    """List the lanes that were ever paused. One that is paused sends nothing, and what waits for it is kept."""
    _put_rows("/v1/lanes", {}, LANE, home, as_json=as_json)


@app.command("lane")
def change_lane(
    short_code: Annotated[str, typer.Argument(metavar="SHORT_CODE", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="LANE", help="MEMBERS or BULK.", show_default=False)],
    state: Annotated[str, typer.Argument(metavar="STATE", help="OPEN or PAUSED.", show_default=False)],
    reason: Reason,
    person: Person = STAFF,
    home: Home = None,
) -> None:
    """Open or pause a lane of a short code. What waits for one that is opened goes on at once."""
    check_reason(reason)
    lane, wanted = choice_of("LANE", name, LANES), choice_of("STATE", state, LANE_STATES)
    code = short_code_of(short_code)
    with running.find(home).api_as(MONEY, person) as api:
        api.call("POST", f"/v1/lanes/{code}/{lane}", body={"state": wanted, "reason": reason})
    with done(f"The lane {code}:{lane} is {wanted} all the same."):
        put(f"{code}:{lane}  {wanted}")


@app.command("floats")
def floats(home: Home = None, as_json: Json = False) -> None:
    """List the balances that the providers have shown, what is reserved of them, and what is kept for members."""
    _put_rows("/v1/floats", {}, FLOAT, home, as_json=as_json)


def _put_rows(
    path: str, wanted: Mapping[str, str | int], columns: tuple[str, ...], home: Path | None, *, as_json: bool
) -> None:
    from baraza.system.client import objects

    with running.find(home).api(MONEY) as api:
        put_rows(objects(api.get(path, wanted), "rows"), columns, as_json=as_json)
