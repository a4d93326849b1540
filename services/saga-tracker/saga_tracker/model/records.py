"""What is known of a saga as values of JSON, as its row stores it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from saga_tracker.model.facts import UNKNOWN_STEP, Progress, RedriveOutcome, Resolution, Resolved, as_tuple

_REASONS = ("rejected", "letters", "contradicted", "marks")
_FAILED = {"exhausted": "exhausted", "dead_commands": "dead_commands", "unprocessable": "unreadable"}
"""Each field with its key in a record, which stays as it was first stored."""
_FIRST = {"exhausted": 0, "dead_commands": 1, "unprocessable": 0}
"""The generation, or attempt, that a record leaves out."""
_ACTS = ("cancelled", "redriven_by")
_COUNTS = ("overdue", "redrives")
_SETS = (
    *("ran", "never_ran", "compensated", "fenced_services", "timed_out", "letters_redriven"),
    *("awaited", "undo_awaited", "in_doubt"),
)


def to_record(progress: Progress) -> dict[str, object]:
    """Return what is known as values of JSON, without empty fields."""
    record: dict[str, object] = {}
    for name in _SETS:
        if members := getattr(progress, name):
            record[name] = sorted(members)
    for name in (*_REASONS, *_COUNTS):
        if mapping := getattr(progress, name):
            record[name] = mapping
    for name, stored in _FAILED.items():
        if failed := getattr(progress, name):
            first = _FIRST[name]
            record[stored] = {key: each[1] if each[0] == first else list(each) for key, each in failed.items()}
    if progress.redriven:
        record["redriven"] = {step: [number, outcome.value] for step, (number, outcome) in progress.redriven.items()}
    for name in _ACTS:
        if (act := getattr(progress, name)) is not None:
            at, by, reason = act
            record[name] = [at.isoformat(), by, reason]
    if progress.to_settle:
        record["to_settle"] = {key: since.isoformat() for key, since in progress.to_settle.items()}
    if progress.settled:
        acts = progress.settled.items()
        record["settled"] = {key: [at.isoformat(), by, reason] for key, (at, by, reason) in acts}
    if progress.resolved is not None:
        at, *rest = as_tuple(progress.resolved)
        record["resolved"] = [at.isoformat(), *rest]
    return record


def from_record(record: Mapping[str, Any]) -> Progress:
    """Return the progress that :func:`to_record` made the record of."""
    known: dict[str, Any] = {name: frozenset(record[name]) for name in _SETS if name in record}
    known |= {name: record[name] for name in (*_REASONS, *_COUNTS) if name in record}
    for name, stored in _FAILED.items():
        if stored in record:
            known[name] = {
                key: (_FIRST[name], each) if isinstance(each, str) else (each[0], each[1])
                for key, each in record[stored].items()
            }
    if "redriven" in record:
        replies = record["redriven"].items()
        known["redriven"] = {step: (number, RedriveOutcome(outcome)) for step, (number, outcome) in replies}
    for name in _ACTS:
        if name in record:
            at, by, reason = record[name]
            known[name] = (datetime.fromisoformat(at), by, reason)
    since_by_key, act_by_key = record.get("to_settle", {}), record.get("settled", {})
    known["to_settle"] = {key: datetime.fromisoformat(since) for key, since in since_by_key.items()}
    known["settled"] = {key: (datetime.fromisoformat(at), by, why) for key, (at, by, why) in act_by_key.items()}
    if "resolved" in record:
        at, resolution, by, proposed_by, reason = record["resolved"]
        known["resolved"] = Resolved(
            at=datetime.fromisoformat(at),
            resolution=Resolution(resolution),
            by=by,
            proposed_by=proposed_by,
            reason=reason,
        )
    if UNKNOWN_STEP in known.get("unprocessable", {}):  # as release 0.1.0 wrote it
        known["letters"] = {UNKNOWN_STEP: known["unprocessable"].pop(UNKNOWN_STEP)[1], **known.get("letters", {})}
    return Progress(**known)
