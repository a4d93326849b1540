"""What proves the course of a saga: for each step the event that proves it ran, and what undid it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One message on Kafka that proves something."""

    type: str
    message_id: str
    occurred_at: str
    topic: str
    partition: int | None
    offset: int | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvidence:
    """One step: its outcome as the tracker has it, and the messages that prove it."""

    name: str
    service: str
    outcome: str
    ran: tuple[Proof, ...] = ()
    refused: tuple[Proof, ...] = ()
    undone: tuple[Proof, ...] = field(default=())


def evidence(steps: Sequence[Json], outlines: Sequence[Json], entries: Sequence[Json]) -> list[StepEvidence]:
    """Return each step with its proofs. Without the definition only what names the step itself is shown."""
    by_name = {outline["name"]: outline for outline in outlines}
    return [_step(step, by_name.get(step["name"], {}), entries) for step in steps]


def _step(step: Json, outline: Json, entries: Sequence[Json]) -> StepEvidence:
    succeeded, refused = bare(outline.get("succeeds_with")), bare(outline.get("rejected_with"))
    own = [entry for entry in entries if entry.get("step") == step["name"]]
    events = [entry for entry in own if entry["kind"] == "event"]
    return StepEvidence(
        name=step["name"],
        service=step["service"],
        outcome=step["outcome"],
        ran=_proofs(entry for entry in events if not succeeded or entry["type"] == succeeded),
        refused=_proofs(entry for entry in events if refused and entry["type"] == refused),
        undone=_proofs(entry for entry in own if entry["kind"] in ("command", "reply") and not _is_fence(entry)),
    )


def bare(full_name: str | None) -> str:
    """Return a message's name without its service."""
    return (full_name or "").rpartition(".")[2]


def _is_fence(entry: Json) -> bool:
    return entry["type"] in ("FenceSaga", "SagaFenced")


def _proofs(entries: Any) -> tuple[Proof, ...]:
    return tuple(
        Proof(
            type=entry["type"],
            message_id=entry["message_id"],
            occurred_at=entry["occurred_at"],
            topic=entry["topic"] or "",
            partition=entry["partition"],
            offset=entry["offset"],
            note="late" if entry["late"] else (entry["detail"] or ""),
        )
        for entry in entries
    )
