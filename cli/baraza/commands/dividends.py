"""``baraza dividends``: runs that one person computes and another approves on the hash of their lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from baraza.commands.options import Commands, Home, Json, check_reason
from baraza.commands.sacco_options import (
    MEMBERS,
    Person,
    Provider,
    Reason,
    amount,
    choice_of,
    given,
    paged,
    ppm_of,
    put_fields,
    put_rows,
    run_of,
)
from baraza.repetition import done
from baraza.system import running
from baraza.system.running import STAFF
from baraza.terminal import UsageRefusal, notify, put, put_json

app = Commands(no_args_is_help=True, help="Dividend runs: computed, approved on their hash, posted, paid in waves.")

YEAR_MIN, YEAR_MAX = 2000, 2199
LINE_STATES = ("PENDING", "POSTED", "RELEASED", "PAID", "RETURNED")
SHOWN = (
    "run_id", "year", "state", "line_count", "gross_minor", "tax_minor", "net_minor", "lines_sha256", "provider",
    "short_code", "proposed_by", "reason", "proposed_at", "approved_by", "approval_reason", "approved_at",
    "failure_reason", "closed_at", "saga_id",
)  # fmt: skip
LISTED = ("run_id", "year", "state", "line_count", "gross_minor", "tax_minor", "net_minor", "proposed_by",
          "approved_by")  # fmt: skip
SUM = ("state", "destination", "line_count", "gross_minor", "tax_minor", "net_minor")
WAVE = ("wave", "attempt", "state", "line_count", "amount_minor", "charge_minor", "refusal", "due_at")
LINE = ("line_id", "state", "destination", "gross_minor", "tax_minor", "net_minor", "receipt", "failure_reason",
        "saga_id")  # fmt: skip

Run = Annotated[str, typer.Argument(metavar="RUN", help="Its id, such as 2025-DIV.", show_default=False)]


@app.command("compute")
def compute(
    run: Run,
    year: Annotated[int, typer.Option("--year", min=YEAR_MIN, max=YEAR_MAX, show_default=False)],
    dividend: Annotated[
        str, typer.Option("--dividend", metavar="PERCENT", help="On shares, such as 12.5.", show_default=False)
    ],
    rebate: Annotated[str, typer.Option("--rebate", metavar="PERCENT", help="On deposits.", show_default=False)],
    regulator: Annotated[str, typer.Option("--regulator", help="The regulator's reference.", show_default=False)],
    meeting: Annotated[str, typer.Option("--meeting", help="The meeting's reference.", show_default=False)],
    reason: Reason,
    provider: Provider = None,
    person: Person = STAFF,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Compute a run of a year from what members held. One that is not approved may be computed anew."""
    check_reason(reason)
    body = {
        "run_id": run_of(run),
        "year": year,
        "dividend_ppm": ppm_of(dividend, "--dividend"),
        "rebate_ppm": ppm_of(rebate, "--rebate"),
        "regulator_reference": regulator,
        "meeting_reference": meeting,
        "reason": reason,
    }
    with running.find(home).api_as(MEMBERS, person) as api:
        found = api.call("POST", "/v1/dividend-runs", body=body | given(provider=provider))
    with done(f"{found['run_id']} is computed all the same."):
        put_json(found) if as_json else put(_line(found))
        if not as_json:
            notify(
                f"Another person reads its lines and approves them: ./baraza dividends approve {found['run_id']} "
                f'--lines-sha256 {found["lines_sha256"]} --by NAME --reason "…"'
            )


@app.command("list")
def list_runs(home: Home = None, as_json: Json = False) -> None:
    """List dividend runs, the newest first."""
    with running.find(home).api(MEMBERS) as api:
        put_rows(api.listed("/v1/dividend-runs"), LISTED, as_json=as_json)


@app.command("show")
def show(run: Run, home: Home = None, as_json: Json = False) -> None:
    """Show a run: its lines by state and destination, and its waves. A refused wave shows why, and asks again."""
    with running.find(home).api(MEMBERS) as api:
        found = api.get(f"/v1/dividend-runs/{run_of(run)}")
    if as_json:
        put_json(found)
        return
    put_fields(found, SHOWN)
    put_rows(found["sums"], SUM, as_json=False, right=("line_count",))
    if found["waves"]:
        put_rows(found["waves"], WAVE, as_json=False, right=("line_count",))


@app.command("lines")
def lines(
    run: Run,
    state: Annotated[
        str | None, typer.Option("--state", help=f"One of {', '.join(LINE_STATES)}.", show_default=False)
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List what each member receives of a run."""
    wanted = given(state=None if state is None else choice_of("--state", state, LINE_STATES))
    path = f"/v1/dividend-runs/{run_of(run)}/lines"
    with running.find(home).api(MEMBERS) as api:
        put_rows(list(paged(api, path, "lines", wanted, cursors={"next": "after"})), LINE, as_json=as_json)


@app.command("approve")
def approve(
    run: Run,
    lines_sha256: Annotated[
        str, typer.Option("--lines-sha256", help="Of the lines that you looked at.", show_default=False)
    ],
    reason: Reason,
    person: Person = STAFF,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Approve a run that another person computed, on the hash of its lines. Then it is declared and posted."""
    check_reason(reason)
    number, body = run_of(run), {"lines_sha256": hash_of("--lines-sha256", lines_sha256), "reason": reason}
    with running.find(home).api_as(MEMBERS, person) as api:
        found = api.call("POST", f"/v1/dividend-runs/{number}/approval", body=body)
    with done(f"{number} is approved all the same."):
        put_json(found) if as_json else put(_line(found))


@app.command("refuse")
def refuse(run: Run, reason: Reason, person: Person = STAFF, home: Home = None, as_json: Json = False) -> None:
    """Refuse a run that is not approved."""
    check_reason(reason)
    number = run_of(run)
    with running.find(home).api_as(MEMBERS, person) as api:
        found = api.call("POST", f"/v1/dividend-runs/{number}/refusal", body={"reason": reason})
    with done(f"{number} is refused all the same."):
        put_json(found) if as_json else put(_line(found))


def hash_of(option: str, text: str) -> str:
    """Return a SHA-256 in small letters. Raises UsageRefusal."""
    found = text.strip().lower()
    if re.fullmatch(r"[0-9a-f]{64}", found) is None:
        raise UsageRefusal(f"{option} {text!r:.80} is no SHA-256, which has 64 hexadecimal digits; copy all of it.")
    return found


def _line(found: Mapping[str, Any]) -> str:
    sums = f"gross {amount(found['gross_minor'])}, tax {amount(found['tax_minor'])}, net {amount(found['net_minor'])}"
    return f"{found['run_id']}  {found['state']}  {found['line_count']} lines, {sums}"
