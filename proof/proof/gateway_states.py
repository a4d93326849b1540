"""The model of a step at a gateway of merchants' payments, over its real adapter and the real decisions of the chassis.

A state holds the step with its undo and what undoes stray successes, each with its calls; the gateway; and requests
whose clients no longer wait. What may happen at any moment: a request is lost, or arrives late; an answer is lost;
a process is killed before it commits an answer; a webhook comes, again, or before the answer; the saga fails; a day
goes by, after which keys may be deleted. The queries and the cancels of the ladder repeat without an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chassis.saga import awaited
from chassis.saga.answers import Accepted, NotFound, Proven
from chassis.saga.attempt_rows import FoundAttempt, may_be
from chassis.saga.attempts import AttemptState, AwaitedPolicy, attempt_key
from chassis.saga.awaited import Act, AwaitedEffect, Change
from chassis.saga.awaited_decisions import evidence_of
from chassis.saga.effects import OPEN, EffectState
from chassis.saga.evidence import Claim, attempt_of
from chassis.saga.unit_of_work import AwaitedAct
from payment.gateways.port import Gateway, Requested, Taken, Void, gateway_id
from proof.gateway_books import AMOUNT_MINOR, CURRENCY, PAYMENT_ID, Books
from proof.gateway_calls import ACCOUNT, NO_ANSWER, Call, GatewayRequest, Reached, ScriptedAccount, reached
from proof.gateway_invariants import count, is_left_to_a_person, is_settled, wrong
from proof.gateway_lanes import STRAY, UNDO, GatewayState, Lane

SAGA = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
AT = datetime(2026, 1, 1, tzinfo=UTC)
CALL = timedelta(seconds=6)
UNDER_WAY_MAX = 1
ACTS = {Act.SEND: AwaitedAct.SEND, Act.SEND_AGAIN: AwaitedAct.SEND, Act.QUERY: AwaitedAct.QUERY}
ACTS |= {Act.CANCEL: AwaitedAct.CANCEL}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRules:
    """The real decisions, for a negative control to leave one out."""

    on_evidence: Callable[..., Change] = awaited.on_evidence
    on_accepted: Callable[[AwaitedEffect, int], Change] = awaited.on_accepted
    on_due: Callable[..., Change] = awaited.on_due
    attempt_of: Callable[..., FoundAttempt | None] = attempt_of
    may_be: Callable[[str | None, str | None], bool] = may_be


@dataclass(slots=True, kw_only=True)
class GatewayModel:
    """A step at a gateway. ``gateway`` makes the adapter of an account, ``read`` reads a webhook.

    ``judge`` says what a proof means for what was requested. ``days`` lets a day go by; what is open then is left to a
    person, whom the end of the ladder calls. ``attempt`` is the one that is begun at first; earlier ones have failed.
    """

    gateway: Callable[[ScriptedAccount, str | None], Gateway]
    read: Callable[[bytes, bool], Claim | None]
    books: Books
    step: str
    request: Requested
    policy: AwaitedPolicy
    judge: Callable[[Proven], Proven]
    rules: GatewayRules = field(default_factory=GatewayRules)
    can_fail: bool = False
    days: bool = False
    attempt: int = 1
    _reached: dict[tuple[int, Call, Requested, str], Reached] = field(init=False, default_factory=dict)
    _claims: dict[tuple[bytes, bool], Claim | None] = field(init=False, default_factory=dict)

    @property
    def initial(self) -> GatewayState:
        """The state in which the step is begun, and Kafka has its StepAwaited."""
        change = _at_attempt(awaited.triggered(SAGA, self.step, now=AT, deadline_at=AT + CALL), self.attempt)
        empty = GatewayState((None,) * (STRAY + self.policy.attempts_max), self.books)
        return self._begun(empty, 0, change)

    def outcome(self, state: GatewayState) -> str:
        """Return how an end is called."""
        main, undo = state.lanes[0], state.lanes[UNDO]
        assert main is not None, "it is begun at first"
        if any(each is not None and each.state in OPEN for each in state.lanes):
            return "IN DOUBT"
        return "UNDONE" if undo is not None else main.state.value

    def transitions(self, state: GatewayState) -> Iterator[tuple[str, GatewayState]]:
        """Yield every transition from this state."""
        for what, after in self._all(state):
            if after != state:
                yield what, after

    def _all(self, state: GatewayState) -> Iterator[tuple[str, GatewayState]]:
        for index, lane in enumerate(state.lanes):
            if lane is not None:
                for call in lane.calls:
                    yield from self._call(state, index, lane, call)
                yield from self._due(state, index, lane)
        for number, asked in enumerate(state.under_way):
            fewer = replace(state, under_way=(*state.under_way[:number], *state.under_way[number + 1 :]))
            for what, books, _ in state.books.arriving(asked):
                yield f"a late request arrives: {_named(asked)}{what}", replace(fewer, books=books)
        for what, books in state.books.going_on():
            yield what, replace(state, books=books)
        for body in state.books.events:
            yield from self._webhook(state, body)
        # A call is over in seconds.
        if self.days and not state.is_late and not any(lane.calls for lane in state.lanes if lane is not None):
            yield "a day goes by", replace(state, is_late=True, under_way=(), books=state.books.a_day_later())
        yield from self._saga(state)

    # The saga

    def _saga(self, state: GatewayState) -> Iterator[tuple[str, GatewayState]]:
        main = state.lanes[0]
        assert main is not None, "it is begun at first"
        if self.can_fail and not state.has_failed:
            change = awaited.on_fenced(main.row, self.policy)
            yield "the saga fails", self._changed(replace(state, has_failed=True), 0, change)
        if state.has_failed and main.state is EffectState.DONE and state.lanes[UNDO] is None:
            change = awaited.triggered(SAGA, awaited.undo_step(self.step), now=AT, deadline_at=AT + CALL)
            yield "the undo begins", self._begun(state, UNDO, change)

    def _begun(self, state: GatewayState, index: int, change: Change) -> GatewayState:
        ids = (None,) * len(change.after.attempts)
        return self._changed(state.with_lane(index, Lane(change.after, ids)), index, change)

    # Decisions

    def _changed(self, state: GatewayState, index: int, change: Change) -> GatewayState:
        lane = state.lanes[index]
        assert lane is not None, "a decision is about what is begun"
        ids = (*lane.ids, *(None,) * (len(change.after.attempts) - len(lane.ids)))
        calls = lane.calls
        number = change.after.effect.attempt
        for act in change.acts:
            planned = ACTS.get(act)
            if planned is not None and all((each.act, each.number) != (planned, number) for each in calls):
                calls |= {Call(planned, number, ids[number - 1])}
        after = state.with_lane(index, replace(lane, row=change.after, ids=ids, calls=calls))
        after = self._at_once(after, index)
        if Act.CONTRADICT in change.acts:
            after = replace(after, contradicted=f"{change.after.effect.step} is contradicted")
        if Act.UNDO_ATTEMPT in change.acts:
            assert change.contradicted is not None, "it is a stray attempt that is undone"
            stray = STRAY + change.contradicted - 1
            if after.lanes[stray] is None:
                name = awaited.stray_undo(self.step, change.contradicted)
                begun = awaited.triggered(SAGA, name, now=AT, deadline_at=AT + CALL)
                after = self._begun(after, stray, begun)
        return after

    def _at_once(self, state: GatewayState, index: int) -> GatewayState:
        """Take the answers of queries that make no request: no time goes by in them."""
        lane = state.lanes[index]
        assert lane is not None, "it was called"
        for call in lane.calls:
            if call.act is not AwaitedAct.QUERY or call.answers:
                continue
            key = attempt_key(SAGA, lane.row.effect.step, call.number)
            found = self._found(index, call, _requested(state, index, self.request), key)
            if not isinstance(found, GatewayRequest):
                without = state.with_lane(index, _with_call(lane, call, None))
                return self._settled(without, index, call, found)
        return state

    def _policy(self, index: int) -> AwaitedPolicy:
        return AwaitedPolicy(no_return=True, sends_max=self.policy.sends_max) if index else self.policy

    def _due(self, state: GatewayState, index: int, lane: Lane) -> Iterator[tuple[str, GatewayState]]:
        effect = lane.row.effect
        is_called = any(each.act is AwaitedAct.SEND and each.number == effect.attempt for each in lane.calls)
        if effect.state is EffectState.STARTED and is_called:
            return
        now = AT + (timedelta(hours=30) if state.is_late else timedelta(minutes=1))
        change = self.rules.on_due(lane.row, self._policy(index), now=now, deadline_at=now + CALL)
        yield f"{effect.step} is due", self._changed(state, index, change)

    # Calls

    def _call(self, state: GatewayState, index: int, lane: Lane, call: Call) -> Iterator[tuple[str, GatewayState]]:
        key, request = attempt_key(SAGA, lane.row.effect.step, call.number), _requested(state, index, self.request)
        if call.is_fresh is None:
            may_be_fresh = call.act is AwaitedAct.QUERY and call.provider_id is not None and index == 0
            for is_fresh in (False, True) if may_be_fresh else (False,):
                yield from self._call(state, index, _with_call(lane, call, c := replace(call, is_fresh=is_fresh)), c)
            return
        found = self._found(index, call, request, key)
        without = state.with_lane(index, _with_call(lane, call, None))
        what = f"{lane.row.effect.step} {call.act.name.lower()}"
        if not isinstance(found, GatewayRequest):
            yield f"{what}: killed before it commits {found}", without
            yield f"{what}: {found}", self._settled(without, index, call, found)
            return
        asked = _named(found)
        for happens, books, answer in state.books.arriving(found):
            after = self._answered(state, index, lane, call, (*call.answers, answer), request, key)
            yield f"{what}: {asked}{happens}", replace(after, books=books)
        lost = self._answered(state, index, lane, call, (*call.answers, NO_ANSWER), request, key)
        yield f"{what}: {asked} is lost", lost
        if found.method == "POST" and len(state.under_way) < UNDER_WAY_MAX:
            yield f"{what}: {asked} is under way for long", replace(lost, under_way=(*state.under_way, found))

    def _answered(
        self, state: GatewayState, index: int, lane: Lane, call: Call, answers: Any, request: Requested, key: str
    ) -> GatewayState:
        """Return the state with one more answer; a call that fails with it is over."""
        after = replace(call, answers=answers)
        found = self._found(index, after, request, key)
        is_over = isinstance(found, Exception)
        return state.with_lane(index, _with_call(lane, call, None if is_over else after))

    def _found(self, index: int, call: Call, request: Requested, key: str) -> Reached:
        known = (index, call, request, key)
        if known not in self._reached:
            fresh = gateway_id(call.provider_id) if call.is_fresh else None
            self._reached[known] = reached(self.gateway(ScriptedAccount(call.answers), fresh), call, request, key)
        return self._reached[known]

    def _settled(self, state: GatewayState, index: int, call: Call, found: Reached) -> GatewayState:
        """Take the answer to a call, as ``chassis.saga.awaited_steps`` does."""
        lane = state.lanes[index]
        assert lane is not None, "it was called"
        match found:
            case Accepted():
                before = lane.row.effect
                known = state.with_lane(index, _remembering(lane, call.number, found.provider_id))
                after = self._changed(known, index, self.rules.on_accepted(lane.row, call.number))
                lane = after.lanes[index]
                assert lane is not None, "it was called"
                effect = lane.row.effect
                is_first = before.state is not EffectState.SENT and effect.state is EffectState.SENT
                if found.is_ready and is_first and call.number == effect.attempt and not effect.closing:
                    after = self._changed(after, index, Change(after=lane.row, acts=(Act.QUERY,)))
                return after
            case NotFound():
                change = awaited.on_not_found(lane.row, self._policy(index), call.number)
                return self._changed(state, index, change)
            case Proven():
                return self._proven(state, index, call.number, found)
            case _:
                return state

    def _proven(self, state: GatewayState, index: int, number: int, proof: Proven) -> GatewayState:
        lane = state.lanes[index]
        assert lane is not None, "a proof is about what is begun"
        proof = proof if index else self.judge(proof)
        known = state.with_lane(index, _remembering(lane, number, proof.provider_id))
        change = self.rules.on_evidence(lane.row, self._policy(index), evidence_of(number, proof))
        return self._changed(known, index, change)

    # Webhooks

    def _webhook(self, state: GatewayState, body: bytes) -> Iterator[tuple[str, GatewayState]]:
        main = state.lanes[0]
        assert main is not None, "it is begun at first"
        is_requested = main.state not in (EffectState.DONE, EffectState.REJECTED)
        if (body, is_requested) not in self._claims:
            self._claims[body, is_requested] = self.read(body, is_requested)
        claim = self._claims[body, is_requested]
        attempts = {
            attempt_key(SAGA, lane.row.effect.step, number): (index, number, lane.ids[number - 1])
            for index, lane in enumerate(state.lanes)
            if lane is not None
            for number in range(1, len(lane.row.attempts) + 1)
        }
        known = [
            FoundAttempt(saga_id=SAGA, step=self.step, number=number, key=key, provider_id=found, partition=0)
            for key, (_, number, found) in attempts.items()
        ]
        attempt = self.rules.attempt_of(claim, known)
        if claim is None or attempt is None:
            return
        index, number, found = attempts[attempt.key]
        if not self.rules.may_be(found, claim.provider_id):
            return
        proof = Proven(
            outcome=claim.outcome, provider_id=claim.provider_id, reference=claim.reference, detail=claim.detail
        )
        what = f"a webhook says {claim.outcome.value} of {attempt.key.removeprefix(SAGA)} {claim.provider_id}"
        yield what, self._proven(state, index, number, proof)

    # Invariants

    def violation(self, _before: GatewayState, state: GatewayState) -> str | None:
        """Return what is wrong with a state."""
        return wrong(state, count(state, self.request))

    def is_end(self, state: GatewayState) -> bool:
        """Return whether nothing is owed."""
        return state.is_late or is_left_to_a_person(state, self.policy.sends_max) or is_settled(state)


def _at_attempt(change: Change, number: int) -> Change:
    """Return what begins a step as it begins this attempt: those before it have failed."""
    (first,) = change.after.attempts
    failed = tuple(replace(first, number=each, state=AttemptState.FAILED) for each in range(1, number))
    effect = replace(change.after.effect, attempt=number)
    return replace(change, after=AwaitedEffect(effect=effect, attempts=(*failed, replace(first, number=number))))


def _with_call(lane: Lane, call: Call, after: Call | None) -> Lane:
    calls = lane.calls - {call}
    return replace(lane, calls=calls if after is None else calls | {after})


def _remembering(lane: Lane, number: int, provider_id: str | None) -> Lane:
    """Keep the gateway's own id of an attempt. The first one stays."""
    if provider_id is None or lane.ids[number - 1] is not None:
        return lane
    return replace(lane, ids=(*lane.ids[: number - 1], provider_id, *lane.ids[number:]))


def _named(asked: GatewayRequest) -> str:
    return f"{asked.method} {asked.path}"


def _requested(state: GatewayState, index: int, request: Requested) -> Requested:
    """Return what a lane requests of the gateway."""
    main = state.lanes[0]
    assert main is not None, "it is begun at first"
    if index == 0:
        return request
    if index == UNDO:
        details = [each.detail for each in main.row.attempts if each.detail is not None]
        taken = Taken.of(details[-1]) if details else None
        found = None if taken is None else taken.gateway_payment_id
    else:
        found = gateway_id(main.ids[index - STRAY])
    return Void(
        account=ACCOUNT,
        payment_id=PAYMENT_ID,
        gateway_payment_id=found,
        amount_minor=AMOUNT_MINOR,
        currency=CURRENCY,
    )
