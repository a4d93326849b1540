"""What a service declares: its handlers by name, and the idempotency keys of its calls."""

from __future__ import annotations

import pytest

from chassis.saga.handlers import FENCE, REDRIVE, Handlers
from chassis.saga.retry import RetryPolicy
from chassis.saga.steps import ExternalCompensation, ExternalStep, Reaction, idempotency_key, name
from messages.inventory import ReleaseInventory
from messages.saga import FenceSaga, RedriveStep
from messages.shipping import ShipmentBooked
from support import toy
from support.toy import PICK, SEND

HANDLERS = Handlers.of(toy.handlers(toy.WellProvider()))


def test_every_handler_is_found_by_its_name() -> None:
    declared = (*HANDLERS.steps, *HANDLERS.compensations)
    assert {name(each): each for each in declared} == HANDLERS.by_name
    assert HANDLERS.step(PICK) is HANDLERS.by_name[PICK]
    assert HANDLERS.step("ReleaseInventory") is None, "a compensation is no step"


def test_a_message_leads_to_its_handlers_declared_or_built_in() -> None:
    assert HANDLERS.for_message(ReleaseInventory) == ("ReleaseInventory",)
    assert HANDLERS.for_message(FenceSaga) == (FENCE,)
    assert Handlers.of(toy.LISTENING).for_message(FenceSaga) == (), "without steps there is nothing to fence"
    assert Handlers.of(toy.LISTENING).for_message(RedriveStep) == (REDRIVE,)


def test_two_handlers_of_one_name_are_refused() -> None:
    twice = Reaction(on=ShipmentBooked, sagas=frozenset(), apply=lambda _events, _tx: None)
    with pytest.raises(ValueError, match="Two handlers are named 'ShipmentBooked'"):
        Handlers.of([twice, twice])


def test_a_handler_is_retried_by_its_own_policy_and_dead_lettered_on_its_steps_topic() -> None:
    assert HANDLERS.retry_of(PICK) == (toy.QUICK, PICK)
    assert HANDLERS.retry_of("ReleaseInventory") == (toy.QUICK, PICK)
    assert Handlers.of(toy.LISTENING).retry_of("ShipmentBooked") == (toy.QUICK, None)
    assert HANDLERS.retry_of(FENCE) == (RetryPolicy(), None)


def test_the_idempotency_keys_never_change() -> None:
    """Providers know the calls of every release by them; another key would charge a customer twice."""
    step = HANDLERS.by_name[SEND]
    assert isinstance(step, ExternalStep)
    assert isinstance(step.compensation, ExternalCompensation)
    assert idempotency_key("01M7YXVCWXDZRXEMYD6W4G3P68", step) == "01M7YXVCWXDZRXEMYD6W4G3P68:send"
    assert idempotency_key("01M7YXVCWXDZRXEMYD6W4G3P68", step.compensation) == "01M7YXVCWXDZRXEMYD6W4G3P68:send:undo"
