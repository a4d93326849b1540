"""``baraza timeline``, ``baraza sagas`` and ``baraza saga``: what happened, what is under way, and the definitions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza import divergences
from baraza.commands.options import COUNT_MAX, Commands, Home, Json, Saga, check_reason, command
from baraza.references import referring, saga_of, sagas_of
from baraza.repetition import done
from baraza.streams import is_read
from baraza.system import running
from baraza.system.running import TRACKER_API
from baraza.terminal import Refusal, UsageRefusal, notify, put, put_json, put_table
from saga_tracker.model import diagram

if TYPE_CHECKING:
    from baraza.system.client import Api
    from baraza.system.running import Running
    from saga_tracker.model.saga import SagaDefinition, StepDefinition

app = Commands(no_args_is_help=True, help="Sagas, as the tracker knows them.")
saga_app = Commands(no_args_is_help=True, help="The definition of a saga, and the skeleton of a new one.")

ROOT = Path(__file__).resolve().parents[3]
NEXT = """
The saga {saga} has one step in {service}, and is complete. The generated files are written as well. Next:
  1. Check it: ./baraza test --quick
  2. Give its messages their fields in schemas/{package}/, then run ./baraza schemas generate
  3. Let the step decide in {saga}_step.py; give it rows in tables.py, and a migration
  4. Publish {requested} where {service} accepts a request; record the end in its reactions
  5. Add steps, and say what must be true: docs/sagas.md
"""
"""What the skeleton's writer does next."""
CAUSES = ("REJECTED", "CANCELLED", "EXHAUSTED", "TIMED_OUT")
STATES = ("PENDING", "CONFIRMED", "CANCELLED_COMPENSATED", "NEEDS_REVIEW", "IN_DOUBT", "INCIDENT")
PAGE_SAGAS = 100
RECONCILIATION = "reconciliation"
NOT_FOUND = 404
APPEARS_WITHIN_S = 5.0
"""An order is on its timeline within a fraction of a second; a busy machine may take longer."""
RETRY_S = 0.2
FOLLOWED_WIDTH = 28
"""About the length of the longest message name: the entries of a followed timeline are not known yet."""

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Show new entries until the order has ended.")]
States = Annotated[
    list[str] | None,
    typer.Option("--state", metavar="STATE", help=f"One of {', '.join(STATES)}; repeatable.", show_default=False),
]
Causes = Annotated[
    list[str] | None,
    typer.Option("--cause", metavar="CAUSE", help=f"One of {', '.join(CAUSES)}; repeatable.", show_default=False),
]
Group = Annotated[str | None, typer.Option("--group", metavar="GROUP", help="Of `sagas review`.", show_default=False)]
Prefix = Annotated[
    str | None, typer.Option("--id-prefix", metavar="TEXT", help="How its id begins.", show_default=False)
]
SUBJECT_HELP = "Whom the saga is about: an order's customer."
Awaiting = Annotated[
    bool, typer.Option("--awaiting", help="Only those that wait for the outcome of a step that comes later.")
]
Contradicted = Annotated[
    bool, typer.Option("--contradicted", help="Only those with a contradiction that a person has to settle.")
]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="NAME", help="A saga's name; repeatable.", show_default=False),
]
Subject = Annotated[
    str | None, typer.Option("--subject", "--customer", metavar="ID", help=SUBJECT_HELP, show_default=False)
]
Steps = Annotated[
    list[str] | None,
    typer.Option("--step", metavar="STEP", help="The present step; repeatable.", show_default=False),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=COUNT_MAX, metavar="NUMBER", help="How many to show.")]
Reason = Annotated[str, typer.Option("--reason", help="The reason; it is kept on the timeline.", show_default=False)]
Referred = Annotated[
    str, typer.Argument(metavar="REFERENCE", help="The id, or a number of a payment or a shipment.", show_default=False)
]
Name = Annotated[str, typer.Argument(metavar="SAGA", help="A saga's name, such as order.", show_default=False)]
NewName = Annotated[
    str, typer.Argument(metavar="NAME", help="The new saga's name, such as pay_bill.", show_default=False)
]
Service = Annotated[
    str | None,
    typer.Option(
        "--service",
        metavar="SERVICE",
        help="The service that starts the saga and has its step; checkout if not given.",
        show_default=False,
    ),
]
Mermaid = Annotated[bool, typer.Option("--mermaid", help="As the source of a Mermaid diagram.")]


def timeline(order: Referred, follow: Follow = False, home: Home = None, as_json: Json = False) -> None:
    """Show the timeline of a saga: every message under the one that caused it. That of an order names its returns.

    REFERENCE is its id, or a number of its payment or its shipment. The number of a merchant's payment names several
    sagas (the payment, its capture, its refunds, its disputes): all are shown, the first one first, and behind them
    what the reconciliation found to differ from the gateway's books.
    """
    from baraza import timeline as tree

    found_stack = running.find(home)
    with found_stack.api(TRACKER_API) as tracker:
        if follow:
            _follow(tracker, saga_of(tracker, order), as_json=as_json)
            return
        referred = sagas_of(tracker, order)
        names = [each["saga_id"] for each in reversed(referred)]
        found = [tracker.get(f"/v1/sagas/{name}/timeline") for name in names]
        others = referring(tracker, names[0]) if len(names) == 1 else []
    differing = _divergences(found_stack, order.strip(), referred)
    if as_json:
        shown = {**found[0], "referring": others} if len(found) == 1 else {"sagas": found}
        put_json(shown if differing is None else {**shown, "divergences": differing})
        return
    for number, each in enumerate(found):
        if number:
            put("")
        tree.write(each, put, others)
    for divergence in differing or ():
        put(divergences.line(divergence))


