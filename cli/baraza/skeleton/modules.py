"""The Python modules of a new saga: its definition, its step's decisions, its trigger, its handlers and its test."""

from __future__ import annotations

from pathlib import Path
from string import Template

from baraza.skeleton.names import Names

DEFINITION = Template('''\
"""The $words saga: its one step accepts the request."""

from __future__ import annotations

from messages.$package import $accepted, $rejected, $requested, $withdraw, $withdrawn
from messages.saga import $completed, $failed
from saga_tracker.model.saga import (
    CompensationDefinition,
    Exhausted,
    SagaDefinition,
    StepDefinition,
    SubjectDefinition,
)

${constant}_V1 = SagaDefinition(
    name="$saga",
    version=1,
    started_by=$requested,
    subject=SubjectDefinition(field="requested_by", kind="requester"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="$step",
            service="$service",
            trigger=$requested,
            succeeds_with=$accepted,
            rejected_with=$rejected,
            compensation=CompensationDefinition(command=$withdraw, reply=$withdrawn),
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=$completed,
    failed_by=$failed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=60,
)
''')

DECISIONS = Template('''\
"""The decisions of the step $step. Pure: they know its request, and no saga."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.saga.triggers import StepRequest
from messages.$package import $withdraw, $withdrawn
from messages.contract import Envelope

NOT_POSITIVE = "not_positive"
"""The reason of a rejection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class $request(StepRequest):
    """Accept a $words."""

    requested_by: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why the request is rejected: a code, and a sentence for a person."""

    reason: str
    detail: str


def $step(request: $request, _rows: None, _envelope: Envelope) -> Rejection | None:
    """Return why the request is rejected; None where it is accepted."""
    if request.amount <= 0:
        return Rejection(reason=NOT_POSITIVE, detail=f"The amount is {request.amount}; it must be above 0.")
    return None


def withdraw_$saga(command: $withdraw, undo: bool, _rows: None, envelope: Envelope) -> $withdrawn:
    """Undo what the step did. Without ``undo`` it did nothing, or it is undone already."""
    return $withdrawn(**envelope, step=command.step, undone=undo)
''')

TRIGGER = Template('''\
"""The $words saga: what triggers its step here, and the events that it publishes. Pure."""

from __future__ import annotations

from typing import Final

from chassis.saga.triggers import SagaTrigger
from messages.$package import $accepted, $rejected, $requested
from messages.contract import Envelope
from $package.${saga}_step import $request, Rejection

SAGAS: Final = frozenset({("$saga", 1)})


def to_accept(event: $requested, step: str) -> $request:
    """Read what is requested."""
    return $request(saga_id=event.saga_id, step=step, requested_by=event.requested_by, amount=event.amount)


def accepted(event: $requested, outcome: Rejection | None, envelope: Envelope) -> $accepted | $rejected:
    """Return the event of the step's outcome."""
    if outcome is not None:
        return $rejected(**envelope, reason=outcome.reason, detail=outcome.detail)
    return $accepted(**envelope, amount=event.amount)


ACCEPTING = SagaTrigger(
    saga="$saga",
    versions=(1,),
    on=$requested,
    read=to_accept,
    publish=accepted,
    succeeds_with=$accepted,
    rejected_with=$rejected,
)
''')

HANDLERS = Template('''\
def load_$saga(_messages: Sequence[$request | $withdraw], _tx: Connection) -> None:
    """Lock and return the rows that the step decides by, in one statement for the batch: it has none yet."""


def save_$saga(_rows: None, _tx: Connection) -> None:
    """Save the rows that the step has changed: it has none yet."""


def on_${saga}_completed(_events: Sequence[$completed], _tx: Connection) -> None:
    """Record that these are completed, where the service keeps rows of them: it keeps none yet."""


def on_${saga}_failed(_events: Sequence[$failed], _tx: Connection) -> None:
    """Record why these have failed, where the service keeps rows of them: it keeps none yet."""


$constant: tuple[Handler, ...] = (
    Step(
        name="$step",
        triggers=($saga.ACCEPTING,),
        load=load_$saga,
        decide=$step,
        save=save_$saga,
        compensation=Compensation(
            on=$withdraw,
            undoes=("$step",),
            load=load_$saga,
            decide=withdraw_$saga,
            save=save_$saga,
            replies=($withdrawn,),
        ),
    ),
    Reaction(on=$completed, sagas=$saga.SAGAS, apply=on_${saga}_completed),
    Reaction(on=$failed, sagas=$saga.SAGAS, apply=on_${saga}_failed),
)
"""The step of the $words saga, and the reactions to its end."""
''')

