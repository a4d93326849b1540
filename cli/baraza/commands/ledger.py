"""``baraza ledger``: accounts, balances, statements and trial balances, and whether any row was changed by hand."""

from __future__ import annotations

import csv
import itertools
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza.commands.options import Home, Json, check_reason, order_id
from baraza.system import running
from baraza.system.running import STAFF
from baraza.terminal import FOUND_A_PROBLEM, UsageRefusal, notify, put, put_json, put_table, stop
from ledger.model.paging import PAGE_MAX

if TYPE_CHECKING:
    from baraza.system.client import Api

app = typer.Typer(no_args_is_help=True, help="Accounts, statements, and proof that nothing was changed by hand.")

PAGE = PAGE_MAX
ACCOUNT = ("account", "kind", "currency", "floor", "ceiling", "is_closed", "opened_at")
LINE = ("booked_at", "effective_at", "amount", "kind", "is_hold", "is_late", "reference", "saga_id", "step")
POSTING = (
    "posting_id", "state", "reason", "proposed_by", "proposed_at", "decided_by", "decided_at", "decision_reason",
    "outcome",
)  # fmt: skip
AMOUNT = re.compile(r"-?[0-9]+")
FORMULA = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
"""What a spreadsheet takes for the beginning of a formula: also behind blanks, and in full width."""
TRIAL = ("code", "currency", "debits", "credits", "debits_at_close", "credits_at_close")

Account = Annotated[
    str,
    typer.Argument(metavar="ACCOUNT", help="chart:code:currency, or chart:code:owner:currency.", show_default=False),
]
Chart = Annotated[str, typer.Option("--chart", help="shop, merchants or sacco.", show_default=False)]
Csv = Annotated[bool, typer.Option("--csv", help="Write CSV to stdout, for spreadsheets.")]
At = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="TIME", help="With its zone: 2026-11-21T10:00:00Z. Now by default.", show_default=False
    ),
]
Effective = Annotated[bool, typer.Option("--effective", help="By the value date instead of the booking.")]
Day = Annotated[str, typer.Option("--day", metavar="DATE", help="2026-11-21, in the chart's zone.", show_default=False)]
Entries = Annotated[
    list[str],
    typer.Argument(
        metavar="ACCOUNT=AMOUNT...", help="Minor units; a debit is positive. They sum to 0.", show_default=False
    ),
]
Posting = Annotated[str, typer.Argument(metavar="POSTING", help="As `propose` printed it.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", help="Kept for good.", show_default=False)]
Person = Annotated[
    str, typer.Option("--by", metavar="NAME", help="Who acts; the development issuer believes every name.")
]
Key = Annotated[
    str | None, typer.Option("--idempotency-key", help="To repeat a call safely; made by default.", show_default=False)
]
Heads = Annotated[
    str | None,
    typer.Option(
        "--heads", help="Heads as a DayClosed event has them, kept outside of the ledger.", show_default=False
    ),
]


@app.command("accounts")
def accounts(
    chart: Annotated[str | None, typer.Option("--chart", help="Of this chart only.", show_default=False)] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="Of this owner only.", show_default=False)] = None,
    as_csv: Csv = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List accounts in the order in which they were opened."""
    wanted = {name: value for name, value in (("chart", chart), ("owner", owner)) if value is not None}
    with running.find(home).api("ledger") as api:
        _show(_pages(api, "/v1/accounts", "accounts", wanted), ACCOUNT, as_csv=as_csv, as_json=as_json)


@app.command("balance")
def balance(
    account: Account, at: At = None, effective: Effective = False, home: Home = None, as_json: Json = False
) -> None:
    """Show an account's balance, now or at any time."""
    params = {"by": "effective" if effective else "booked", **({} if at is None else {"at": at})}
    with running.find(home).api("ledger") as api:
        found = api.get(f"/v1/accounts/{_segment(account)}/balance", params)
    if as_json:
        put_json(found)
        return
    held = "" if found["available"] is None else f", {found['available']} available"
    changing = "" if at is None or found["is_final"] else "; it may still change"
    put(f"{found['account']}: {found['posted']} {found['currency']} in minor units{held}{changing}")


