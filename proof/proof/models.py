"""The sagas that are explored: chains of the order saga's own steps, and sagas with a pivot that is forward only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from proof.states import Model
from saga_tracker.definitions import newest
from saga_tracker.model.saga import Exhausted, SagaDefinition, StepDefinition, StepKind

ORDER = newest("order")
_STEPS = {step.name: step for step in ORDER.steps}
AUTHORIZE, RESERVE, BURN = (_STEPS[name] for name in ("authorize_payment", "reserve_inventory", "burn_loyalty_points"))
BOOK, CAPTURE, POST = (_STEPS[name] for name in ("book_shipment", "capture_payment", "post_ledger"))
CALLS = frozenset({AUTHORIZE.name, BOOK.name, CAPTURE.name})
"""The steps that call a provider."""


def chain(*steps: StepDefinition) -> SagaDefinition:
    """Return a saga of these steps; each is triggered by the success of the one before."""
    chained = [replace(steps[0], trigger=ORDER.started_by)]
    for step in steps[1:]:
        chained.append(replace(step, trigger=chained[-1].succeeds_with))
    return replace(ORDER, steps=tuple(chained), references=())


def forward_only(step: StepDefinition) -> StepDefinition:
    """Return the step as a pivot that nothing undoes, and behind which nothing stops the saga."""
    return replace(
        step, kind=StepKind.PIVOT, compensation=None, undone_by=None, exhausted=Exhausted.PARK, forward_only=True
    )


FORWARD_3 = chain(RESERVE, forward_only(BURN), replace(POST, compensation=None))
"""A step that is undone, a pivot that nothing undoes, and a step behind it."""


@cache
def with_return(definition: SagaDefinition) -> SagaDefinition:
    """Return a copy in which the step without a return is one like any other, for negative controls."""
    copy = replace(definition)
    object.__setattr__(copy, "no_return", None)
    return copy


def _forward(definition: SagaDefinition, *, is_redriven: bool = False) -> Model:
    return Model(definition=definition, retries_run_out=is_redriven, is_redriven=is_redriven)


def _exhausted(*steps: StepDefinition, external: frozenset[str] = frozenset(), is_redriven: bool = False) -> Model:
    return Model(
        definition=chain(*steps),
        external=external,
        retries_run_out=True,
        is_redriven=is_redriven,
        has_cancellation=False,
    )


def _one_exhausted(*steps: StepDefinition, external: frozenset[str] = frozenset(), is_redriven: bool = False) -> Model:
    return replace(_exhausted(*steps, external=external, is_redriven=is_redriven), exhausted_max=1)


MODELS: Mapping[int, Mapping[str, Callable[[], Model]]] = {
    1: {
        "a call, retries exhausted": lambda: Model(definition=chain(AUTHORIZE), external=CALLS, retries_run_out=True),
        "local, retries exhausted and redriven": lambda: Model(
            definition=chain(RESERVE), retries_run_out=True, is_redriven=True
        ),
    },
    2: {
        "calls, retries exhausted": lambda: Model(
            definition=chain(AUTHORIZE, RESERVE), external=CALLS, retries_run_out=True
        ),
        "calls, retries exhausted and redriven": lambda: Model(
            definition=chain(AUTHORIZE, RESERVE), external=CALLS, retries_run_out=True, is_redriven=True
        ),
        "calls, retries exhausted and redriven, not cancelled": lambda: Model(
            definition=chain(AUTHORIZE, RESERVE),
            external=CALLS,
            retries_run_out=True,
            is_redriven=True,
            has_cancellation=False,
        ),
        "local, retries exhausted and redriven, not cancelled": lambda: Model(
            definition=chain(RESERVE, BURN), retries_run_out=True, is_redriven=True, has_cancellation=False
        ),
        "local, retries exhausted": lambda: Model(definition=chain(RESERVE, BURN), retries_run_out=True),
        "loan_repayment, forward only": lambda: _forward(newest("loan_repayment")),
        "loan_repayment, forward only, retries exhausted and redriven": lambda: _forward(
            newest("loan_repayment"), is_redriven=True
        ),
        "end_of_day, forward only": lambda: _forward(newest("end_of_day")),
        "one undone by the other, calls": lambda: Model(definition=chain(AUTHORIZE, CAPTURE), external=CALLS),
    },
    3: {
        "forward only, behind a step that is undone": lambda: _forward(FORWARD_3),
        "local": lambda: Model(definition=chain(RESERVE, BURN, BOOK)),
        "calls, retries exhausted, not cancelled": lambda: Model(
            definition=chain(AUTHORIZE, RESERVE, BOOK), external=CALLS, retries_run_out=True, has_cancellation=False
        ),
        "the last undone by the first": lambda: Model(definition=chain(AUTHORIZE, RESERVE, CAPTURE)),
        "the last undone by the first, calls": lambda: Model(
            definition=chain(AUTHORIZE, RESERVE, CAPTURE), external=CALLS
        ),
        "local, one exhausted and redriven, not cancelled": lambda: _one_exhausted(
            RESERVE, BURN, BOOK, is_redriven=True
        ),
        "calls, one exhausted and redriven, not cancelled": lambda: _one_exhausted(
            AUTHORIZE, RESERVE, BOOK, external=CALLS, is_redriven=True
        ),
    },
    4: {
        "local": lambda: Model(definition=chain(RESERVE, BURN, BOOK, POST)),
        "calls": lambda: Model(definition=chain(AUTHORIZE, RESERVE, BURN, BOOK), external=CALLS),
        "calls, not cancelled": lambda: Model(
            definition=chain(AUTHORIZE, RESERVE, BURN, BOOK), external=CALLS, has_cancellation=False
        ),
        "local, one exhausted, not cancelled": lambda: _one_exhausted(RESERVE, BURN, BOOK, POST),
        "receipt, forward only": lambda: _forward(newest("receipt")),
        "receipt, forward only, one exhausted and redriven": lambda: replace(
            _forward(newest("receipt"), is_redriven=True), exhausted_max=1
        ),
    },
}
"""By the number of steps and by name. Each may be rejected, time out and be cancelled, unless the name excludes it."""

LARGE: Mapping[int, Mapping[str, Callable[[], Model]]] = {
    3: {
        "calls, one exhausted and redriven": lambda: replace(
            _one_exhausted(AUTHORIZE, RESERVE, BOOK, external=CALLS, is_redriven=True), has_cancellation=True
        ),
        "calls, retries exhausted and redriven, not cancelled": lambda: _exhausted(
            AUTHORIZE, RESERVE, BOOK, external=CALLS, is_redriven=True
        ),
        "local, retries exhausted and redriven, not cancelled": lambda: _exhausted(
            RESERVE, BURN, BOOK, is_redriven=True
        ),
    },
    4: {
        "calls, one exhausted, not cancelled": lambda: _one_exhausted(AUTHORIZE, RESERVE, BURN, BOOK, external=CALLS),
        "calls, one exhausted and redriven, not cancelled": lambda: _one_exhausted(
            AUTHORIZE, RESERVE, BURN, BOOK, external=CALLS, is_redriven=True
        ),
        "calls, retries exhausted, not cancelled": lambda: _exhausted(AUTHORIZE, RESERVE, BURN, BOOK, external=CALLS),
        "local, retries exhausted, not cancelled": lambda: _exhausted(RESERVE, BURN, BOOK, POST),
    },
}
"""Models that take minutes and up to some gigabytes."""

BOUNDS = (
    "Bounds: one cancellation, one attempt of each command, and retries that run out at once (of one step or "
    "compensation only, where the name has 'one exhausted'); a redriven step does not fail again. "
    "Symmetry reduction: states that differ only in the order in which the tracker received messages, or in which of "
    "several messages carried the same fact, are equal."
)
