"""``baraza day``: business days. A day is closed by the statements, or it is open with a reason."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza.commands.dividends import hash_of
from baraza.commands.options import Commands, Home, Json
from baraza.commands.sacco_options import MONEY, Person, cell, day_of, given, put_rows, short_code_of
from baraza.system import running
from baraza.system.running import STAFF
from baraza.terminal import FOUND_A_PROBLEM, Refusal, notify, put, put_json, put_table, stop

if TYPE_CHECKING:
    from baraza.system.client import Api

app = Commands(no_args_is_help=True, help="Business days: their reports, and who signed them.")

DONE_WITHIN_S = 120.0
POLL_S = 0.5
RUNS_MAX = 1_000
REQUESTED, CLOSED = "REQUESTED", "CLOSED"
LISTED = ("day", "short_code", "run", "state", "reason", "difference_minor", "signed_by", "requested_at", "saga_id")
ROW = ("completed_at", "account", "kind", "receipt", "amount_minor", "reason")

ShortCode = Annotated[str, typer.Argument(metavar="SHORT_CODE", help="One of ours.", show_default=False)]
Day = Annotated[str, typer.Argument(metavar="DATE", help="2026-11-21, in Nairobi.", show_default=False)]


@app.command("report")
def report(short_code: ShortCode, day: Day, home: Home = None, as_json: Json = False) -> None:
    """Show a day's report as it is now: rows, gaps, what matches nothing, what is in doubt; and its hash."""
    with running.find(home).api(MONEY) as api:
        found = api.get(f"/v1/days/{short_code_of(short_code)}/{day_of(day)}/report")
    put_json(found) if as_json else _show(found["report"], found["report_sha256"])


def _show(numbers: Mapping[str, Any], sha256: str) -> None:
    figures = [(name.removesuffix("_minor"), cell(numbers, name)) for name in sorted(numbers) if name != "listed_rows"]
    put_table(("figure", "value"), figures)
    if numbers["listed_rows"]:
        put_rows(numbers["listed_rows"], ROW, as_json=False)
    put(f"report_sha256  {sha256}")


@app.command("close")
def close(
    short_code: ShortCode,
    day: Day,
    sha256: Annotated[
        str | None,
        typer.Option(
            "--report-sha256", help="Of the report that you read; a changed one is refused.", show_default=False
        ),
    ] = None,
    person: Person = STAFF,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Sign a day's report and close the day. Exit status 1, and the reason, if it stays open."""
    body = {"short_code": short_code_of(short_code), "day": day_of(day)}
    body |= given(report_sha256=None if sha256 is None else hash_of("--report-sha256", sha256))
    with running.find(home).api_as(MONEY, person) as api:
        requested = api.call("POST", "/v1/days", body=body)
        notify(f"Run {requested['run']} of {body['day']} is signed, report {requested['report_sha256']}.")
        found = decided(api, requested["saga_id"])
    put_json(found) if as_json else put(_line(found))
    if found["state"] != CLOSED:
        stop(FOUND_A_PROBLEM)


def decided(api: Api, saga_id: str) -> Mapping[str, Any]:
    """Return a run of a day once it is decided. Raises Refusal where it is not in time."""
    from baraza.system.client import objects

    deadline = time.monotonic() + DONE_WITHIN_S
    while time.monotonic() < deadline:
        for each in objects(api.get("/v1/days", {"limit": RUNS_MAX}), "rows"):
            if each["saga_id"] == saga_id and each["state"] != REQUESTED:
                return each
        time.sleep(POLL_S)
    raise Refusal(f"The day is not decided after {DONE_WITHIN_S:.0f} s. See why: ./baraza timeline {saga_id}")


@app.command("list")
def list_days(home: Home = None, as_json: Json = False) -> None:
    """List the runs of business days, the last day first."""
    from baraza.system.client import objects

    with running.find(home).api(MONEY) as api:
        put_rows(objects(api.get("/v1/days", {"limit": RUNS_MAX}), "rows"), LISTED, as_json=as_json)


def _line(found: Mapping[str, Any]) -> str:
    if found["state"] == CLOSED:
        return (
            f"{found['day']} of {found['short_code']} is closed by run {found['run']}, signed by {found['signed_by']}."
        )
    return f"{found['day']} of {found['short_code']} stays open: {found['reason']}"
