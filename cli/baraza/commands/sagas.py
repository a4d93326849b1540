"""``baraza timeline``, ``baraza sagas`` and ``baraza saga``: what happened, what is under way, and what is meant to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from saga_tracker.model import diagram

from baraza import running
from baraza.commands.options import Home, Json
from baraza.commands.orders import Order, order_id
from baraza.running import TRACKER_API
from baraza.terminal import UsageRefusal, put, put_json, put_table, say

if TYPE_CHECKING:
    from saga_tracker.model.saga import SagaDefinition

    from baraza.client import Api

app = typer.Typer(no_args_is_help=True, help="Sagas, as the tracker knows them.")
saga_app = typer.Typer(no_args_is_help=True, help="What a saga is made of.")

STATES = ("PENDING", "CONFIRMED", "CANCELLED_COMPENSATED", "NEEDS_REVIEW")
PAGE_SAGAS = 100
NOT_FOUND = 404
APPEARS_WITHIN_S = 5.0
"""An order is on its timeline within a fraction of a second; a busy machine may take longer."""
LOOK_AGAIN_S = 0.2
FOLLOWED_WIDTH = 28
"""The longest message's name, about: while a timeline is followed nobody knows what will come."""


def timeline(
    order: Order,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on showing what happens until the order has ended.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Tell what happened to an order: every message under the one that caused it."""
    stack = running.find(home)
    name = order_id(order)
    if follow:
        with stack.api(TRACKER_API) as tracker:
            _follow(tracker, name, as_json=as_json)
    elif as_json:
        with stack.api(TRACKER_API) as tracker:
            put_json(tracker.get(f"/v1/sagas/{name}/timeline"))
    else:
        write_timeline(stack, name, put)


@app.command("list")
def list_sagas(
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help=f"One of {', '.join(STATES)}.", show_default=False)
    ] = None,
    customer: Annotated[
        str | None, typer.Option("--customer", metavar="ID", help="Whom it is for.", show_default=False)
    ] = None,
    step: Annotated[
        str | None, typer.Option("--step", metavar="STEP", help="Which step it is at.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many to show.")] = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List sagas, the newest first."""
    if state is not None and state.upper() not in STATES:
        raise UsageRefusal(f"--state {state!r}; choose one of {', '.join(STATES)}.")
    filters = {"state": state.upper() if state else None, "customer": customer, "step": step}
    params: dict[str, str | int] = {name: value for name, value in filters.items() if value is not None}
    with running.find(home).api(TRACKER_API) as tracker:
        found = list(_pages(tracker, params, limit))
    if as_json:
        put_json(found)
    else:
        rows = [
            (saga["saga_id"], saga["state"], saga["step"], saga["customer"], saga["started_at"], saga["reason"])
            for saga in found
        ]
        put_table(("saga", "state", "step", "customer", "started", "reason"), rows)


@app.command("cancel")
def cancel(
    saga: Annotated[str, typer.Argument(metavar="ID", help="The saga's id, which is the order's.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept on the timeline.", show_default=False)],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Ask for the cancellation of a saga that has not ended, as an operator; what ran is compensated."""
    if not reason.strip():
        raise UsageRefusal("--reason is empty; say why, it is kept on the timeline.")
    name = order_id(saga)
    with running.find(home).api(TRACKER_API) as tracker:
        answer = tracker.call("POST", f"/v1/sagas/{name}/cancel", body={"reason": reason})
    put_json(answer) if as_json else say(f"Asked for. Follow it with: ./baraza timeline {name} --follow")


@saga_app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="SAGA", help="A saga's name, such as order.", show_default=False)],
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a diagram's source.")] = False,
    as_json: Json = False,
) -> None:
    """Show a saga's definition: its steps, who runs them, and how each is undone."""
    from saga_tracker.definitions import UnknownSaga, newest

    try:
        definition = newest(name)
    except UnknownSaga as error:
        raise UsageRefusal(str(error)) from error
    if as_json:
        put_json(_definition(definition))
    else:
        put((diagram.mermaid if mermaid else diagram.diagram)(definition).rstrip())


def write_timeline(stack: running.Running, saga_id: str, write: Callable[[str], None]) -> None:
    """Write a saga's timeline as a tree, with how fresh it is. Raises Refused or Unreachable."""
    from baraza import timeline as tree

    with stack.api(TRACKER_API) as tracker:
        told = tracker.get(f"/v1/sagas/{saga_id}/timeline")
    lines = tree.lines(told["entries"])
    width = max((len(line.title) for line in lines), default=0)
    write(tree.heading(told["saga"]))
    for line in lines:
        write(line.render(width))
    write(tree.freshness(told["freshness"]))


def _pages(tracker: Api, params: dict[str, str | int], limit: int) -> Iterator[dict[str, Any]]:
    left = limit
    while left > 0:
        page = tracker.get("/v1/sagas", {**params, "limit": min(left, PAGE_SAGAS)})
        yield from page["sagas"]
        left -= len(page["sagas"])
        if page["next_cursor"] is None:
            return
        params = {**params, "cursor": page["next_cursor"]}


def _follow(tracker: Api, saga_id: str, *, as_json: bool) -> None:
    from baraza import timeline as tree

    start: datetime | None = None
    for event, told in _events(tracker, saga_id):
        if as_json:
            put_json({"event": event, **told})
        elif event == "entry":
            start = start or tree.time_of(told)
            put(tree.line(told, start).render(FOLLOWED_WIDTH))
        elif event == "end":
            say(f"It has ended: {told['state']}.")


def _events(tracker: Api, saga_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a live timeline to its end; a stream that the tracker closes before is taken up where it stopped."""
    from baraza.client import Refused

    give_up_at_s = time.monotonic() + APPEARS_WITHIN_S
    seen, event = "", ""
    while event != "end":
        try:
            for place, event, told in tracker.events(f"/v1/sagas/{saga_id}/timeline/stream", after=seen):
                seen = place
                yield event, told
        except Refused as error:
            # Who follows an order that was submitted just now may be faster than the tracker.
            if error.status != NOT_FOUND or time.monotonic() > give_up_at_s:
                raise
            time.sleep(LOOK_AGAIN_S)


def _definition(definition: SagaDefinition) -> dict[str, Any]:
    from messages.contract import name_of

    return {
        "name": definition.name,
        "version": definition.version,
        "started_by": name_of(definition.started_by),
        "cancelled_by": [name_of(event) for event in definition.cancelled_by],
        "completed_by": name_of(definition.completed_by),
        "failed_by": name_of(definition.failed_by),
        "deadline_s": definition.deadline_s,
        "steps": [
            {
                "name": step.name,
                "service": step.service,
                "triggered_by": name_of(step.trigger),
                "succeeds_with": name_of(step.succeeds_with),
                "rejected_with": name_of(step.rejected_with) if step.rejected_with else None,
                "compensation": name_of(step.compensation.command) if step.compensation else None,
                "undone_by": step.undone_by,
                "kind": step.kind.value,
                "timeout_s": step.timeout_s,
                "exhausted": step.exhausted.value,
            }
            for step in definition.steps
        ],
    }