HANDLER_IMPORTS = Template("""\
from collections.abc import Sequence
from sqlalchemy import Connection
from chassis.saga.steps import Compensation, Handler, Reaction, Step
from messages.$package import $withdraw, $withdrawn
from messages.saga import $completed, $failed
from $package.${saga}_step import $request, $step, withdraw_$saga
from $package.sagas import $saga
""")

TEST = Template('''\
"""The $words saga: what follows from given facts, and what its step decides and publishes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chassis.saga import steps
from chassis.saga.effects import EffectState
from messages.$package import $accepted, $rejected, $requested, $withdraw, $withdrawn
from messages.contract import Envelope, Message
from saga_tracker.definitions import newest
from saga_tracker.model.decision import SagaState
from saga_tracker.model.rehearsal import rehearse
from support.builders import a
from support.services import handlers
from $package.${saga}_step import $request, $step, withdraw_$saga

SAGA = newest("$saga")
STEP = handlers()["$service"].step("$step")
ENVELOPE = Envelope(
    message_id="01JD",
    saga_id="01JC",
    saga_type=SAGA.name,
    saga_version=SAGA.version,
    causation_id=None,
    occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def outcome_of(amount: int) -> tuple[Message, EffectState]:
    """Return what the service publishes for a request of this amount, and the state of the step's effect."""
    assert STEP is not None
    event = a($requested, saga_type=SAGA.name, amount=amount)
    request = steps.request_of(STEP, event)
    assert isinstance(request, $request)
    return steps.answer(STEP, event, $step(request, None, ENVELOPE), ENVELOPE)


def test_an_accepted_request_completes_the_saga() -> None:
    event, state = outcome_of(amount=1)
    assert event == $accepted(**ENVELOPE, amount=1)
    assert state is EffectState.DONE
    assert rehearse(SAGA).ran("$step").state is SagaState.CONFIRMED


@pytest.mark.parametrize("amount", [0, -1])
def test_a_rejected_request_ends_the_saga_and_leaves_nothing_to_undo(amount: int) -> None:
    event, state = outcome_of(amount)
    assert isinstance(event, $rejected)
    assert (event.reason, state) == ("not_positive", EffectState.REJECTED)
    ended = rehearse(SAGA).rejected("$step").to_the_end()
    assert (ended.state, ended.sent) == (SagaState.CANCELLED_COMPENSATED, ())


def test_a_cancelled_saga_undoes_what_its_step_did() -> None:
    saga = rehearse(SAGA).cancelled()
    assert saga.commands == ("FenceSaga $service",)
    ran = saga.ran("$step").to_the_end()
    assert (ran.state, ran.sent[-1]) == (SagaState.CANCELLED_COMPENSATED, "$withdraw $step")


@pytest.mark.parametrize("undo", [True, False])
def test_the_compensation_reports_whether_there_was_anything_to_undo(undo: bool) -> None:
    command = a($withdraw, step="$step")
    assert withdraw_$saga(command, undo, None, ENVELOPE) == $withdrawn(**ENVELOPE, step="$step", undone=undo)
''')


def new_files(names: Names) -> dict[Path, str]:
    """Return the text of each new module by its file."""
    tracker = names.root / "services" / "saga-tracker" / "saga_tracker"
    found = {
        tracker / "definitions" / f"{names.saga}.py": DEFINITION,
        names.folder / f"{names.saga}_step.py": DECISIONS,
        names.folder / "sagas" / f"{names.saga}.py": TRIGGER,
        names.root / "tests" / "unit" / f"test_{names.saga}.py": TEST,
    }
    return {path: filled(template, names) for path, template in found.items()}


def filled(template: Template, names: Names) -> str:
    """Return the text of a template for these names."""
    return template.substitute(
        saga=names.saga,
        words=names.words,
        constant=names.constant,
        service=names.service,
        package=names.package,
        step=names.step,
        request=f"Accept{names.type}",
        **names.messages,
    )
