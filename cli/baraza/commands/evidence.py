"""``baraza evidence``: what providers reported that matches no attempt of ours, and closing it with a reason."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from baraza.commands.operate import Reason
from baraza.commands.options import Commands, Home, Json, check_reason
from baraza.repetition import done
from baraza.system import running
from baraza.terminal import FOUND_A_PROBLEM, notify, put_json, put_table, stop
from chassis.values.ids import canonical

app = Commands(no_args_is_help=True, help="What providers reported that matches no attempt of ours.")

EvidenceIds = Annotated[
    list[str],
    typer.Argument(metavar="EVIDENCE...", help="Ids, as `evidence list` shows them.", show_default=False),
]
AreClosed = Annotated[bool, typer.Option("--closed", help="What operators have closed, with who did and why.")]


@app.command("list")
def list_evidence(closed: AreClosed = False, home: Home = None, as_json: Json = False) -> None:
    """List the evidence that matches no attempt, the oldest first. --json has the bodies."""
    found = []
    stack = running.find(home)
    for service in services():
        with stack.api(service) as api:
            answer = api.get("/v1/evidence", {"closed": "true" if closed else "false"})
            found += [{"service": service, **each} for each in answer["evidence"]]
    if as_json:
        put_json(found)
        return
    put_table(*_table(found, are_closed=closed))


@app.command("close")
def close_evidence(pieces: EvidenceIds, reason: Reason, home: Home = None, as_json: Json = False) -> None:
    """Close evidence that needs no decision: it is matched no more, and its alert ends. Its body stays."""
    check_reason(reason)
    ids = [canonical(each.strip()) for each in pieces]
    stack, closed = running.find(home), list[str]()
    for service in services():
        with stack.api(service) as api:
            closed += api.call("POST", "/v1/evidence/close", body={"evidence_ids": ids, "reason": reason})["closed"]
    with done(f"{len(closed)} closed all the same."):
        put_json(closed) if as_json else notify(f"{len(closed)} closed.")
    if len(closed) < len(set(ids)):
        notify("The others are matched or closed already, or have no such id.")
        stop(FOUND_A_PROBLEM)


def services() -> list[str]:
    """Return the services with steps whose outcome comes later: each stores the evidence of its own."""
    from stack.contract import called_back
    from stack.selection import is_installed

    return [service for service in called_back() if is_installed(service)]


def _table(found: list[dict[str, Any]], *, are_closed: bool) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    shared = ("id", "service", "received_at", "provider", "outcome", "reference")
    own = ("closed_at", "closed_by", "closed_reason") if are_closed else ("key", "provider_id", "matches")
    titles = ("evidence", "service", "received", "provider", "outcome", "reference")
    own_titles = ("closed", "by", "reason") if are_closed else ("key", "provider's id", "matched in vain")
    rows = [tuple(each[name] for name in (*shared, *own)) for each in found]
    return (*titles, *own_titles), rows
