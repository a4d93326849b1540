"""The invariants of a SACCO at rest: ledger, our records and the provider's own books say the same of all money."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chassis.wire.codec import Codec
from members.requests import WITHDRAWAL, Request
from proof.broker import Broker
from proof.checks import (
    CANCELLED,
    CONFIRMED,
    LATE,
    REVIEW,
    Findings,
    Violation,
    broken,
    leftovers,
    messages,
    redriven,
    timeouts,
)
from proof.databases import Rows
from proof.outages import Outages
from proof.service import Service
from proof.simulated_daraja import PAID, PENDING, SimulatedDaraja, SimulatedPayout
from saga_tracker.definitions import newest
from saga_tracker.model.decision import SagaState
from saga_tracker.model.saga import StepDefinition

SHOWN = {CONFIRMED: ("PAID",), CANCELLED: ("FAILED", "CANCELLED")}
"""The states that members may show of a withdrawal whose saga has ended."""


@dataclass(slots=True, kw_only=True)
class FinalSacco:
    """The state at rest: the rows of all services, what members requested, and the books of the provider."""

    rows: Mapping[str, Rows]
    requested: Mapping[str, Request]
    daraja: SimulatedDaraja
    has_statement: bool
    broker: Broker
    codec: Codec
    is_redriven: bool
    outages: Outages
    services: Mapping[str, Service]
    timeout_factor: float
    states: dict[str, str] = field(init=False)
    kinds: dict[str, str] = field(init=False)
    with_late_calls: set[str] = field(init=False)
    with_open_letters: set[str] = field(init=False)
    in_doubt: set[str] = field(init=False)
    """Sagas with an attempt whose outcome is not known: they wait for evidence, or for a person."""
    payouts: dict[str, list[SimulatedPayout]] = field(init=False)
    """What the provider has of each saga, under each of our ids."""
    recorded: dict[str, int] = field(init=False)
    """The amount of each receipt in the ledger."""

    def __post_init__(self) -> None:
        rows = self.rows
        self.states = {row["saga_id"]: row["state"] for row in rows["sagas"]}
        self.kinds = {row["saga_id"]: row["saga_type"] for row in rows["sagas"]}
        self.with_late_calls = {row["saga_id"] for row in rows["letters"] if LATE in row["reason"]}
        self.with_open_letters = {row["saga_id"] for row in rows["letters"] if row["open"]}
        self.in_doubt = {row["saga_id"] for row in rows["attempts"] if row["state"] == "OPEN"}
        payouts: defaultdict[str, list[SimulatedPayout]] = defaultdict(list)
        for row in rows["own_ids"]:
            if (found := self.daraja.payouts.get(row["own_id"])) is not None:
                payouts[row["saga_id"]].append(found)
        self.payouts = dict(payouts)
        self.recorded = {row["receipt"]: row["amount_minor"] for row in rows["in_ledger"]}

    def steps(self, saga_id: str) -> tuple[StepDefinition, ...]:
        """Return the steps of a saga, by its definition."""
        return newest(self.kinds[saga_id]).steps

    def paid(self, saga_id: str) -> list[SimulatedPayout]:
        """Return what the provider has paid of a saga."""
        return [each for each in self.payouts.get(saga_id, ()) if each.state == PAID]

    def has_ended(self, saga_id: str) -> bool:
        """Return whether a saga has ended."""
        return self.states.get(saga_id) in (CONFIRMED, CANCELLED)


def violations(final: FinalSacco) -> list[Violation]:
    """Return every broken invariant."""
    return broken(INVARIANTS, final)


def _ends(final: FinalSacco) -> Findings:
    """Every saga has ended, is parked with a reason, or waits for evidence; and members show what the tracker says."""
    for row in final.rows["sagas"]:
        saga_id, state = row["saga_id"], row["state"]
        is_named = state in (REVIEW, SagaState.INCIDENT) and row["reason"]
        if state not in (CONFIRMED, CANCELLED) and not is_named and saga_id not in final.in_doubt:
            yield saga_id, f"{row['saga_type']} is {state} in {row['phase']} {row['step']} for ever"
        if state == SagaState.INCIDENT and not any(each.was_failed for each in final.paid(saga_id)):
            yield saga_id, f"an incident, but the provider contradicts nothing: {final.payouts.get(saga_id)}"
    for saga_id, request in final.requested.items():
        if saga_id not in final.states:
            yield saga_id, f"the tracker has no saga of {request}"
    for row in final.rows["withdrawals"]:
        expected = SHOWN.get(final.states.get(row["saga_id"], ""), ("REQUESTED", "PAID"))
        if row["state"] not in expected and row["saga_id"] not in final.with_open_letters:
            yield row["saga_id"], f"{final.states.get(row['saga_id'])}, but members show {row}"


def _redriven(final: FinalSacco) -> Findings:
    """Where operators redrive until nothing is parked, nothing is but what is in doubt."""
    return ((saga_id, says) for saga_id, says in redriven(final) if saga_id not in final.in_doubt)


def _effects(final: FinalSacco) -> Findings:
    """A confirmed saga has every effect. A cancelled one has none, and never the effect that has no return."""
    effects: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in final.rows["effects"]:
        effects[row["saga_id"]][row["step"]] = row["state"]
    for saga_id, state in final.states.items():
        found = effects[saga_id]
        if state == CONFIRMED and any(found.get(step.name) != "DONE" for step in final.steps(saga_id)):
            yield saga_id, f"confirmed, but its effects are {found}"
        if state == CANCELLED and {"DONE", "STARTED", "SENT", "UNSURE", "PAUSED"} & set(found.values()):
            yield saga_id, f"cancelled, but its effects are {found}"


def _paid_once(final: FinalSacco) -> Findings:
    """Nothing is paid twice, and what is confirmed is paid; only what was reported as failed may repeat."""
    for saga_id, kind in final.kinds.items():
        if kind != WITHDRAWAL:
            continue
        paid, state = final.paid(saga_id), final.states[saga_id]
        if len([each for each in paid if not each.was_failed]) > 1:
            yield saga_id, f"paid twice: {paid}"
        if state == CONFIRMED and not paid:
            yield saga_id, f"confirmed, and not paid: {final.payouts.get(saga_id)}"
        wanted = final.requested[saga_id].amount_minor if saga_id in final.requested else None
        if any(each.amount_minor != wanted for each in paid):
            yield saga_id, f"{wanted} was requested, and the provider has paid {paid}"


def _holds(final: FinalSacco) -> Findings:
    """No hold is released while the money may have gone, none is kept by a saga that ended, and paid is what went."""
    held: Counter[str] = Counter()
    for row in final.rows["held"]:
        saga_id = row["saga_id"]
        may_have_gone = [
            each for each in final.payouts.get(saga_id, ()) if each.state in (PAID, PENDING) and not each.was_failed
        ]
        if row["state"] == "RELEASED" and may_have_gone:
            yield saga_id, f"its hold is released, and the money may have gone: {may_have_gone}"
        if row["state"] == "RELEASED" and saga_id in final.in_doubt:
            yield saga_id, "its hold is released, and the outcome of its payout is not known"
        if row["state"] == "PAID" and not final.paid(saga_id):
            yield saga_id, f"its hold is spent, and the provider has paid nothing: {final.payouts.get(saga_id)}"
        if row["state"] == "HELD":
            held[saga_id] += row["amount_minor"]
            if final.has_ended(saga_id):
                yield saga_id, f"{final.states[saga_id]}, and {row['amount_minor']} are held"
    in_transit = {
        row["owner"]: -row["amount_minor"]
        for row in final.rows["balances"]
        if row["code"] == "payout_in_transit" and row["amount_minor"]
    }
    if in_transit != dict(held):
        yield "", f"in transit is {in_transit}, held is {dict(held)}"


def _receipts(final: FinalSacco) -> Findings:
    """One receipt is one credit of its amount: none without money, and none missing that a statement has shown."""
    credits_ = Counter(row["receipt"] for row in final.rows["in_ledger"])
    incoming = {each.receipt: each for each in final.daraja.payments}
    saga_of = {row["receipt"]: row["saga_id"] for row in final.rows["receipts"]}
    for row in final.rows["in_ledger"]:
        paid = incoming.get(row["receipt"])
        if paid is None:
            yield row["saga_id"], f"{row} is credited, and no one has paid it"
        elif (credits_[row["receipt"]], row["amount_minor"]) != (1, paid.amount_minor):
            yield row["saga_id"], f"{paid} is credited {credits_[row['receipt']]} times, as {row}"
    for receipt, paid in incoming.items():
        if receipt in credits_:
            continue
        saga_id = saga_of.get(receipt, "")
        is_open = bool(saga_id) and not final.has_ended(saga_id) and saga_id in final.states
        is_stopped = final.states.get(saga_id) == CANCELLED
        if (final.has_statement or saga_id) and not is_open and not is_stopped and not _is_unconfirmed(final, receipt):
            yield saga_id, f"{paid} is credited to no one"
    for row in final.rows["collections"]:
        is_paid = any(each.reference == row["reference"] for each in final.daraja.payments)
        if row["state"] in ("PAID", "PAID_LATE") and not is_paid:
            yield row["saga_id"], f"{row} is shown as paid, and no one has paid it"


def _is_unconfirmed(final: FinalSacco, receipt: str) -> bool:
    """Return whether a receipt waits for the provider's confirmation, which only a statement or a list brings."""
    waits = {row["receipt"] for row in final.rows["receipts"] if row["state"] == "UNCONFIRMED"}
    return receipt in waits and not final.has_statement


