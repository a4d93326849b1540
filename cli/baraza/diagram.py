"""A saga's definition for people: as a table, as JSON, as the source of a Mermaid diagram. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from messages.contract import Message, name_of
from saga_tracker.saga import SagaDefinition, StepDefinition

HEADINGS = (
    "step",
    "service",
    "triggered by",
    "succeeds with",
    "rejected with",
    "undone by",
    "kind",
    "timeout",
    "if retries run out",
)


def sentence(definition: SagaDefinition) -> str:
    """Return in one sentence how the saga begins and ends."""
    return (
        f"{name_of(definition.started_by)} starts it, {name_of(definition.completed_by)} or "
        f"{name_of(definition.failed_by)} ends it, within {definition.deadline_s:g} s."
    )


def rows(definition: SagaDefinition) -> Iterator[tuple[str, ...]]:
    """Yield a row of the table for each step."""
    for step in definition.steps:
        yield (
            step.name,
            step.service,
            name_of(step.trigger),
            name_of(step.succeeds_with),
            _name(step.rejected_with) or "never",
            _undoing(definition, step),
            step.kind.value,
            f"{step.timeout_s:g} s",
            step.exhausted.value,
        )


def to_json(definition: SagaDefinition) -> dict[str, Any]:
    """Return the definition as a script wants it."""
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
                "trigger": name_of(step.trigger),
                "succeeds_with": name_of(step.succeeds_with),
                "rejected_with": _name(step.rejected_with),
                "compensation": _name(step.compensation.command) if step.compensation else None,
                "compensated_by": _name(step.compensation.reply) if step.compensation else None,
                "undone_by": step.undone_by,
                "kind": step.kind.value,
                "timeout_s": step.timeout_s,
                "exhausted": step.exhausted.value,
            }
            for step in definition.steps
        ],
    }


def mermaid(definition: SagaDefinition) -> str:
    """Return a flowchart: the chain of steps, and below it the way back from each of them."""
    return "\n".join(_mermaid(definition))


def _mermaid(definition: SagaDefinition) -> Iterator[str]:
    steps = definition.steps
    yield "flowchart LR"
    yield f"    start([{name_of(definition.started_by)}]) --> {steps[0].name}"
    for step in steps:
        yield f'    {step.name}["{step.name}<br/>({step.service}, {step.kind.value})"]'
    for step, following in pairwise(steps):
        yield f"    {step.name} -- {name_of(step.succeeds_with)} --> {following.name}"
    completed, failed = f"completed([{name_of(definition.completed_by)}])", f"failed([{name_of(definition.failed_by)}])"
    yield f"    {steps[-1].name} -- {name_of(steps[-1].succeeds_with)} --> {completed}"
    undoing = [step for step in steps if step.compensation]
    for step in undoing:
        yield f'    undo_{step.name}["{_undoing(definition, step)}<br/>({step.service})"]'
    for later, earlier in pairwise(reversed(undoing)):
        assert later.compensation is not None
        yield f"    undo_{later.name} -- {name_of(later.compensation.reply)} --> undo_{earlier.name}"
    if undoing and undoing[0].compensation:
        yield f"    undo_{undoing[0].name} -- {name_of(undoing[0].compensation.reply)} --> {failed}"
    for place, step in enumerate(steps):
        if step.rejected_with is not None:
            before = [each for each in steps[:place] if each.compensation]
            target = f"undo_{before[-1].name}" if before else failed
            yield f"    {step.name} -. {name_of(step.rejected_with)} .-> {target}"


def _undoing(definition: SagaDefinition, step: StepDefinition) -> str:
    if step.undone_by:
        step = next(each for each in definition.steps if each.name == step.undone_by)
    return _name(step.compensation.command) if step.compensation else ""


def _name(message_type: type[Message] | None) -> str:
    return name_of(message_type) if message_type else ""
