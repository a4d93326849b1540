"""The steps of mobile-money: prompts, float, payouts and reversals. What a provider proves comes later, as evidence.

What is requested is stored in the transaction that begins an attempt, with our id of it: a callback may come before the
answer, and after any restart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection

from chassis.saga.answers import Settlement
from chassis.saga.attempts import AwaitedPolicy, attempt_key
from chassis.saga.ladder import Ladder
from chassis.saga.steps import AwaitedCall, AwaitedStep, Compensation, Handler, Step
from messages.contract import Envelope
from messages.mobile_money import FloatReleased, ReleaseFloat
from mobile_money import floats, tables
from mobile_money.domain import LaneId
from mobile_money.floats import Floats, Reservation
from mobile_money.lanes import SEND_PAYOUT, open_lanes
from mobile_money.port import Paid, Payout, Prompt, Refused, Reversal
from mobile_money.registry import Providers
from mobile_money.sagas import collection, payouts, return_receipt
from mobile_money.step_requests import ReserveFloat, SendPayout, SendPrompt, SendReversal, judge
from mobile_money.tables import Ended, OwnId

SEND_PROMPT, RESERVE_FLOAT, SEND_REVERSAL = "send_prompt", "reserve_float", "send_reversal"
CALL_DURATION: Final = timedelta(seconds=6)
"""A wait for the limit, a token, the call, and what may still be in the network."""
GRACE: Final = timedelta(hours=24)
"""How late a request may arrive at a provider that has queued it."""
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
PROMPTING: Final = Ladder(
    waits_s=(45, 2 * MINUTE_S, 4 * MINUTE_S, 8 * MINUTE_S, 15 * MINUTE_S, HOUR_S, 6 * HOUR_S, DAY_S),
    ends_after_s=7 * DAY_S,
)
PAYING: Final = Ladder()
PROMPT_POLICY: Final = AwaitedPolicy(no_return=True, attempts_max=1, sends_max=1, grace=GRACE)
"""It has no key: a repeat would be a second prompt. Its payment is found by its reference."""
PAYOUT_POLICY: Final = AwaitedPolicy(no_return=True, attempts_max=1_000, sends_max=3, grace=GRACE)
"""Of attempts there are as many as lanes are opened again after faults of ours."""
REVERSAL_POLICY: Final = AwaitedPolicy(no_return=True, attempts_max=1_000, sends_max=2, grace=GRACE)


def prompts(providers: Providers, requests: Sequence[SendPrompt], tx: Connection) -> Mapping[str, Prompt]:
    """Store the prompts that are requested, and return the requests by saga id."""
    tables.add(tx, tables.ADD_PROMPTS, tables.PROMPT, requests)
    _add_own_ids(providers, SEND_PROMPT, requests, tx)
    at = tables.prompted_at(tx, {each.saga_id for each in requests})
    return {
        each.saga_id: Prompt(
            short_code=each.short_code,
            phone=each.phone,
            amount_minor=each.amount_minor,
            currency=each.currency,
            reference=each.reference,
            requested_at=at.get(each.saga_id),
        )
        for each in requests
    }


def payments(providers: Providers, requests: Sequence[SendPayout], tx: Connection) -> Mapping[str, Payout]:
    """Store the payouts that are requested, and return the requests by saga id."""
    tables.add(tx, tables.ADD_PAYOUTS, tables.PAYOUT, requests)
    _add_own_ids(providers, SEND_PAYOUT, requests, tx)
    return {
        each.saga_id: Payout(
            short_code=each.short_code,
            phone=each.phone,
            amount_minor=each.amount_minor,
            currency=each.currency,
            lane=each.lane.value,
        )
        for each in requests
    }


def reversals(providers: Providers, requests: Sequence[SendReversal], tx: Connection) -> Mapping[str, Reversal]:
    """Store the reversals that are requested, and return the requests by saga id."""
    tables.add(tx, tables.ADD_REVERSALS, tables.REVERSAL, requests)
    _add_own_ids(providers, SEND_REVERSAL, requests, tx)
    collected = tables.collected_as(tx, {(each.short_code, each.receipt) for each in requests})
    return {
        each.saga_id: Reversal(
            short_code=each.short_code,
            receipt=each.receipt,
            amount_minor=each.amount_minor,
            currency=each.currency,
            collected_as=collected.get((each.short_code, each.receipt)),
        )
        for each in requests
    }


def _add_own_ids(
    providers: Providers, step: str, requests: Sequence[SendPrompt | SendPayout | SendReversal], tx: Connection
) -> None:
    """Store our ids of the last attempts and of the next ones: which of them is sent now is not known here."""
    last = tables.numbers(tx, step, {each.saga_id for each in requests})
    found = []
    for each in requests:
        known = last.get(each.saga_id, 0)
        for number in range(max(known, 1), known + 2):
            own_id = providers.own_id(each.short_code, attempt_key(each.saga_id, step, number))
            if own_id is not None:
                found.append(
                    OwnId(own_id=own_id, short_code=each.short_code, saga_id=each.saga_id, step=step, number=number)
                )
    tables.add_own_ids(tx, found)


def load_nothing(_requests: Sequence[object], _tx: Connection) -> list[Ended]:
    """Return what a batch has ended: nothing yet."""
    return []


def record(request: SendPrompt | SendPayout | SendReversal, settlement: Settlement, ended: list[Ended]) -> None:
    """Record how a prompt, a payout or a reversal ended."""
    paid = Paid.of(settlement.proof.detail) if settlement.is_done else None
    if settlement.is_done:
        receipt = settlement.proof.reference if paid is None else paid.receipt
        charge = 0 if paid is None else paid.charge_minor
        at = None if paid is None else paid.completed_at
        ended.append(
            Ended(saga_id=request.saga_id, state="PAID", receipt=receipt, charge_minor=charge, completed_at=at)
        )
        return
    refused = Refused.of(settlement.proof.detail, settlement.proof.outcome)
    ended.append(Ended(saga_id=request.saga_id, state="FAILED", reason=refused.reason))


def save_prompts(ended: list[Ended], tx: Connection) -> None:
    """Save how prompts ended."""
    tables.end(tx, tables.END_PROMPTS, ended)


def save_payouts(ended: list[Ended], tx: Connection) -> None:
    """Save how payouts ended. The float of one that is paid is consumed; that of a failed one is released elsewhere."""
    tables.end(tx, tables.END_PAYOUTS, ended)
    floats.consume(tx, {each.saga_id for each in ended if each.state == "PAID"})


def save_reversals(ended: list[Ended], tx: Connection) -> None:
    """Save how reversals ended."""
    tables.end(tx, tables.END_REVERSALS, ended)


def load_floats(requests: Sequence[ReserveFloat], tx: Connection) -> Floats:
    """Lock the floats that these requests need."""
    return floats.lock(tx, {each.short_code for each in requests})


def reserve(request: ReserveFloat, found: Floats, _envelope: Envelope) -> bool:
    """Reserve float, and return whether there was enough. Where the balance is not known the provider refuses."""
    free = found.of(request.short_code).free_minor
    if free is not None and free < request.amount_minor:
        return False
    found.reserve(
        Reservation(saga_id=request.saga_id, short_code=request.short_code, amount_minor=request.amount_minor)
    )
    return True


def load_commands(commands: Sequence[ReleaseFloat], _tx: Connection) -> set[str]:
    """Return what a batch releases: nothing yet."""
    return set()


def release(command: ReleaseFloat, undo_now: bool, released: set[str], envelope: Envelope) -> FloatReleased:
    """Release the float of a payout."""
    if undo_now:
        released.add(command.saga_id)
    return FloatReleased(**envelope, step=command.step, undone=undo_now)


def save_released(released: set[str], tx: Connection) -> None:
    """Give the float back, each reservation once."""
    floats.release(tx, released)


def lane(request: SendPayout) -> str:
    """Return the lane that another attempt of a payout needs to be open."""
    return str(LaneId(short_code=request.short_code, name=request.lane))


def steps(providers: Providers) -> tuple[Handler, ...]:
    """Return the steps, which call these providers."""
    return (_prompting(providers), _reserving(), _paying(providers), _reversing(providers))


def _prompting(providers: Providers) -> AwaitedStep[SendPrompt, Prompt, list[Ended]]:
    return AwaitedStep(
        name=SEND_PROMPT,
        triggers=(collection.PROMPT,),
        policy=PROMPT_POLICY,
        ladder=PROMPTING,
        call=AwaitedCall(
            prepare=partial(prompts, providers),
            send=providers.send,
            query_of=providers.query,
            duration=CALL_DURATION,
        ),
        load=load_nothing,
        judge=judge,
        record=record,
        save=save_prompts,
        compensation=None,
    )


def _reserving() -> Step[ReserveFloat, Floats]:
    return Step(
        name=RESERVE_FLOAT,
        triggers=payouts.RESERVATIONS,
        load=load_floats,
        decide=reserve,
        save=floats.save,
        compensation=Compensation(
            on=ReleaseFloat,
            undoes=(RESERVE_FLOAT,),
            load=load_commands,
            decide=release,
            save=save_released,
            replies=(FloatReleased,),
        ),
    )


def _paying(providers: Providers) -> AwaitedStep[SendPayout, Payout, list[Ended]]:
    return AwaitedStep(
        name=SEND_PAYOUT,
        triggers=payouts.PAYOUTS,
        policy=PAYOUT_POLICY,
        ladder=PAYING,
        call=AwaitedCall(
            prepare=partial(payments, providers),
            send=providers.send,
            query_of=providers.query,
            duration=CALL_DURATION,
        ),
        load=load_nothing,
        judge=judge,
        lane=lane,
        open_lanes=open_lanes,
        record=record,
        save=save_payouts,
        compensation=None,
    )


def _reversing(providers: Providers) -> AwaitedStep[SendReversal, Reversal, list[Ended]]:
    return AwaitedStep(
        name=SEND_REVERSAL,
        triggers=(return_receipt.REVERSAL,),
        policy=REVERSAL_POLICY,
        ladder=PAYING,
        call=AwaitedCall(
            prepare=partial(reversals, providers),
            send=providers.send,
            query_of=providers.query,
            duration=CALL_DURATION,
        ),
        load=load_nothing,
        record=record,
        save=save_reversals,
        compensation=None,
    )