def _divergences(stack: Running, reference: str, sagas: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Return what differs of a merchant's payment; None for what is none. Without reconciliation the rest is shown."""
    if not divergences.may_have(reference, sagas):
        return None
    try:
        with stack.api(RECONCILIATION) as api:
            return divergences.of_payment(api, reference)
    except Refusal as error:
        notify(f"Its divergences are not known: {error}")
        return None


@app.command("list")
def list_sagas(
    state: States = None,
    cause: Causes = None,
    subject: Subject = None,
    step: Steps = None,
    type_: Types = None,
    group: Group = None,
    prefix: Prefix = None,
    awaiting: Awaiting = False,
    contradicted: Contradicted = False,
    limit: Limit = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List sagas, the newest first."""
    params = filters_of(
        state=state, cause=cause, step=step, type_=type_, group=group, subject=subject, prefix=prefix,
        awaiting=awaiting, contradicted=contradicted,
    )  # fmt: skip
    with running.find(home).api(TRACKER_API) as tracker:
        found = list(_pages(tracker, params, limit))
    if as_json:
        put_json(found)
        return
    rows = [
        (saga["saga_id"], saga["state"], saga["step"], saga["subject"], saga["started_at"], saga["reason"])
        for saga in found
    ]
    put_table(("saga", "state", "step", "subject", "started", "reason"), rows)


def filters_of(
    *,
    state: list[str] | None,
    cause: list[str] | None,
    step: list[str] | None,
    type_: list[str] | None,
    group: str | None,
    subject: str | None,
    prefix: str | None,
    awaiting: bool,
    contradicted: bool,
) -> dict[str, Any]:
    """Return these options as the tracker's parameters. Raises UsageRefusal for a state or a cause that is none."""
    for option, values, known in (("--state", state, STATES), ("--cause", cause, CAUSES)):
        if unknown := [each for each in values or () if each.upper() not in known]:
            raise UsageRefusal(f"{option} {unknown[0]!r}; choose one of {', '.join(known)}.")
    filters = {
        "state": [each.upper() for each in state or ()],
        "cause": [each.upper() for each in cause or ()],
        "step": step,
        "type": type_,
        "group": group,
        "subject": subject,
        "id_prefix": prefix,
        "awaiting": "true" if awaiting else None,
        "contradicted": "true" if contradicted else None,
    }
    return {name: value for name, value in filters.items() if value}


@app.command("cancel")
def cancel(saga: Saga, reason: Reason, home: Home = None, as_json: Json = False) -> None:
    """Request the cancellation of a saga that has not ended, as an operator; what ran is compensated."""
    check_reason(reason)
    with running.find(home).api(TRACKER_API) as tracker:
        name = saga_of(tracker, saga)
        accepted = tracker.call("POST", f"/v1/sagas/{name}/cancel", body={"reason": reason})
    follow = command("timeline", name, "--follow", home=home)
    with done(f"Requested all the same. Follow it with: {follow}"):
        put_json(accepted) if as_json else notify(f"Requested. Follow it with: {follow}")


@saga_app.command("show")
def show(name: Name, mermaid: Mermaid = False, as_json: Json = False) -> None:
    """Show a saga's definition: its steps, and the service and compensation of each."""
    from saga_tracker.definitions import UnknownSaga, newest

    try:
        definition = newest(name)
    except UnknownSaga as error:
        raise UsageRefusal(str(error)) from error
    if as_json:
        put_json(_definition(definition))
    else:
        put((diagram.mermaid if mermaid else diagram.diagram)(definition).rstrip())


@saga_app.command("new")
def new(name: NewName, service: Service = None) -> None:
    """Write the skeleton of a saga into this checkout: schemas, definition, a step, its trigger, a test.

    It has one step, which works: it accepts a request, rejects it, or is undone. Go on from there.
    """
    from baraza.skeleton.names import named
    from baraza.skeleton.writing import write

    names = named(ROOT, name, service)
    for path in write(names):
        put(str(path.relative_to(ROOT)))
    notify(NEXT.format(saga=name, service=names.service, package=names.package, requested=names.messages["requested"]))


def _pages(tracker: Api, params: dict[str, Any], limit: int) -> Iterator[dict[str, Any]]:
    from baraza.system.client import objects

    left = limit
    while left > 0:
        page = tracker.get("/v1/sagas", {**params, "limit": min(left, PAGE_SAGAS)})
        found = objects(page, "sagas")
        yield from found
        left -= len(found)
        if page["next_cursor"] is None:
            return
        params = {**params, "cursor": page["next_cursor"]}


def _follow(tracker: Api, saga_id: str, *, as_json: bool) -> None:
    from baraza import timeline as tree

    start: datetime | None = None
    for event, content in _events(tracker, saga_id):
        if not is_read():
            return
        if as_json:
            put_json({"event": event, **content})
        elif event == "entry":
            start = start or tree.time_of(content)
            put(tree.line(content, start).render(FOLLOWED_WIDTH))
        elif event == "end":
            notify(f"Ended: {content['state']}.")


def _events(tracker: Api, saga_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a live timeline to its end; a stream that the tracker closes earlier is resumed."""
    from baraza.system.client import Refused

    deadline_s = time.monotonic() + APPEARS_WITHIN_S
    last_id, event = "", ""
    while event != "end":
        try:
            for event_id, event, content in tracker.events(f"/v1/sagas/{saga_id}/timeline/stream", after=last_id):
                last_id = event_id
                yield event, content
        except Refused as error:
            # An order that was submitted just now may not have reached the tracker yet.
            if error.status != NOT_FOUND or time.monotonic() > deadline_s:
                raise
        if event != "end":
            time.sleep(RETRY_S)


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
        "steps": [_step(step) for step in definition.steps],
    }


def _step(step: StepDefinition) -> dict[str, Any]:
    from messages.contract import name_of

    return {
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
