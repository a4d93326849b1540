"""What must hold in every state of a step at a gateway, and when nothing is owed."""

from __future__ import annotations

from chassis.saga.effects import OPEN, EffectState
from payment.gateways.port import Authorize, Refund, Requested, Void
from proof.gateway_lanes import UNDO, GatewayState

SETTLED = (EffectState.DONE, EffectState.REJECTED, EffectState.FENCED)


def count(state: GatewayState, request: Requested) -> int:
    """Return how often what was requested was done."""
    taken = state.books.taken
    match request:
        case Void():
            return taken.cancelled
        case Refund():
            return taken.refunded
        case Authorize():
            return taken.held + taken.captured
        case _:
            return taken.captured + taken.capture_failed


def wrong(state: GatewayState, charged: int) -> str | None:
    """Return what is wrong with a state in which the payer was charged so often."""
    if state.contradicted is not None:
        return f"{state.contradicted}, though the gateway contradicts nothing"
    main, undo = state.lanes[0], state.lanes[UNDO]
    assert main is not None, "it is begun at first"
    if undo is not None and undo.state is EffectState.REJECTED:
        return "the undo failed"
    if charged > 1:
        return "charged twice"
    if main.state in (EffectState.REJECTED, EffectState.FENCED) and charged:
        return f"{main.state.value}, and charged"
    if undo is not None and undo.state is EffectState.DONE and charged:
        return "undone, and charged"
    if main.state is EffectState.DONE and undo is None and charged != 1:
        return "DONE, and not charged"
    return None


def is_settled(state: GatewayState) -> bool:
    """Return whether everything is settled, and what a failed saga has done is undone."""
    main, undo = state.lanes[0], state.lanes[UNDO]
    assert main is not None, "it is begun at first"
    if main.state not in SETTLED or any(each is not None and each.state in OPEN for each in state.lanes):
        return False
    return not (state.has_failed and main.state is EffectState.DONE) or undo is not None


def is_left_to_a_person(state: GatewayState, sends_max: int) -> bool:
    """Return whether all sends of a lane are used up."""
    for lane in state.lanes:
        is_quiet = lane is not None and lane.state in OPEN and not lane.calls and not state.under_way
        if lane is not None and is_quiet and lane.row.current.sends >= sends_max:
            return True
    return False
