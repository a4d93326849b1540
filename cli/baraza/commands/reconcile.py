"""``baraza reconcile``: the ledger against the gateways' own books, and SQL over its entries.

``reconcile SERVICE --since TIME`` is another command of the same name: it brings a restored database up to date.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from baraza.commands import backups
from baraza.commands.options import Home, Json, check_reason, order_id
from baraza.system import running
from baraza.system.running import STAFF
from baraza.terminal import FOUND_A_PROBLEM, Refusal, notify, put, put_json, put_table, stop

if TYPE_CHECKING:
    from baraza.system.client import Api

SERVICE = "reconciliation"
RESTORED = "restored"
DONE_WITHIN_S = 900.0
POLL_S = 0.5
OPEN_SHOWN_MAX = 1_000
RUN = ("run", "account", "kind", "day", "as_of", "line_count", "open_count", "opened", "closed", "changed")
FOUND = ("divergence_id", "kind", "movement", "payment_id", "detail")
CHANGE = ("change", "kind_before", "kind_after", "payment_id", "detail")


class Reconcile(TyperGroup):
    """A group of commands. What is the name of none of them is a service whose database was restored."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments name."""
        named = args if args[0] in self.commands or args[0].startswith("-") else [RESTORED, *args]
        return super().resolve_command(ctx, named)


app = typer.Typer(
    cls=Reconcile, no_args_is_help=True, help="Compare the ledger with the gateways' books, and query its entries."
)
app.command(RESTORED, hidden=True)(backups.reconcile)

Account = Annotated[
    str, typer.Argument(metavar="ACCOUNT", help="By its name in the gateway accounts.", show_default=False)
]
Day = Annotated[
    str | None,
    typer.Option("--day", metavar="DATE", help="Payments of this day in UTC; all by default.", show_default=False),
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="TIME",
        help="As if it were then: what is overdue by then is not pending.",
        show_default=False,
    ),
]
Number = Annotated[
    int | None, typer.Argument(metavar="RUN", min=1, help="Its number; the newest by default.", show_default=False)
]
Lake = Annotated[
    str | None,
    typer.Option("--lake", envvar="BARAZA_LAKE_URL", metavar="ADDRESS", help="Its folder or object store."),
]


@app.command("run")
def run(account: Account, day: Day = None, as_of: AsOf = None, home: Home = None, as_json: Json = False) -> None:
    """Fetch an account's feed, reconcile now, and report. Exit status 1 if a divergence is open."""
    body = {"account": account, "day": day, "as_of": as_of}
    with running.find(home).api(SERVICE) as api:
        requested = api.call(
            "POST", "/v1/reconciliation-requests", body={name: each for name, each in body.items() if each is not None}
        )
        number = _number(api, str(requested["request_id"]))
        _report(api, number, as_json=as_json)


def _number(api: Api, request_id: str) -> int:
    deadline = time.monotonic() + DONE_WITHIN_S
    while time.monotonic() < deadline:
        found = api.get(f"/v1/reconciliation-requests/{request_id}")
        if found["failure"] is not None:
            raise Refusal(f"It cannot be reconciled: {found['failure']}")
        if found["run"] is not None:
            return int(found["run"])
        time.sleep(POLL_S)
    raise Refusal(f"The run is not done after {DONE_WITHIN_S:.0f} s; see the log of {SERVICE}.")


@app.command("report")
def report(
    number: Number = None,
    account: Annotated[
        str | None, typer.Option("--account", help="The newest run of this account.", show_default=False)
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Report a run: its lines by what they came out as, what changed, and what is open. Exit status 1 for the last."""
    with running.find(home).api(SERVICE) as api:
        if number is None:
            wanted: dict[str, str | int] = {"limit": 1, **({} if account is None else {"account": account})}
            newest = api.get("/v1/reconciliation-runs", wanted)["runs"]
            if not newest:
                raise Refusal("There is no run yet. Make one with: ./baraza reconcile run ACCOUNT")
            number = int(newest[0]["run"])
        _report(api, number, as_json=as_json)


def _report(api: Api, number: int, *, as_json: bool) -> None:
    from baraza.system.client import objects

    found = api.get(f"/v1/reconciliation-runs/{number}")
    changes: Any = api.get(f"/v1/reconciliation-runs/{number}/changes")
    wanted: dict[str, str | int] = {"account": str(found["account"]), "state": "OPEN", "limit": OPEN_SHOWN_MAX}
    listed = objects(api.get("/v1/divergences", wanted), "divergences")
    if as_json:
        put_json({**found, "changes": changes, "divergences": list(listed)})
    else:
        _show(found, changes, listed)
    if listed:
        stop(FOUND_A_PROBLEM)


def _show(found: Mapping[str, Any], changes: Any, listed: Any) -> None:
    put_table(("figure", "value"), [(name, found[name]) for name in RUN if found[name] is not None])
    put_table(("state", "lines"), sorted(found["counts"].items()), right=("lines",))
    if changes:
        put_table(CHANGE, [[change[name] for name in CHANGE] for change in changes])
    if listed:
        put_table(FOUND, [[each[name] for name in FOUND] for each in listed])
        notify('A person closes one: ./baraza reconcile close DIVERGENCE --reason "…"')


@app.command("close")
def close(
    divergence: Annotated[str, typer.Argument(metavar="DIVERGENCE", help="As `report` printed it.")],
    reason: Annotated[str, typer.Option("--reason", help="Kept for good.", show_default=False)],
    person: Annotated[str, typer.Option("--by", metavar="NAME", help="Who acts.")] = STAFF,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Close an open divergence with a reason. A run opens it again only where it has changed."""
    check_reason(reason)
    with running.find(home).api_as(SERVICE, person) as api:
        found = api.call("POST", f"/v1/divergences/{order_id(divergence)}/closure", body={"reason": reason})
        put_json(found) if as_json else put(f"{found['divergence_id']} {found['state']}")


@app.command("query")
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT over the table `entries`.")],
    lake: Lake = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Query the ledger's entries of payments in the lake with DuckDB. It only reads."""
    from baraza.system import entries

    found = entries.query(lake or _lake(home), sql)
    if as_json:
        for row in found.rows:
            put_json(dict(zip(found.columns, row, strict=True)))
    else:
        put_table(found.columns, found.rows)


def _lake(home: Any) -> str:
    from stack.home import Home as Folder
    from stack.services import lake_folder

    return str(lake_folder(Folder(running.find(home).stack.home)))
