"""The sagas that are explored: chains of the order saga's own steps, from one to four."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from saga_tracker.definitions import newest
from saga_tracker.model.saga import SagaDefinition, StepDefinition

from proof.states import Model

ORDER = newest("order")
AUTHORIZE, RESERVE, BURN, BOOK, CAPTURE, POST = ORDER.steps
CALLS = frozenset({AUTHORIZE.name, BOOK.name, CAPTURE.name})
"""The steps that ask a provider outside."""


def chain(*steps: StepDefinition) -> SagaDefinition:
    """Return a saga of these steps; each is triggered by the success of the one before."""
    chained = [replace(steps[0], trigger=ORDER.started_by)]
    for step in steps[1:]:
        chained.append(replace(step, trigger=chained[-1].succeeds_with))
    return replace(ORDER, steps=tuple(chained))


def _given_up(*steps: StepDefinition, external: frozenset[str] = frozenset(), is_redriven: bool = False) -> Model:
    return Model(
        definition=chain(*steps), external=external, gives_up=True, is_redriven=is_redriven, has_cancellation=False
    )


def _one_given_up(*steps: StepDefinition, external: frozenset[str] = frozenset(), is_redriven: bool = False) -> Model:
    return replace(_given_up(*steps, external=external, is_redriven=is_redriven), given_up_max=1)


MODELS: Mapping[int, Mapping[str, Callable[[], Model]]] = {
    1: {
        "a call, given up": lambda: Model(definition=chain(AUTHORIZE), external=CALLS, gives_up=True),
        "local, given up and redriven": lambda: Model(definition=chain(RESERVE), gives_up=True, is_redriven=True),
    },
    2: {
        "calls, given up": lambda: Model(definition=chain(AUTHORIZE, RESERVE), external=CALLS, gives_up=True),
        "calls, given up and redriven": lambda: Model(
            definition=chain(AUTHORIZE, RESERVE), external=CALLS, gives_up=True, is_redriven=True
        ),
        "calls, given up and redriven, not cancelled": lambda: Model(
            definition=chain(AUTHORIZE, RESERVE),
            external=CALLS,
            gives_up=True,
            is_redriven=True,
            has_cancellation=False,
        ),
        "local, given up and redriven, not cancelled": lambda: Model(
            definition=chain(RESERVE, BURN), gives_up=True, is_redriven=True, has_cancellation=False
        ),
        "local, given up": lambda: Model(definition=chain(RESERVE, BURN), gives_up=True),
        "one undone by the other, calls": lambda: Model(definition=chain(AUTHORIZE, CAPTURE), external=CALLS),
    },
    3: {
        "local": lambda: Model(definition=chain(RESERVE, BURN, BOOK)),
        "calls, given up, not cancelled": lambda: Model(
            definition=chain(AUTHORIZE, RESERVE, BOOK), external=CALLS, gives_up=True, has_cancellation=False
        ),
        "the last undone by the first": lambda: Model(definition=chain(AUTHORIZE, RESERVE, CAPTURE)),
        "the last undone by the first, calls": lambda: Model(
            definition=chain(AUTHORIZE, RESERVE, CAPTURE), external=CALLS
        ),
        "local, one given up and redriven, not cancelled": lambda: _one_given_up(RESERVE, BURN, BOOK, is_redriven=True),
        "calls, one given up and redriven, not cancelled": lambda: _one_given_up(
            AUTHORIZE, RESERVE, BOOK, external=CALLS, is_redriven=True
        ),
    },
    4: {
        "local": lambda: Model(definition=chain(RESERVE, BURN, BOOK, POST)),
        "calls": lambda: Model(definition=chain(AUTHORIZE, RESERVE, BURN, BOOK), external=CALLS),
        "calls, not cancelled": lambda: Model(
            definition=chain(AUTHORIZE, RESERVE, BURN, BOOK), external=CALLS, has_cancellation=False
        ),
        "local, one given up, not cancelled": lambda: _one_given_up(RESERVE, BURN, BOOK, POST),
    },
}
"""By the number of steps and what they do. All can be rejected, time out, and be cancelled unless it says otherwise."""

LARGE: Mapping[int, Mapping[str, Callable[[], Model]]] = {
    3: {
        "calls, one given up and redriven": lambda: replace(
            _one_given_up(AUTHORIZE, RESERVE, BOOK, external=CALLS, is_redriven=True), has_cancellation=True
        ),
        "calls, given up and redriven, not cancelled": lambda: _given_up(
            AUTHORIZE, RESERVE, BOOK, external=CALLS, is_redriven=True
        ),
        "local, given up and redriven, not cancelled": lambda: _given_up(RESERVE, BURN, BOOK, is_redriven=True),
    },
    4: {
        "calls, one given up, not cancelled": lambda: _one_given_up(AUTHORIZE, RESERVE, BURN, BOOK, external=CALLS),
        "calls, one given up and redriven, not cancelled": lambda: _one_given_up(
            AUTHORIZE, RESERVE, BURN, BOOK, external=CALLS, is_redriven=True
        ),
        "calls, given up, not cancelled": lambda: _given_up(AUTHORIZE, RESERVE, BURN, BOOK, external=CALLS),
        "local, given up, not cancelled": lambda: _given_up(RESERVE, BURN, BOOK, POST),
    },
}
"""Those that take minutes and up to some gigabytes."""

BOUNDS = (
    "Bounds: one cancellation, one attempt of each command, a retry that runs out at once (where it says one given up, "
    "of one step or compensation only); what was redriven does not fail again. "
    "Symmetry: worlds that differ only in the order in which the tracker heard messages, or in which of several told "
    "it the same, are one."
)
