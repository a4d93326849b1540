"""``baraza sagas now``, ``count`` and ``find``: how many sagas are where, and what a text in a person's hand names."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from baraza.commands.options import Home, Json, command
from baraza.commands.sagas import (
    Awaiting,
    Causes,
    Contradicted,
    Group,
    Prefix,
    States,
    Steps,
    Subject,
    Types,
    filters_of,
)
from baraza.commands.sagas import app as sagas_app
from baraza.system import running
from baraza.system.running import TRACKER_API
from baraza.terminal import FOUND_A_PROBLEM, notify, put, put_json, put_table, stop

Text = Annotated[
    str,
    typer.Argument(
        metavar="TEXT", help="An id or its beginning, a customer, a number, a dead letter, a plan.", show_default=False
    ),
]
Window = Annotated[
    int, typer.Option("--window", min=60, max=86_400, metavar="SECONDS", help="How far back ended sagas count.")
]


@sagas_app.command("now")
def now(window: Window = 3_600, home: Home = None, as_json: Json = False) -> None:
    """Show how many sagas are where, how they end, and what waits for people."""
    from baraza.system.client import objects

    with running.find(home).api(TRACKER_API) as tracker:
        found = tracker.get("/v1/now", {"window_s": window})
    if as_json:
        put_json(found)
        return
    rows = [
        (each["type"], each["state"], each["step"], each["count"], each["oldest_at"])
        for each in objects(found, "sagas")
    ]
    put_table(("saga", "state", "step", "sagas", "oldest since"), rows, right=("sagas",))
    ended = [
        (
            each["type"], each["confirmed"], each["compensated"], f"{each['compensation_rate']:.2%}", each["p50_s"],
            each["p99_s"],
        )
        for each in objects(found, "ended")
    ]  # fmt: skip
    put_table(("saga", "confirmed", "compensated", "share", "p50 s", "p99 s"), ended, right=("confirmed",))
    for name in ("awaiting", "contradicted", "letters"):
        notify(f"{name}: {_tally(found[name])}")
    for plans in objects(found, "plans"):
        notify(f"plans {plans['state']}: {plans['count']}")
    if found["parked"]:
        notify(f"Why sagas are parked: {command('sagas', 'review', home=home)}")


@sagas_app.command("count")
def count(
    state: States = None,
    cause: Causes = None,
    step: Steps = None,
    type_: Types = None,
    group: Group = None,
    subject: Subject = None,
    prefix: Prefix = None,
    awaiting: Awaiting = False,
    contradicted: Contradicted = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Count sagas, up to 10,000."""
    params = filters_of(
        state=state, cause=cause, step=step, type_=type_, group=group, subject=subject, prefix=prefix,
        awaiting=awaiting, contradicted=contradicted,
    )  # fmt: skip
    with running.find(home).api(TRACKER_API) as tracker:
        found = tracker.get("/v1/saga-count", params)
    put_json(found) if as_json else put(_tally(found))


@sagas_app.command("find")
def find(text: Text, home: Home = None, as_json: Json = False) -> None:
    """Show the sagas that a text names, the most probable first."""
    from baraza.system.client import objects

    with running.find(home).api(TRACKER_API) as tracker:
        found = tracker.get("/v1/find", {"text": text})
    if as_json:
        put_json(found)
        return
    rows = [
        (each["saga_id"], each["type"], each["state"], each["step"], each["subject"])
        for each in objects(found, "sagas")
    ]
    put_table(("saga", "type", "state", "step", "subject"), rows)
    if found["plan_id"] is not None:
        notify(f"It is a plan: {command('plans', 'show', found['plan_id'], home=home)}")
    elif not rows:
        notify("Nothing has this text as its id, its number or its customer.")
        stop(FOUND_A_PROBLEM)


def _tally(found: dict[str, Any]) -> str:
    return f"{found['count']:,}{'+' if found['is_capped'] else ''}"