def _books(final: FinalSacco) -> Findings:
    """What members have, what is in transit and what is not allocated is the provider's book, to the cent."""
    for row in final.rows["transfers"]:
        yield "", f"{row['reference']} is out of balance by {row['amount_minor']}"
    totals: Counter[str] = Counter()
    for row in final.rows["balances"]:
        totals[row["code"]] += row["amount_minor"] or 0
    if sum(totals.values()):
        yield "", f"debits and credits differ: {dict(totals)}"
    came = sum(each.amount_minor for each in final.daraja.payments)
    went = sum(each.amount_minor for each in final.daraja.paid_out())
    unknown = sum(each.amount_minor for each in final.daraja.payments if each.receipt not in final.recorded)
    spent = sum(row["amount_minor"] for row in final.rows["held"] if row["state"] == "PAID")
    if totals["utility"] != came - unknown - spent:
        yield (
            "",
            f"the ledger has {totals['utility']}; {came} came, of which {unknown} is unknown, and {spent} is spent",
        )
    committed = {row["saga_id"] for row in final.rows["held"] if row["state"] == "PAID"}
    for saga_id in final.payouts.keys() - committed:
        for paid in final.paid(saga_id):
            if not paid.was_failed and final.has_ended(saga_id):
                yield saga_id, f"{went} went in all; {final.states[saga_id]}, and {paid} is in no book of ours"
    unallocated = sum(row["amount_minor"] for row in final.rows["in_ledger"] if row["state"] == "UNALLOCATED")
    if -totals["unallocated"] != unallocated:
        yield "", f"{-totals['unallocated']} is not allocated, of receipts of {unallocated}"


