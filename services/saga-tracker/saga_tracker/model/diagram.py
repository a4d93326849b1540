"""Draws a definition for people, as text for a terminal and as a Mermaid diagram. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from messages.contract import name_of
from saga_tracker.model.saga import SagaDefinition, StepDefinition


def diagram(definition: SagaDefinition) -> str:
    """Return the chain as text: the way forward on the left, the compensation of each step on the right."""
    forward = [f"{step.name} ({step.service})" for step in definition.steps]
    width = max(len(name) for name in forward)
    customers = [", ".join(name_of(each) for each in definition.cancelled_by)] if definition.cancelled_by else []
    lines = [f"{definition.name} version {definition.version}", "", f"  {name_of(definition.started_by)}"]
    for name, step in zip(forward, definition.steps, strict=True):
        lines += [
            "    │",
            f"    ▼ {name:<{width}}  within {step.timeout_s:g} s, {_kind(step)}; {_undoing(step)}",
            f"  {name_of(step.succeeds_with)}{_rejection(step)}",
        ]
    lines += [
        "    │",
        "    ▼",
        f"  {name_of(definition.completed_by)}",
        "",
        f"  stopped (rejected, timed out, cancelled, retries exhausted): compensated in reverse, then "
        f"{name_of(definition.failed_by)}",
        f"  cancelled by: {', or '.join([*customers, 'CancelSaga from staff'])}",
        f"  deadline {definition.deadline_s:g} s; commands are sent up to {definition.command_attempts_max} times, "
        f"{definition.reply_timeout_s:g} s apart, then the saga is parked",
    ]
    return "\n".join(lines) + "\n"


def mermaid(definition: SagaDefinition) -> str:
    """Return the chain as a Mermaid flowchart: solid arrows forward, dotted ones back."""
    return "\n".join(_mermaid_lines(definition)) + "\n"


def _mermaid_lines(definition: SagaDefinition) -> Iterator[str]:
    yield "flowchart TD"
    yield f"    start([{name_of(definition.started_by)}]) --> {definition.steps[0].name}"
    for step in definition.steps:
        yield f'    {step.name}["{step.name}<br/>{step.service}, {_kind(step)}"]'
    for step, following in zip(definition.steps, definition.steps[1:], strict=False):
        yield f"    {step.name} -->|{name_of(step.succeeds_with)}| {following.name}"
    last = definition.steps[-1]
    yield f"    {last.name} -->|{name_of(last.succeeds_with)}| completed([{name_of(definition.completed_by)}])"
    for step in definition.steps:
        if step.rejected_with is not None:
            yield f"    {step.name} -.->|{name_of(step.rejected_with)}| compensate"
    yield "    compensate{{compensate what ran, in reverse}}"
    for step in reversed(definition.steps):
        if step.compensation is not None:
            command, reply = name_of(step.compensation.command), name_of(step.compensation.reply)
            yield f"    compensate -.->|{command}, {reply}| {step.name}"
    yield f"    compensate -.-> failed([{name_of(definition.failed_by)}])"


def _kind(step: StepDefinition) -> str:
    """Return its kind, and whether its outcome comes later."""
    return step.kind.value if step.awaited is None else f"{step.kind.value}, awaited"


def _undoing(step: StepDefinition) -> str:
    if step.compensation is not None:
        return f"undone by {name_of(step.compensation.command)} → {name_of(step.compensation.reply)}"
    return f"undone with {step.undone_by}" if step.undone_by else "not undone"


def _rejection(step: StepDefinition) -> str:
    return f"   or {name_of(step.rejected_with)}" if step.rejected_with else ""