@app.command("entries")
def entries(account: Account, as_csv: Csv = False, home: Home = None, as_json: Json = False) -> None:
    """Write an account's statement in the order of booking; a debit is positive."""
    with running.find(home).api("ledger") as api:
        lines = _pages(api, f"/v1/accounts/{_segment(account)}/entries", "entries", {})
        _show(lines, LINE, as_csv=as_csv, as_json=as_json)


@app.command("trial-balance")
def trial_balance(chart: Chart, day: Day, as_csv: Csv = False, home: Home = None, as_json: Json = False) -> None:
    """Show the totals of a chart at the end of a day, late transfers included, and those at its close."""
    with running.find(home).api("ledger") as api:
        found = api.get("/v1/trial-balance", {"chart": chart, "day": day})
    put_json(found) if as_json else show_trial_balance(found, as_csv=as_csv)


def show_trial_balance(found: Mapping[str, Any], *, as_csv: bool) -> None:
    """Show the lines, and beside the data whether the day is closed and what was late for it."""
    from baraza.system.client import objects

    _show(_with_close(objects(found, "lines"), objects(found, "at_close")), TRIAL, as_csv=as_csv, as_json=False)
    if found["closed_at"] is None:
        notify(f"{found['day']} of {found['chart']} is open.")
        return
    notify(
        f"{found['day']} of {found['chart']} was closed at {found['closed_at']}; "
        f"{found['late_count']} transfers were late for it."
    )
    for late in objects(found, "late"):
        notify(f"  {late['reference']}: effective {late['effective_at']}, booked {late['booked_at']}")


