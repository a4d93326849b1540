"""What operators do about parked sagas, and about dead letters that belong to no saga.

``baraza redrive`` works in two steps, so that exactly what was shown is run. The tracker runs the plan, even when this
process ends.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza.commands.options import RATE_MAX, Commands, Home, Json, Saga, check_reason, command, order_id
from baraza.commands.sagas import app as sagas_app
from baraza.references import saga_of, selected
from baraza.repetition import done
from baraza.selection import parse
from baraza.system import running
from baraza.system.running import STAFF, TRACKER_API
from baraza.terminal import FOUND_A_PROBLEM, UsageRefusal, notify, progress, put_json, put_table, stop

if TYPE_CHECKING:
    from baraza.system.client import Api

POLL_S = 0.5
PAGE_ITEMS = 1_000
SHOWN_ITEMS = 20
"""Sagas of a plan that are shown in each state; --json has all of them."""
DAY_S, HOUR_S, MINUTE_S = 86_400, 3_600, 60

ENDS = ("COMPENSATED", "CONFIRMED")

letters_app = Commands(no_args_is_help=True, help="Dead letters that no saga accounts for.")

Reason = Annotated[str, typer.Option("--reason", help="The reason; it is kept for ever.", show_default=False)]
Plan = Annotated[
    str | None,
    typer.Option(
        "--plan",
        metavar="SELECTION",
        help="Show what would run, and store it as a plan.",
        show_default=False,
    ),
]
Apply = Annotated[str | None, typer.Option("--apply", metavar="PLAN", help="Run a stored plan.", show_default=False)]
Show = Annotated[
    str | None, typer.Option("--show", metavar="PLAN", help="Show the progress of a plan.", show_default=False)
]
PlanReason = Annotated[
    str, typer.Option("--reason", help="With --apply: the reason; it is kept for ever.", show_default=False)
]
Rate = Annotated[
    int | None,
    typer.Option(
        "--rate", min=1, max=int(RATE_MAX), metavar="NUMBER", help="Sagas a second; the tracker's default if not given."
    ),
]
Compensate = Annotated[bool, typer.Option("--compensate", help="With --plan: compensate the sagas instead.")]
End = Annotated[str, typer.Option("--as", metavar="END", help="compensated or confirmed.", show_default=False)]
Operator = Annotated[
    str, typer.Option("--by", metavar="NAME", help="Who acts; the development issuer believes every name.")
]
Proposed = Annotated[str, typer.Argument(metavar="PLAN", help="As `sagas resolve` printed it.", show_default=False)]
LetterIds = Annotated[
    list[str], typer.Argument(metavar="LETTER...", help="Ids, as `letters list` shows them.", show_default=False)
]


def redrive(
    plan: Plan = None,
    apply: Apply = None,
    show: Show = None,
    reason: PlanReason = "",
    rate: Rate = None,
    compensate: Compensate = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Retry parked sagas: --plan selects and shows them, --apply runs the plan, --show reports its progress.

    SELECTION is `all`, or terms such as group=1a2b3c4d (from `sagas review`), step=reserve_inventory,
    id=ID,REFERENCE, after=TIME and before=TIME.
    """
    if sum(each is not None for each in (plan, apply, show)) != 1:
        raise UsageRefusal("Give one of --plan SELECTION, --apply PLAN or --show PLAN.")
    if compensate and plan is None:
        raise UsageRefusal("--compensate belongs to --plan: a stored plan keeps what it was made for. Leave it out.")
    if apply is not None and not reason.strip():
        raise UsageRefusal("--reason is empty; state why it will work now, it is kept for ever.")
    selection = None if plan is None else parse(plan)
    with running.find(home).api(TRACKER_API) as tracker:
        if selection is not None:
            act = "COMPENSATE" if compensate else "REDRIVE"
            wanted = selected(tracker, selection)
            found = tracker.call("POST", "/v1/plans", body={"act": act, "selection": wanted})
        elif apply is not None:
            found = _applied(tracker, order_id(apply), reason, rate)
        else:
            found = tracker.get(f"/v1/plans/{order_id(show or '')}")
        with done(_state(found, home)):
            if as_json:
                put_json({**found, "items": list(_items(tracker, found["plan_id"]))})
            else:
                _show_plan(tracker, found)


