"""The fence in a service whose step's outcome comes later: it replies at once, and once more when that is settled."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chassis.saga.built_in_commands import BuiltInCommands
from chassis.saga.deferred import RawMessage
from chassis.saga.effects import Effect, EffectState, LoadedEffects, settled
from chassis.saga.handlers import FENCE, Handlers
from chassis.saga.unit_of_work import Delivery, UnitOfWork
from chassis.saga.waiting import WaitingMessages
from chassis.wire.codec import Codec
from inventory.handlers import HANDLERS
from messages.saga import FenceSaga, SagaFenced
from proof.schemas import LocalRegistry

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SAGA = "01JD0000000000000000000000"
STEP = "reserve_inventory"
COMMAND = FenceSaga(
    message_id="01JD0000000000000000000001",
    saga_id=SAGA,
    saga_type="order",
    saga_version=1,
    causation_id=None,
    occurred_at=NOW,
    steps=(STEP,),
    attempt=1,
    reason="cancelled",
)


def an_effect(state: EffectState) -> Effect:
    return Effect(saga_id=SAGA, step=STEP, state=state, attempt=1, deadline_at=NOW + timedelta(seconds=4))


def fence(effect: Effect | None, waiting: WaitingMessages | None = None) -> tuple[UnitOfWork, list[SagaFenced]]:
    """Handle the fence in a unit of work, and return it with the replies that it emits."""
    handlers, codec = Handlers.of(HANDLERS), Codec(LocalRegistry())
    loaded = LoadedEffects.of([effect] if effect else [])
    raw = RawMessage(
        topic="inventory.commands",
        partition=3,
        offset=7,
        key=SAGA.encode(),
        value=codec.encode("inventory.commands", COMMAND),
        headers=(),
    )
    unit_of_work = UnitOfWork(
        "inventory",
        handlers,
        codec,
        loaded,
        waiting or WaitingMessages(),
        now=NOW,
        new_id=lambda: "01JD0000000000000000000009",
        jitter=random.Random(1),
    )
    BuiltInCommands(handlers, unit_of_work).handle(Delivery(message=COMMAND, raw=raw))
    replies = [codec.decode(row.payload) for row in unit_of_work.out.rows]
    return unit_of_work, [each for each in replies if isinstance(each, SagaFenced)]


def states(reply: SagaFenced) -> list[tuple[str, str]]:
    return [(each.step, each.state) for each in reply.steps]


@pytest.mark.parametrize("state", [EffectState.SENT, EffectState.UNSURE])
def test_a_step_in_doubt_is_reported_at_once_and_the_command_waits_without_a_due_time(state: EffectState) -> None:
    unit_of_work, (reply,) = fence(an_effect(state))
    assert states(reply) == [(STEP, "IN_DOUBT")]
    row = unit_of_work.waiting.get((COMMAND.message_id, FENCE))
    assert row is not None
    assert (row.due_at, row.is_parked) == (None, False)
    after = unit_of_work.loaded.get(SAGA, STEP)
    assert after is not None
    assert (after.state, after.closing) == (state, True)


def test_what_settles_the_step_wakes_the_fence_which_replies_once_more_under_another_id() -> None:
    unit_of_work, (first,) = fence(an_effect(EffectState.SENT))
    unit_of_work.waiting.wake(SAGA, lambda row: row.raw.is_command, NOW)
    row = unit_of_work.waiting.get((COMMAND.message_id, FENCE))
    assert row is not None
    assert row.due_at == NOW
    closing = unit_of_work.loaded.get(SAGA, STEP)
    assert closing is not None
    _, (second,) = fence(settled(closing, EffectState.DONE), unit_of_work.waiting)
    assert states(second) == [(STEP, "DONE")]
    assert second.message_id != first.message_id
    assert unit_of_work.waiting.get((COMMAND.message_id, FENCE)) is None
    assert fence(an_effect(EffectState.SENT))[1] == [replace(first)]


def test_a_call_under_way_is_not_in_doubt_yet() -> None:
    unit_of_work, replies = fence(an_effect(EffectState.STARTED))
    assert replies == []
    row = unit_of_work.waiting.get((COMMAND.message_id, FENCE))
    assert row is not None
    assert row.due_at == NOW + timedelta(seconds=4)


@pytest.mark.parametrize(
    ("before", "reported"),
    [(None, "FENCED"), (EffectState.PAUSED, "FENCED"), (EffectState.DONE, "DONE"), (EffectState.REJECTED, "REJECTED")],
)
def test_whatever_is_settled_or_never_ran_is_reported_as_it_is(before: EffectState | None, reported: str) -> None:
    _, (reply,) = fence(None if before is None else an_effect(before))
    assert states(reply) == [(STEP, reported)]