def _with_close(
    lines: Sequence[Mapping[str, Any]], at_close: Sequence[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """Yield each line with its totals at the close of the day, where it had some then."""
    closed = {(line["code"], line["currency"]): line for line in at_close}
    for line in lines:
        then = closed.get((line["code"], line["currency"]), {})
        yield {**line, "debits_at_close": then.get("debits"), "credits_at_close": then.get("credits")}


@app.command("transfer")
def transfer(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", show_default=False)], home: Home = None
) -> None:
    """Show a transfer with its entries, its saga, and what it resolves or corrects, as JSON."""
    with running.find(home).api("ledger") as api:
        put_json(api.get(f"/v1/transfers/{_segment(reference)}"))


@app.command("propose")
def propose(
    entries: Entries,
    reason: Reason,
    effective: Annotated[
        str | None, typer.Option("--effective", metavar="TIME", help="The value date. Now by default.")
    ] = None,
    person: Person = STAFF,
    key: Key = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Propose a posting by hand. Nothing is booked until another person approves it."""
    from chassis.wire.envelope import new_id

    check_reason(reason)
    body: dict[str, Any] = {"entries": [entry_of(text) for text in entries], "reason": reason}
    body |= {} if effective is None else {"effective_at": effective}
    chosen = key_of(key) or new_id()
    with running.find(home).api_as("ledger", person) as api:
        notify(f"Repeat it safely with --idempotency-key {shlex.quote(chosen)}")
        found = api.call("POST", "/v1/manual-postings", body=body, headers={"Idempotency-Key": chosen})
        if as_json:
            put_json(found)
        else:
            put(f"{found['posting_id']} {found['state']}")
            notify(f'Another person approves it: ./baraza ledger approve {found["posting_id"]} --by NAME --reason "…"')


@app.command("approve")
def approve(posting: Posting, reason: Reason, person: Person = STAFF, home: Home = None, as_json: Json = False) -> None:
    """Approve what another person proposed. Its saga begins; `timeline` shows it."""
    _decide("approval", posting, reason, person, home, as_json=as_json)


@app.command("refuse")
def refuse(posting: Posting, reason: Reason, person: Person = STAFF, home: Home = None, as_json: Json = False) -> None:
    """Refuse a proposal, or withdraw one's own. Nothing is booked."""
    _decide("refusal", posting, reason, person, home, as_json=as_json)


def _decide(verb: str, posting: str, reason: str, person: str, home: Path | None, *, as_json: bool) -> None:
    check_reason(reason)
    with running.find(home).api_as("ledger", person) as api:
        found = api.call("POST", f"/v1/manual-postings/{order_id(posting)}/{verb}", body={"reason": reason})
        put_json(found) if as_json else put(f"{found['posting_id']} {found['state']}")


@app.command("postings")
def postings(
    state: Annotated[
        str | None,
        typer.Option("--state", help="PROPOSED, REFUSED, APPROVED, POSTED or FAILED.", show_default=False),
    ] = None,
    as_csv: Csv = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List manual postings: who proposed what, who decided, and how it ended."""
    wanted = {} if state is None else {"state": state}
    with running.find(home).api("ledger") as api:
        _show(_pages(api, "/v1/manual-postings", "postings", wanted), POSTING, as_csv=as_csv, as_json=as_json)


@app.command("close-day")
def close_day(chart: Chart, day: Day, home: Home = None, as_json: Json = False) -> None:
    """Close a day that is over, before the service does it by itself an hour after its end.

    Prints the day's root. Keep it outside: `verify --heads` compares the ledger with what was published.
    """
    with running.find(home).api("ledger") as api:
        found = api.call("POST", "/v1/day-closes", body={"chart": chart, "day": day})
        put_json(found) if as_json else put(f"{found['chart']} {found['day']}: root {found['root']}")


@app.command("verify")
def verify(heads: Heads = None, home: Home = None, as_json: Json = False) -> None:
    """Compare every row with its seal, and every seal with the one before it.

    Reads the ledger's database with the audit's login. Exit status 1, and the first damaged row of each chain, if any
    row was changed, removed or inserted since it was sealed.
    """
    from baraza.audit import ledger_seals

    found = ledger_seals.verify(running.find(home), heads_of(heads))
    if as_json:
        put_json(found.to_json())
    else:
        for damage in found.damages:
            put(damage)
        put(
            f"{found.transfers} transfers and {found.entries} entries compared; {found.unsealed_batches} batches are "
            f"not sealed yet; {len(found.damages)} damages."
        )
    if found.damages:
        stop(FOUND_A_PROBLEM)


def heads_of(text: str | None) -> Mapping[int, tuple[int, bytes]] | None:
    """Return the heads that were kept, by chain; None without the option. Raises UsageRefusal."""
    from ledger.model.chain import parsed_heads

    if text is None:
        return None
    try:
        found = parsed_heads(text)
    except ValueError as error:
        raise UsageRefusal(f"--heads: {error} Copy them from a DayClosed event.") from error
    if not found:
        raise UsageRefusal("--heads is empty, so nothing would be compared with it. Copy it from a DayClosed event.")
    return found


def _pages(api: Api, path: str, name: str, wanted: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    """Yield the items of every page; one page is in memory at a time."""
    from baraza.system.client import objects

    params: dict[str, str | int] = {**wanted, "limit": PAGE}
    while True:
        page = api.get(path, params)
        yield from objects(page, name)
        if page["next_cursor"] is None:
            return
        params["cursor"] = page["next_cursor"]


def _show(items: Iterator[Mapping[str, Any]], columns: Sequence[str], *, as_csv: bool, as_json: bool) -> None:
    # The first page is read before anything is written: where it cannot be, no header comes before the error.
    items = itertools.chain(list(itertools.islice(items, 1)), items)
    if as_json:
        for item in items:
            put_json(item)
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([cell_of(item[column]) for column in columns] for item in items)
    else:
        put_table(columns, ([item[column] for column in columns] for item in items), right=("amount", *TRIAL[2:]))


def cell_of(value: Any) -> str:
    """Return a value as a cell that no spreadsheet takes for a formula.

    References and reasons are texts of others. A number stays a number, so that a sheet can sum a column.
    """
    text = "" if value is None else str(value)
    return f"'{text}" if FORMULA.match(text) and AMOUNT.fullmatch(text) is None else text


def entry_of(text: str) -> Mapping[str, str]:
    """Return the entry that ``ACCOUNT=AMOUNT`` names; its currency is the account's. Raises UsageRefusal."""
    account, separator, amount = text.rpartition("=")
    if not separator or AMOUNT.fullmatch(amount) is None or ":" not in account:
        raise UsageRefusal(f"{text!r} is no entry; write ACCOUNT=AMOUNT, such as sacco:bank:KES=-1500.")
    return {"account": account, "amount": amount, "currency": account.rpartition(":")[2]}


def key_of(key: str | None) -> str | None:
    """Return an idempotency key as it was given. Raises UsageRefusal."""
    from baraza.storefront.orderfile import KEY_EXPECTED, is_key

    if key is not None and not is_key(key):
        raise UsageRefusal(f"--idempotency-key {key!r}; expected {KEY_EXPECTED}.")
    return key


def _segment(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe=":")