def _state(plan: dict[str, Any], home: Path | None) -> str:
    return f"Plan {plan['plan_id']} is {plan['state']}. Show it with: " + command(
        "redrive", "--show", plan["plan_id"], home=home
    )


def _applied(tracker: Api, plan_id: str, reason: str, rate: int | None) -> dict[str, Any]:
    """Apply a plan and follow it to its end; the tracker continues when we are interrupted."""
    body: dict[str, Any] = {"reason": reason} | ({} if rate is None else {"rate_per_s": rate})
    plan: dict[str, Any] = tracker.call("POST", f"/v1/plans/{plan_id}/apply", body=body)
    left = counts_of(plan).get("PLANNED", 0)
    with progress("redrive: sagas", total=left) as advance:
        while plan["state"] == "APPLYING":
            time.sleep(POLL_S)
            plan = tracker.get(f"/v1/plans/{plan_id}")
            now_left = counts_of(plan).get("PLANNED", 0)
            advance(left - now_left)
            left = now_left
    return plan


def counts_of(plan: dict[str, Any]) -> dict[str, int]:
    """Return the number of a plan's sagas by state. Raises NotUnderstood."""
    from baraza.system.client import NotUnderstood

    counts = plan["counts"]
    if not isinstance(counts, dict) or not all(isinstance(count, int) for count in counts.values()):
        raise NotUnderstood("An answer has no counts of the plan's sagas. Run ./baraza status.")
    return counts


def _items(tracker: Api, plan_id: str, state: str | None = None, limit: int | None = None) -> Iterator[dict[str, Any]]:
    params: dict[str, str | int] = {"limit": PAGE_ITEMS if limit is None else limit}
    if state is not None:
        params["state"] = state
    while True:
        page = tracker.get(f"/v1/plans/{plan_id}/items", params)
        yield from page["items"]
        if page["next_after"] is None or limit is not None:
            return
        params["after"] = page["next_after"]


def _show_plan(tracker: Api, plan: dict[str, Any]) -> None:
    rows = [
        (item["saga_id"], item["step"], item["state"], item["runs"], item["detail"])
        for state in counts_of(plan)
        for item in _items(tracker, plan["plan_id"], state, SHOWN_ITEMS)
    ]
    put_table(("saga", "step", "state", "runs", "detail"), rows)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(counts_of(plan).items()))
    notify(f"Plan {plan['plan_id']} to {plan['act'].lower()} is {plan['state']}: {counts}.")
    if sum(counts_of(plan).values()) > len(rows):
        notify(f"Up to {SHOWN_ITEMS} sagas in each state are shown; --json has all of them.")
    if plan["state"] == "PLANNED":
        notify(f'Run it with: ./baraza redrive --apply {plan["plan_id"]} --reason "…"')


@sagas_app.command("review")
def review(home: Home = None, as_json: Json = False) -> None:
    """Show why sagas are parked: one line for each cause, the most frequent first."""
    with running.find(home).api(TRACKER_API) as tracker:
        groups = tracker.get("/v1/review")["groups"]
    if as_json:
        put_json(groups)
        return
    rows = [
        (each["group"], each["count"], age(each["oldest_at"]), each["phase"], each["step"], each["reason"])
        for each in groups
    ]
    put_table(("group", "sagas", "oldest", "phase", "step", "reason"), rows, right=("sagas", "oldest"))
    if rows:
        notify(f"See what a redrive would do: ./baraza redrive --plan group={rows[0][0]}")


@sagas_app.command("compensate")
def compensate(saga: Saga, reason: Reason, home: Home = None, as_json: Json = False) -> None:
    """Compensate a saga instead of retrying it: it is fenced, and what ran is compensated."""
    _act("compensate", saga, reason, home, as_json=as_json)


