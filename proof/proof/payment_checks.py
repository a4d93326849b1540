"""The invariants of payments at rest: ledger, our records and the gateways' own books say the same of each payment."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chassis.wire.codec import Codec
from proof.broker import Broker
from proof.checks import (
    CANCELLED,
    CONFIRMED,
    LATE,
    OPEN,
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
from proof.simulated_accounts import Held, SimulatedAccount
from saga_tracker.definitions import newest
from saga_tracker.model.saga import StepDefinition

HELD_AT_GATEWAY = {"requires_capture", "authorised"}
"""The states in which a gateway holds an amount that is not captured."""
WAITING, STRANGE = "WAITING", "STRANGE"
LIMIT = "CAPTURED_EXCEEDED"
ADYEN = "adyen-main"
UNDO = ":undo"
"""How the effect of a compensation is named whose outcome comes later."""


@dataclass(slots=True, kw_only=True)
class FinalPayments:
    """The state at rest: the rows of all services, and the books of the gateways."""

    rows: Mapping[str, Rows]
    submitted: Sequence[int]
    accounts: Sequence[SimulatedAccount]
    broker: Broker
    codec: Codec
    is_redriven: bool
    outages: Outages
    services: Mapping[str, Service]
    timeout_factor: float
    states: dict[str, str] = field(init=False)
    kinds: dict[str, str] = field(init=False)
    payment_of: dict[str, int] = field(init=False)
    """The payment that a saga is about."""
    books: dict[int, list[Held]] = field(init=False)
    with_late_calls: set[str] = field(init=False)
    with_open_letters: set[str] = field(init=False)
    in_doubt: set[str] = field(init=False)
    """Sagas of payments that never arrived at Adyen: no answer proves that, so they wait for a person."""
    ended_by_hand: set[str] = field(init=False)
    """Reversals that an operator has ended, who puts them right by hand: nothing else ends one without its entries."""
    open_payments: set[int] = field(init=False)
    """Payments of which a saga is parked, or a report waits for a person: their books may differ until then."""

    def __post_init__(self) -> None:
        rows = self.rows
        self.states = {row["saga_id"]: row["state"] for row in rows["sagas"]}
        self.kinds = {row["saga_id"]: row["saga_type"] for row in rows["sagas"]}
        self.with_late_calls = {row["saga_id"] for row in rows["letters"] if LATE in row["reason"]}
        self.with_open_letters = {row["saga_id"] for row in rows["letters"] if row["open"]}
        found = [*rows["payments"], *rows["operations"], *rows["reversals"]]
        self.payment_of = {row["saga_id"]: row["payment_id"] for row in found}
        books: defaultdict[int, list[Held]] = defaultdict(list)
        for account in self.accounts:
            for held in account.held.values():
                books[held.payment_id].append(held)
        self.books = dict(books)
        self.in_doubt = {
            row["saga_id"]
            for row in rows["payments"]
            if row["gateway_account"] == ADYEN and row["payment_id"] not in self.books
        }
        self.ended_by_hand = {
            saga_id
            for saga_id, state in self.states.items()
            if state == CANCELLED and self.kinds[saga_id] == "payment_reversal"
        }
        is_open = {saga_id for saga_id, state in self.states.items() if state not in (CONFIRMED, CANCELLED)}
        is_open |= self.ended_by_hand
        self.open_payments = {
            payment_id for saga_id, payment_id in self.payment_of.items() if saga_id in is_open | self.with_open_letters
        }
        at_gateway = {held.id: held.payment_id for each in self.books.values() for held in each}
        for notice in rows["notices"]:
            if notice["fate"] in (WAITING, STRANGE):
                known = notice["payment_id"] or at_gateway.get(notice["gateway_payment_id"])
                self.open_payments |= {known} if known is not None else set(self.books)

    def steps(self, saga_id: str) -> tuple[StepDefinition, ...]:
        """Return the steps of a saga, by its definition."""
        return newest(self.kinds[saga_id]).steps


def violations(final: FinalPayments) -> list[Violation]:
    """Return every broken invariant."""
    return broken(INVARIANTS, final)


def _ends(final: FinalPayments) -> Findings:
    """Every saga has ended, or is parked with a reason; and its merchant sees what the tracker says."""
    for row in final.rows["sagas"]:
        is_named = row["state"] == REVIEW and row["reason"]
        if row["state"] not in (CONFIRMED, CANCELLED) and not is_named and row["saga_id"] not in final.in_doubt:
            yield row["saga_id"], f"{row['saga_type']} is {row['state']} in {row['phase']} {row['step']} for ever"
    missing = set(final.submitted) - {row["payment_id"] for row in final.rows["payments"]}
    if missing:
        yield "", f"merchants have no payments {missing}"
    for row in (*final.rows["payments"], *final.rows["operations"], *final.rows["reversals"]):
        if row["saga_id"] not in final.states:
            yield row["saga_id"], f"the tracker has no saga of {row}"
    for row in final.rows["payments"]:
        shown = CANCELLED if row["failed_at"] else CONFIRMED if row["committed_at"] else REVIEW
        yield from _shown(final, row, shown)
    for row in final.rows["operations"]:
        yield from _shown(final, row, {"FAILED": CANCELLED, "PENDING": REVIEW}.get(row["state"], CONFIRMED))


def _shown(final: FinalPayments, row: Mapping[str, Any], shown: str) -> Findings:
    saga_id = row["saga_id"]
    state = final.states.get(saga_id)
    if state in (CONFIRMED, CANCELLED) and shown != state and saga_id not in final.with_open_letters:
        yield saga_id, f"{state}, but its merchant sees {row}"


def _redriven(final: FinalPayments) -> Findings:
    """Where operators redrive until nothing is parked, nothing is but what is in doubt."""
    return ((saga_id, says) for saga_id, says in redriven(final) if saga_id not in final.in_doubt)


def _effects(final: FinalPayments) -> Findings:
    effects: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in final.rows["effects"]:
        if not row["step"].endswith(UNDO):
            effects[row["saga_id"]][row["step"]] = row["state"]
    for saga_id, state in final.states.items():
        found = effects[saga_id]
        if state == CONFIRMED and any(found.get(step.name) != "DONE" for step in final.steps(saga_id)):
            yield saga_id, f"confirmed, but its effects are {found}"
        if state == CANCELLED and {"DONE", *OPEN} & set(found.values()):
            yield saga_id, f"cancelled, but its effects are {found}"


def _limits(final: FinalPayments) -> Findings:
    """Refunded is at most captured, and captured at most authorized: in the ledger, our records and the books."""
    for where in ("in_ledger", "at_gateways"):
        for row in final.rows[where]:
            failed = row.get("status", row.get("state")) in ("CAPTURE_FAILED", "FAILED")
            if not failed and not row["refunded_minor"] <= row["captured_minor"] <= row["authorized_minor"]:
                yield "", f"{where}: {row}"
    for payment_id, found in final.books.items():
        captured = [each for each in found if each.was_captured_minor]
        if len(captured) > 1:
            yield "", f"payment {payment_id} is captured twice: {captured}"
        for each in found:
            if not each.refunded_minor + each.refunding_minor <= each.was_captured_minor <= each.amount_minor:
                yield "", f"in the gateway's books: {each}"


def _holds(final: FinalPayments) -> Findings:
    """Nothing is held without an open payment, here or at a gateway."""
    status = {row["payment_id"]: row["status"] for row in final.rows["in_ledger"]}
    for row in final.rows["holds"]:
        payment_id = final.payment_of.get(row["saga_id"])
        if payment_id not in final.open_payments:
            state, known = final.states.get(row["saga_id"]), status.get(payment_id or 0)
            yield row["saga_id"], f"{row['reference']} is held; its saga is {state}, its payment {known}"
    for payment_id, found in final.books.items():
        for each in found:
            if each.status in HELD_AT_GATEWAY and payment_id not in final.open_payments:
                yield "", f"the gateway holds {each}"


def _books(final: FinalPayments) -> Findings:
    """What a gateway has taken, given back and lost to disputes is what the ledger and our records say."""
    ledger = {row["payment_id"]: row for row in final.rows["in_ledger"]}
    records = {row["payment_id"]: row for row in final.rows["at_gateways"]}
    saga_of = {row["payment_id"]: row["saga_id"] for row in final.rows["payments"]}
    for payment_id in {*ledger, *records, *final.books} - final.open_payments:
        found = final.books.get(payment_id, ())
        names = ("captured_minor", "refunded_minor", "disputed_minor")
        taken = tuple(sum(getattr(each, name) for each in found) for name in names)
        row = ledger.get(payment_id)
        booked = (0, 0, 0) if row is None else tuple(row[name] or 0 for name in names)
        if booked != taken:
            yield saga_of.get(payment_id, ""), f"the ledger has {booked}, the gateway {taken} of {found}"
        record = records.get(payment_id)
        recorded = (0, 0) if record is None else (record["captured_minor"], record["refunded_minor"])
        has_failed = record is not None and record["state"] == "CAPTURE_FAILED"
        if recorded != taken[:2] and not has_failed:
            yield saga_of.get(payment_id, ""), f"our records have {recorded}, the gateway {taken} of {found}"


def _ledger(final: FinalPayments) -> Findings:
    """Debits equal credits, and nothing is in transit once every saga has ended."""
    for row in final.rows["transfers"]:
        yield "", f"{row['reference']} is out of balance by {row['amount_minor']}"
    totals: Counter[str] = Counter()
    for row in final.rows["balances"]:
        totals[row["code"]] += row["amount_minor"] or 0
    if sum(totals.values()):
        yield "", f"debits and credits differ: {dict(totals)}"
    in_transit = {code: totals[code] for code in ("captures_in_transit", "refunds_in_transit") if totals[code]}
    if in_transit and not final.open_payments:
        yield "", f"every saga has ended, and {in_transit} is in transit"


def _webhooks(final: FinalPayments) -> Findings:
    """Every webhook has a fate: what still waits, waits for a payment of which a saga is parked."""
    for row in final.rows["notices"]:
        if row["fate"] == WAITING and not _is_parked(final, row):
            yield "", f"nothing was decided about {row}"
    for row in final.rows["evidence"]:
        if row["fate"] is None and final.states.get(row["saga_id"]) != REVIEW:
            yield row["saga_id"], f"nothing was decided about {row}"


def _is_parked(final: FinalPayments, notice: Mapping[str, Any]) -> bool:
    parked = {final.payment_of.get(saga_id) for saga_id, state in final.states.items() if state == REVIEW}
    held = {each.id: payment_id for payment_id, found in final.books.items() for each in found}
    return (notice["payment_id"] or held.get(notice["gateway_payment_id"])) in parked


def _deliveries(final: FinalPayments) -> Findings:
    """Every saga that has ended has notified its merchant once, and each notice has its delivery."""
    delivered = Counter(row["event_id"] for row in final.rows["deliveries"])
    notified = Counter(row["saga_id"] for row in final.rows["events"])
    for row in final.rows["events"]:
        if delivered[row["event_id"]] != 1:
            yield row["saga_id"] or "", f"{row['type']} has {delivered[row['event_id']]} deliveries"
    for saga_id, state in final.states.items():
        if final.kinds[saga_id] == "merchant_onboarding" or saga_id in final.with_open_letters | final.ended_by_hand:
            continue
        if state in (CONFIRMED, CANCELLED) and notified[saga_id] != 1:
            yield saga_id, f"{state}, and its merchant was notified {notified[saga_id]} times"


def _door(final: FinalPayments) -> Findings:
    """The ledger refuses no refund that merchant's door took, unless the gateway took something back meanwhile."""
    reversed_ = {row["payment_id"] for row in final.rows["reversals"]}
    for row in final.rows["operations"]:
        if LIMIT in (row["failure_reason"] or "").upper() and row["payment_id"] not in reversed_:
            yield row["saga_id"], f"merchant took more than is left: {row}"


INVARIANTS: Mapping[str, Callable[[FinalPayments], Findings]] = {
    "every saga ends or is parked with a reason, and its merchant sees it": _ends,
    "a redrive leads to an end": _redriven,
    "a confirmed saga has every effect, a cancelled one none": _effects,
    "refunded <= captured <= authorized": _limits,
    "nothing is held without an open payment": _holds,
    "the gateway's books are the ledger's": _books,
    "debits equal credits, and nothing stays in transit": _ledger,
    "every webhook has a fate": _webhooks,
    "every saga that ended has its delivery": _deliveries,
    "no more refunds are taken than the ledger holds": _door,
    "one last event, compensations in reverse before it": messages,
    "no step times out before its service could have run it": timeouts,
    "nothing is left over": leftovers,
}
