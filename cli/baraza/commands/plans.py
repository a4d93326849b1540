"""``baraza plans``: plans that operators made, what each would send, and who approves, pauses, resumes or stops it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from baraza.commands.operate import counts_of
from baraza.commands.options import Commands, Home, Json, check_reason, command, order_id
from baraza.repetition import done
from baraza.system import running
from baraza.system.running import STAFF, TRACKER_API
from baraza.terminal import UsageRefusal, notify, put_json, put_table

STATES = ("PLANNED", "APPLYING", "PAUSED", "APPLIED", "STOPPED")

app = Commands(no_args_is_help=True, help="Plans: acts on many sagas, shown before they run.")

PlanId = Annotated[str, typer.Argument(metavar="PLAN", help="As `redrive --plan` printed it.", show_default=False)]
State = Annotated[
    list[str] | None,
    typer.Option("--state", metavar="STATE", help=f"One of {', '.join(STATES)}; repeatable.", show_default=False),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000, metavar="NUMBER", help="How many to show.")]
Reason = Annotated[str, typer.Option("--reason", help="The reason; it is kept for ever.", show_default=False)]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who acts; the development issuer believes every name.")]


@app.command("list")
def list_plans(state: State = None, limit: Limit = 20, home: Home = None, as_json: Json = False) -> None:
    """List the latest plans, the newest first."""
    wanted = [each.upper() for each in state or ()]
    if unknown := [each for each in wanted if each not in STATES]:
        raise UsageRefusal(f"--state {unknown[0]!r}; choose one of {', '.join(STATES)}.")
    with running.find(home).api(TRACKER_API) as tracker:
        answer = tracker.get("/v1/plans", {"limit": limit, **({"state": wanted} if wanted else {})})
    found = _objects(answer, "plans")
    if as_json:
        put_json(found)
        return
    rows = [
        (each["plan_id"], each["act"], each["state"], _counts(each), each["planned_by"], each["approved_by"])
        for each in found
    ]
    put_table(("plan", "act", "state", "sagas", "planned by", "approved by"), rows)


@app.command("show")
def show(plan: PlanId, home: Home = None, as_json: Json = False) -> None:
    """Show what a plan sends, or why nothing, and how many of its sagas were parked again since."""
    plan_id = order_id(plan)
    with running.find(home).api(TRACKER_API) as tracker:
        found = tracker.get(f"/v1/plans/{plan_id}")
        outcomes = tracker.get(f"/v1/plans/{plan_id}/outcomes")
    if as_json:
        put_json({**found, **outcomes})
        return
    rows = [
        (each["count"], each["state"], each["runs"], each["detail"], each["example"])
        for each in _objects(outcomes, "outcomes")
    ]
    put_table(("sagas", "state", "sends", "why not", "example"), rows, right=("sagas",))
    notify(f"Plan {plan_id} to {found['act'].lower()} is {found['state']}: {_counts(found)}.")
    if outcomes["parked_again"]:
        notify(f"{outcomes['parked_again']} of its sagas were parked again since.")
    if found["needs_approval"] and found["approved_by"] is None:
        approve = command("plans", "approve", plan_id, "--by", "NAME", "--reason", "…", home=home)
        notify(f"Another person than {found['planned_by']} has to approve it: {approve}")


@app.command("approve")
def approve(plan: PlanId, reason: Reason, by: By = STAFF, home: Home = None, as_json: Json = False) -> None:
    """Approve a plan that another person has made, so that it can be applied."""
    _change("approve", plan, reason, by, home, as_json=as_json)


@app.command("pause")
def pause(plan: PlanId, reason: Reason, by: By = STAFF, home: Home = None, as_json: Json = False) -> None:
    """Let a plan under way send nothing more until it is resumed."""
    _change("pause", plan, reason, by, home, as_json=as_json)


@app.command("resume")
def resume(plan: PlanId, reason: Reason, by: By = STAFF, home: Home = None, as_json: Json = False) -> None:
    """Let a paused plan go on."""
    _change("resume", plan, reason, by, home, as_json=as_json)


@app.command("stop")
def stop_plan(plan: PlanId, reason: Reason, by: By = STAFF, home: Home = None, as_json: Json = False) -> None:
    """End a plan for good: what it has sent stays sent, and the rest never is."""
    _change("stop", plan, reason, by, home, as_json=as_json)


def _change(act: str, plan: str, reason: str, by: str, home: Path | None, *, as_json: bool) -> None:
    check_reason(reason)
    plan_id = order_id(plan)
    with running.find(home).api_as(TRACKER_API, by) as tracker:
        found = tracker.call("POST", f"/v1/plans/{plan_id}/{act}", body={"reason": reason})
    said = f"Plan {plan_id} is {found['state']}: {_counts(found)}."
    with done(said):
        put_json(found) if as_json else notify(said)


def _objects(answer: dict[str, Any], name: str) -> list[Any]:
    from baraza.system.client import objects

    return [*objects(answer, name)]


def _counts(plan: dict[str, Any]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts_of(plan).items()))