@sagas_app.command("resolve")
def resolve(
    saga: Saga, end: End, reason: Reason, operator: Operator = STAFF, home: Home = None, as_json: Json = False
) -> None:
    """Propose how a saga ends whose facts contradict one another. Nothing happens until another operator approves it.

    compensated: it is fenced, and every step is compensated. confirmed: every step ran, and it completes.
    """
    check_reason(reason)
    if end.upper() not in ENDS:
        raise UsageRefusal(f"--as {end!r}; choose one of {', '.join(ENDS).lower()}.")
    with running.find(home).api_as(TRACKER_API, operator) as tracker:
        saga_id = saga_of(tracker, saga)
        headers = {"If-Match": _revision(tracker, saga_id)}
        body = {"reason": reason, "resolution": end.upper()}
        plan = tracker.call("POST", f"/v1/sagas/{saga_id}/resolve", body=body, headers=headers)
    if as_json:
        with done(_state(plan, home)):
            put_json(plan)
        return
    notify(f'Proposed. Another operator approves it: ./baraza sagas approve {plan["plan_id"]} --by NAME --reason "…"')


@sagas_app.command("approve")
def approve(
    plan: Proposed, reason: Reason, operator: Operator = STAFF, home: Home = None, as_json: Json = False
) -> None:
    """Approve what another operator proposed with `sagas resolve`; it is carried out."""
    check_reason(reason)
    with running.find(home).api_as(TRACKER_API, operator) as tracker:
        applied = _applied(tracker, order_id(plan), reason, None)
        with done(_state(applied, home)):
            if as_json:
                put_json(applied)
            else:
                _show_plan(tracker, applied)


@sagas_app.command("annotate")
def annotate(saga: Saga, reason: Reason, home: Home = None, as_json: Json = False) -> None:
    """Add a remark to a saga's timeline."""
    _act("annotate", saga, reason, home, as_json=as_json)


@sagas_app.command("settle")
def settle(saga: Saga, reason: Reason, home: Home = None, as_json: Json = False) -> None:
    """Close a saga's open contradictions, which `sagas list --contradicted` shows: what was wrong is put right.

    A provider reported an outcome and later did otherwise. The saga itself stays as it is.
    """
    _act("settle", saga, reason, home, as_json=as_json)


@letters_app.command("close")
def close_letters(letters: LetterIds, reason: Reason, home: Home = None, as_json: Json = False) -> None:
    """Close dead letters that need no further action."""
    check_reason(reason)
    body = {"letter_ids": [order_id(each) for each in letters], "reason": reason}
    with running.find(home).api(TRACKER_API) as tracker:
        closed = tracker.call("POST", "/v1/dead-letters/close", body=body)["closed"]
    with done(f"{len(closed)} closed all the same."):
        put_json(closed) if as_json else notify(f"{len(closed)} closed.")
    if len(closed) < len(letters):
        notify("The others are closed or redriven already, or have no such id.")
        stop(FOUND_A_PROBLEM)


def _act(act: str, saga: str, reason: str, home: Path | None, *, as_json: bool) -> None:
    check_reason(reason)
    with running.find(home).api(TRACKER_API) as tracker:
        saga_id = saga_of(tracker, saga)
        headers = {"If-Match": _revision(tracker, saga_id)}
        accepted = tracker.call("POST", f"/v1/sagas/{saga_id}/{act}", body={"reason": reason}, headers=headers)
    follow = command("timeline", saga_id, home=home)
    with done(f"Requested all the same. Follow it with: {follow}"):
        put_json(accepted) if as_json else notify(f"Requested. Follow it with: {follow}")


def _revision(tracker: Api, saga_id: str) -> str:
    return f'"{tracker.get(f"/v1/sagas/{saga_id}")["saga"]["revision"]}"'


def age(since: str) -> str:
    """Return how long ago that was, in its largest unit."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()
    for unit_s, name in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"
