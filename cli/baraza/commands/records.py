"""``baraza sagas acts``, ``baraza letters list`` and ``show``: what is on record of acts and of dead letters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from baraza.commands.operate import age, letters_app
from baraza.commands.options import Home, Json, order_id
from baraza.commands.sagas import app as sagas_app
from baraza.references import saga_of
from baraza.system import running
from baraza.system.running import TRACKER_API
from baraza.terminal import UsageRefusal, notify, put_json, put_table

STATES = ("OPEN", "CLOSED", "REDRIVEN", "OWNED", "ALL")

OnlySaga = Annotated[str | None, typer.Argument(metavar="ID", help="Only about this saga.", show_default=False)]
Actor = Annotated[str | None, typer.Option("--actor", metavar="NAME", help="Only what they did.", show_default=False)]
Act = Annotated[str | None, typer.Option("--act", metavar="ACT", help="Such as APPLY_PLAN.", show_default=False)]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="From then on, in ISO 8601.", show_default=False)
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before then.", show_default=False)]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000, metavar="NUMBER", help="How many to show.")]
State = Annotated[str, typer.Option("--state", metavar="STATE", help=f"One of {', '.join(STATES)}.")]
Service = Annotated[str | None, typer.Option("--service", metavar="SERVICE", help="Only of it.", show_default=False)]
LetterId = Annotated[str, typer.Argument(metavar="LETTER", help="As `letters list` shows it.", show_default=False)]


@sagas_app.command("acts")
def acts(
    saga: OnlySaga = None,
    actor: Actor = None,
    act: Act = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 200,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show what operators did, the latest first: who, when, what and why."""
    from baraza.system.client import objects

    with running.find(home).api(TRACKER_API) as tracker:
        times = {"since": _time("--since", since), "until": _time("--until", until)}
        wanted = {"actor": actor, "act": act and act.upper(), **times}
        params: dict[str, Any] = {name: value for name, value in wanted.items() if value}
        params |= {} if saga is None else {"saga_id": saga_of(tracker, saga)}
        found = tracker.get("/v1/acts", {**params, "limit": limit})
    if as_json:
        put_json(objects(found, "acts"))
        return
    rows = [
        (each["at"], each["actor"], each["act"], each["saga_id"] or each["plan_id"], each["reason"], each["detail"])
        for each in objects(found, "acts")
    ]
    put_table(("at", "operator", "act", "saga or plan", "reason", "detail"), rows)
    if found["next_cursor"] is not None:
        notify(f"Older ones: --until {found['acts'][-1]['at']}")


@letters_app.command("list")
def list_letters(
    state: State = "OPEN", service: Service = None, limit: Limit = 200, home: Home = None, as_json: Json = False
) -> None:
    """List dead letters: open ones, the oldest first, or those of another state, the latest first."""
    from baraza.system.client import objects

    if state.upper() not in STATES:
        raise UsageRefusal(f"--state {state!r}; choose one of {', '.join(STATES)}.")
    params: dict[str, Any] = {"state": state.upper(), "limit": limit, **({"service": service} if service else {})}
    with running.find(home).api(TRACKER_API) as tracker:
        found = objects(tracker.get("/v1/dead-letters", params), "letters")
    if as_json:
        put_json(found)
        return
    rows = [
        (
            each["letter_id"], each["saga_id"], each["saga_state"] or "unknown", each["topic"], each["type"],
            age(each["recorded_at"]), each["resolution"] or "", each["reason"],
        )
        for each in found
    ]  # fmt: skip
    columns = ("letter", "saga", "saga state", "topic", "message", "age", "resolution", "reason")
    put_table(columns, rows, right=("age",))


@letters_app.command("show")
def show_letter(letter: LetterId, home: Home = None) -> None:
    """Show a dead letter with its headers and its body, where values that may be personal are masked."""
    with running.find(home).api(TRACKER_API) as tracker:
        put_json(tracker.get(f"/v1/dead-letters/{order_id(letter)}"))


def _time(option: str, text: str | None) -> str | None:
    """Return a time with its zone. Raises UsageRefusal for a text that is none."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageRefusal(f"{option} {text!r} is no time; write it as 2026-11-21T10:00:00Z.") from error
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).isoformat()
