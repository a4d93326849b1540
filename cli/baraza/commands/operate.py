"""What operators do about sagas that are parked, and about dead letters that nobody answers for.

``baraza redrive`` works in two steps, so that what runs is what was shown; the tracker runs it, whatever becomes of
this process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza import running
from baraza.commands.options import Home, Json
from baraza.commands.orders import order_id
from baraza.commands.sagas import app as sagas_app
from baraza.running import TRACKER_API
from baraza.selection import parse
from baraza.terminal import FOUND_A_PROBLEM, UsageRefusal, progress, put_json, put_table, say, stop

if TYPE_CHECKING:
    from baraza.client import Api

POLL_S = 0.5
PAGE_ITEMS = 1_000
SHOWN_ITEMS = 20
"""Sagas of a plan that a person is shown of each kind; --json has all of them."""
DAY_S, HOUR_S, MINUTE_S = 86_400, 3_600, 60

Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept for ever.", show_default=False)]
Saga = Annotated[str, typer.Argument(metavar="ID", help="The saga's id, which is the order's.", show_default=False)]
letters_app = typer.Typer(no_args_is_help=True, help="Dead letters for which no saga answers.")


def redrive(
    plan: Annotated[
        str | None,
        typer.Option("--plan", metavar="SELECTION", help="Show what would run, and freeze it.", show_default=False),
    ] = None,
    apply: Annotated[
        str | None, typer.Option("--apply", metavar="PLAN", help="Run a plan that was shown.", show_default=False)
    ] = None,
    show: Annotated[
        str | None, typer.Option("--show", metavar="PLAN", help="Show how far a plan is.", show_default=False)
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why it is run; kept for ever.", show_default=False)] = "",
    rate: Annotated[
        int | None, typer.Option("--rate", min=1, help="Sagas a second; the tracker's own if not given.")
    ] = None,
    compensate: Annotated[
        bool, typer.Option("--compensate", help="Plan to give the sagas up instead of trying them again.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Try parked sagas again: --plan shows and freezes which, --apply runs just those, --show tells how far it is.

    SELECTION is `all`, or terms such as group=1a2b3c4d (from `sagas review`), step=reserve_inventory, id=ID,ID,
    after=TIME and before=TIME.
    """
    asked = [each for each in (plan, apply, show) if each is not None]
    if len(asked) != 1:
        raise UsageRefusal("Give one of --plan SELECTION, --apply PLAN or --show PLAN.")
    if apply is not None and not reason.strip():
        raise UsageRefusal("--reason is empty; say why it will work now, it is kept for ever.")
    selection = None if plan is None else parse(plan)
    with running.find(home).api(TRACKER_API) as tracker:
        if selection is not None:
            act = "COMPENSATE" if compensate else "REDRIVE"
            answer = tracker.call("POST", "/v1/plans", body={"act": act, "selection": selection})
        elif apply is not None:
            answer = _applied(tracker, order_id(apply), reason, rate)
        else:
            answer = tracker.get(f"/v1/plans/{order_id(show or '')}")
        if as_json:
            put_json({**answer, "items": list(_items(tracker, answer["plan_id"]))})
        else:
            _tell(tracker, answer)


def _applied(tracker: Api, plan_id: str, reason: str, rate: int | None) -> dict[str, Any]:
    """Apply a plan and follow it to its end; the tracker goes on if we are interrupted."""
    body: dict[str, Any] = {"reason": reason} | ({} if rate is None else {"rate_per_s": rate})
    answer: dict[str, Any] = tracker.call("POST", f"/v1/plans/{plan_id}/apply", body=body)
    left = answer["counts"].get("PLANNED", 0)
    with progress("redrive: sagas", total=left) as advance:
        while answer["state"] == "APPLYING":
            time.sleep(POLL_S)
            answer = tracker.get(f"/v1/plans/{plan_id}")
            now_left = answer["counts"].get("PLANNED", 0)
            advance(left - now_left)
            left = now_left
    return answer


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


def _tell(tracker: Api, plan: dict[str, Any]) -> None:
    rows = [
        (item["saga_id"], item["step"], item["state"], item["runs"], item["detail"])
        for state in plan["counts"]
        for item in _items(tracker, plan["plan_id"], state, SHOWN_ITEMS)
    ]
    put_table(("saga", "step", "state", "runs", "detail"), rows)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(plan["counts"].items()))
    say(f"Plan {plan['plan_id']} to {plan['act'].lower()} is {plan['state']}: {counts}.")
    if sum(plan["counts"].values()) > len(rows):
        say(f"Up to {SHOWN_ITEMS} of each are shown; --json has all of them.")
    if plan["state"] == "PLANNED":
        say(f'Run it with: ./baraza redrive --apply {plan["plan_id"]} --reason "…"')