def _next_look(final: FinalSacco) -> Findings:
    """Every attempt whose outcome is open has a next look: a query that is planned, or a person who is called."""
    planned = {(row["saga_id"], row["step"]) for row in final.rows["awaited"] if row["query_at"] is not None}
    for row in final.rows["attempts"]:
        is_planned = (row["saga_id"], row["step"]) in planned
        is_called = row["saga_id"] in final.with_open_letters or final.states.get(row["saga_id"]) == REVIEW
        if row["state"] == "OPEN" and not is_planned and not is_called:
            yield row["saga_id"], f"no one looks at {row} again"


def _contradictions(final: FinalSacco) -> Findings:
    """A payment of what was reported as failed, which a callback or a row names, is an incident with an owner."""
    shown = {row["saga_id"] for row in final.rows["attempts"] if row["is_contradicted"]}
    for saga_id in shown:
        if not any(each.was_failed for each in final.payouts.get(saga_id, ())):
            yield saga_id, f"a contradiction that the provider does not have: {final.payouts.get(saga_id)}"
        if final.states[saga_id] not in (SagaState.INCIDENT, CONFIRMED, CANCELLED, REVIEW):
            yield saga_id, f"contradicted, and {final.states[saga_id]}"


def _floats(final: FinalSacco) -> Findings:
    """The float of a payout is spent with it, or given back once."""
    for row in final.rows["floats"]:
        expected = {CONFIRMED: "CONSUMED", CANCELLED: "RELEASED"}.get(final.states.get(row["saga_id"], ""))
        if expected is not None and row["state"] != expected:
            yield row["saga_id"], f"{final.states[row['saga_id']]}, and its float is {row}"


def _callbacks(final: FinalSacco) -> Findings:
    """Every callback has a fate; what matches nothing is listed."""
    for row in final.rows["callbacks"]:
        if row["fate"] is None:
            yield "", f"nothing was decided about {row}"


def _texts(final: FinalSacco) -> Findings:
    """A member gets one text about each saga that ended."""
    texts = Counter(row["saga_id"] for row in final.rows["texts"])
    contacts = {row["member_id"] for row in final.rows["contacts"]}
    for saga_id, count in texts.items():
        if count > 1:
            yield saga_id, f"{count} texts"
    for row in final.rows["withdrawals"]:
        is_known = row["member_id"] in contacts and row["saga_id"] not in final.with_open_letters
        if final.has_ended(row["saga_id"]) and is_known and not texts[row["saga_id"]]:
            yield row["saga_id"], f"{final.states[row['saga_id']]}, and the member got no text"


INVARIANTS: Mapping[str, Callable[[FinalSacco], Findings]] = {
    "nothing is paid twice": _paid_once,
    "no hold is released while the money may have gone": _holds,
    "one receipt is one credit": _receipts,
    "members' money, in transit and not allocated, is the provider's book": _books,
    "every open attempt has a next look": _next_look,
    "every saga ends, is parked with a reason, or waits for evidence": _ends,
    "a redrive leads to an end": _redriven,
    "a confirmed saga has every effect, a cancelled one none": _effects,
    "a contradiction has an owner": _contradictions,
    "float is spent or given back once": _floats,
    "every callback has a fate": _callbacks,
    "a member gets one text": _texts,
    "one last event, compensations in reverse before it": messages,
    "no step times out before its service could have run it": timeouts,
    "nothing is left over": leftovers,
}