@sagas_app.command("review")
def review(home: Home = None, as_json: Json = False) -> None:
    """Show why sagas are parked: one line a cause, the most frequent first."""
    with running.find(home).api(TRACKER_API) as tracker:
        groups = tracker.get("/v1/review")["groups"]
    if as_json:
        put_json(groups)
        return
    rows = [
        (each["group"], each["count"], _age(each["oldest_at"]), each["phase"], each["step"], each["reason"])
        for each in groups
    ]
    put_table(("group", "sagas", "oldest", "phase", "step", "reason"), rows, right=("sagas", "oldest"))
    if rows:
        say(f"See what a redrive would do: ./baraza redrive --plan group={rows[0][0]}")


@sagas_app.command("compensate")
def compensate(saga: Saga, reason: Reason, home: Home = None, as_json: Json = False) -> None:
    """Give a saga up instead of trying again: it is fenced, and what ran is compensated."""
    _act("compensate", saga, reason, home, as_json=as_json)


@sagas_app.command("annotate")
def annotate(saga: Saga, reason: Reason, home: Home = None, as_json: Json = False) -> None:
    """Put a remark on a saga's timeline."""
    _act("annotate", saga, reason, home, as_json=as_json)


@sagas_app.command("acts")
def acts(
    saga: Annotated[str | None, typer.Argument(metavar="ID", help="Only about this saga.", show_default=False)] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show what operators did, the latest first: who, when, what and why."""
    params: dict[str, str | int] = {} if saga is None else {"saga_id": order_id(saga)}
    with running.find(home).api(TRACKER_API) as tracker:
        found = tracker.get("/v1/acts", params)["acts"]
    if as_json:
        put_json(found)
        return
    rows = [
        (each["at"], each["actor"], each["act"], each["saga_id"] or each["plan_id"], each["reason"], each["detail"])
        for each in found
    ]
    put_table(("at", "who", "act", "saga or plan", "why", "what"), rows)


@letters_app.command("list")
def list_letters(home: Home = None, as_json: Json = False) -> None:
    """List them, the oldest first."""
    with running.find(home).api(TRACKER_API) as tracker:
        found = tracker.get("/v1/dead-letters")["letters"]
    if as_json:
        put_json(found)
        return
    rows = [
        (
            each["letter_id"], each["saga_id"], each["saga_state"] or "unknown", each["topic"], each["type"],
            _age(each["recorded_at"]), each["reason"],
        )
        for each in found
    ]  # fmt: skip
    put_table(("letter", "saga", "which is", "topic", "message", "age", "reason"), rows, right=("age",))


@letters_app.command("close")
def close_letters(
    letters: Annotated[
        list[str], typer.Argument(metavar="LETTER...", help="Their ids, as the list shows them.", show_default=False)
    ],
    reason: Reason,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Close dead letters about which nothing has to be done."""
    _check(reason)
    body = {"letter_ids": [order_id(each) for each in letters], "reason": reason}
    with running.find(home).api(TRACKER_API) as tracker:
        closed = tracker.call("POST", "/v1/dead-letters/close", body=body)["closed"]
    put_json(closed) if as_json else say(f"{len(closed)} closed.")
    if len(closed) < len(letters):
        say("The others were closed or redriven before, or there are none of that id.")
        stop(FOUND_A_PROBLEM)


def _act(act: str, saga: str, reason: str, home: Any, *, as_json: bool) -> None:
    _check(reason)
    name = order_id(saga)
    with running.find(home).api(TRACKER_API) as tracker:
        revision = tracker.get(f"/v1/sagas/{name}")["saga"]["revision"]
        headers = {"If-Match": f'"{revision}"'}
        answer = tracker.call("POST", f"/v1/sagas/{name}/{act}", body={"reason": reason}, headers=headers)
    put_json(answer) if as_json else say(f"Asked for. Follow it with: ./baraza timeline {name}")


def _check(reason: str) -> None:
    if not reason.strip():
        raise UsageRefusal("--reason is empty; say why, it is kept for ever.")


def _age(since: str) -> str:
    """Return how long ago that was, in its largest unit."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()
    for unit_s, name in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"
