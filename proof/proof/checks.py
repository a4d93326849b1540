"""The invariants of a schedule at rest, checked on the databases, the providers and the broker's logs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from chassis.saga.waiting import UNPROCESSABLE
from chassis.wire.codec import Codec
from chassis.wire.envelope import ID
from messages.checkout import OrderSubmitted, ReturnRequested
from proof.broker import Broker
from proof.databases import SERVICES, Rows
from proof.outages import Outages
from proof.parcels import PickupCourier
from proof.providers import Courier, Gateway
from proof.service import Service
from proof.undeliverable import UndeliverableMessages
from saga_tracker.definitions import newest
from saga_tracker.model.consumption import OBSERVE_EVERY
from saga_tracker.model.saga import StepDefinition

ORDER, RETURN = newest("order"), newest("return_order")
SERVICE_OF = {step.name: step.service for saga in (ORDER, RETURN) for step in saga.steps}
QUERIED = "its provider was queried"
LATE = "its call came back after its provider was queried"
CONFIRMED, CANCELLED, REVIEW = "CONFIRMED", "CANCELLED_COMPENSATED", "NEEDS_REVIEW"
RETURN_STATES = {
    CONFIRMED: ("COMPLETED",),
    CANCELLED: ("FAILED",),
    REVIEW: ("REQUESTED", "APPROVED", "ARRIVED", "WITHDRAWN"),
}
"""The states that checkout may have of a return."""
OPEN = {"STARTED", "SENT", "UNSURE", "PAUSED"}
"""The states of an effect whose outcome is still open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken invariant. ``saga_id`` is empty where it concerns no one saga; ``steps`` are the trace's last lines."""

    invariant: str
    says: str
    saga_id: str = ""
    steps: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class FinalState:
    """The state at rest: the rows of all services, and the sagas that were started."""

    rows: Mapping[str, Rows]
    orders: Mapping[str, OrderSubmitted]
    returns: Mapping[str, ReturnRequested]
    gateway: Gateway
    courier: Courier
    pickups: PickupCourier
    broker: Broker
    codec: Codec
    is_redriven: bool
    outages: Outages
    services: Mapping[str, Service]
    timeout_factor: float
    undeliverable: UndeliverableMessages
    order_states_before: Mapping[str, str] | None = None
    """The states of the orders before the returns, None where those have not come yet."""
    states_before: Mapping[str, str] | None = None
    """The states of all sagas before the undeliverable messages, None where those have not come yet."""
    strangers: Mapping[str, Rows] = field(init=False)
    """The rows of the sagas that only undeliverable messages name; ``rows`` are without them."""
    states: dict[str, str] = field(init=False)
    order_states: dict[str, str] = field(init=False)
    return_states: dict[str, str] = field(init=False)
    with_late_calls: set[str] = field(init=False)
    """Sagas in which a call came back after it was fenced: a dead letter reports it, and its service undoes it."""
    with_open_letters: set[str] = field(init=False)
    """Sagas with an open dead letter, which operators are alerted to."""

    def steps(self, saga_id: str) -> tuple[StepDefinition, ...]:
        """Return the steps of a saga, by its definition."""
        return (RETURN if saga_id in self.returns else ORDER).steps

    def __post_init__(self) -> None:
        found, saga_ids = self.rows, self.undeliverable.saga_ids
        self.strangers = {what: [row for row in rows if row.get("saga_id") in saga_ids] for what, rows in found.items()}
        if saga_ids:
            kept = {what: [row for row in rows if row.get("saga_id") not in saga_ids] for what, rows in found.items()}
            self.rows = {**kept, "outbox": found["outbox"]}
        self.with_late_calls = {row["saga_id"] for row in self.rows["letters"] if LATE in row["reason"]}
        self.with_open_letters = {row["saga_id"] for row in self.rows["letters"] if row["open"]}
        self.states = {row["saga_id"]: row["state"] for row in self.rows["sagas"]}
        self.order_states = {saga_id: state for saga_id, state in self.states.items() if saga_id in self.orders}
        self.return_states = {saga_id: state for saga_id, state in self.states.items() if saga_id in self.returns}


State = TypeVar("State")
Findings = Iterator[tuple[str, str]]
"""Pairs of a saga's id (or an empty text) and what is wrong."""


class AtRest(Protocol):
    """What every schedule has at rest, whatever its sagas are about."""

    @property
    def rows(self) -> Mapping[str, Rows]: ...
    @property
    def states(self) -> Mapping[str, str]: ...
    @property
    def broker(self) -> Broker: ...
    @property
    def codec(self) -> Codec: ...
    @property
    def is_redriven(self) -> bool: ...
    @property
    def outages(self) -> Outages: ...
    @property
    def services(self) -> Mapping[str, Service]: ...
    @property
    def timeout_factor(self) -> float: ...
    @property
    def with_late_calls(self) -> Collection[str]: ...
    def steps(self, saga_id: str) -> tuple[StepDefinition, ...]: ...


def violations(final: FinalState) -> list[Violation]:
    """Return every broken invariant."""
    return broken(INVARIANTS, final)


def broken(invariants: Mapping[str, Callable[[State], Findings]], final: State) -> list[Violation]:
    """Return which of these invariants are broken."""
    return [
        Violation(invariant=invariant, saga_id=saga_id, says=says)
        for invariant, check in invariants.items()
        for saga_id, says in check(final)
    ]


def _ends(final: FinalState) -> Findings:
    for saga_id in (*final.orders, *final.returns):
        if saga_id not in final.states:
            yield saga_id, "the tracker has no saga"
    found = {row["order_id"]: row["state"] for row in final.rows["orders"]}
    found |= {row["saga_id"]: row["state"] for row in final.rows["returns"]}
    for row in final.rows["sagas"]:
        state = row["state"]
        expected: tuple[str, ...] = ("PENDING",) if state == REVIEW else (state,)
        if row["saga_id"] in final.returns:
            expected = RETURN_STATES.get(state, ())
        if state not in (CONFIRMED, CANCELLED, REVIEW) or (state == REVIEW and not row["reason"]):
            yield row["saga_id"], f"{state} in {row['phase']} {row['step']} for ever"
        if found.get(row["saga_id"]) not in expected and row["saga_id"] not in final.with_open_letters:
            yield row["saga_id"], f"{state}, but checkout has {found.get(row['saga_id'])}"


def redriven(final: AtRest) -> Findings:
    """Where operators redrive until nothing is parked, nothing is parked in the end."""
    if final.is_redriven:
        for row in final.rows["sagas"]:
            if row["state"] == REVIEW:
                yield (
                    row["saga_id"],
                    f"still parked in {row['phase']} {row['step']} after every redrive: {row['reason']}",
                )
        for row in final.rows["letters"]:
            if row["open"] and LATE not in row["reason"]:
                yield row["saga_id"], f"a dead letter that no redrive settles: {row['reason']}"


def _effects(final: FinalState) -> Findings:
    effects: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in final.rows["effects"]:
        effects[row["saga_id"]][row["step"]] = row["state"]
    parked = {row["saga_id"] for row in final.rows["deferred"] if row["service"] in ("payment", "shipping")}
    parked |= {row["saga_id"] for row in final.rows["letters"] if row["open"] and QUERIED in row["reason"]}
    for saga_id, state in final.states.items():
        found = effects[saga_id]
        if state == CONFIRMED and any(found.get(step.name) != "DONE" for step in final.steps(saga_id)):
            yield saga_id, f"confirmed, but its effects are {found}"
        if state == CANCELLED and {"DONE", *OPEN} & set(found.values()):
            yield saga_id, f"cancelled, but its effects are {found}"
        if state == REVIEW and OPEN & set(found.values()) and saga_id not in parked:
            yield saga_id, f"parked, and nothing will ever settle {found}"


def _money(final: FinalState) -> Findings:
    done, amounts = final.gateway.done, final.gateway.amounts
    payments = {row["saga_id"]: row["state"] for row in final.rows["payments"]}
    for saga_id, state in final.order_states.items():
        count = {kind: done[(saga_id, kind)] for kind in ("authorized", "captured", "voided", "refunded")}
        payable = final.orders[saga_id].payable_minor
        if max(count.values()) > 1 or (count["voided"] and count["captured"]):
            yield saga_id, f"the gateway did {count}"
        if state == CONFIRMED and (
            count != {"authorized": 1, "captured": 1, "voided": 0, "refunded": 0}
            or amounts[(saga_id, "captured")] != payable
            or payments.get(saga_id) != "CAPTURED"
        ):
            yield saga_id, f"confirmed at {payable}; the gateway did {count}, payment has {payments.get(saga_id)}"
        if state == CANCELLED and (
            count["authorized"] != count["voided"] + count["refunded"] or count["captured"] != count["refunded"]
        ):
            yield saga_id, f"cancelled; the gateway did {count}"


def _shipments(final: FinalState) -> Findings:
    done = final.courier.done
    for saga_id, state in final.order_states.items():
        booked, cancelled = done[(saga_id, "booked")], done[(saga_id, "cancelled")]
        if (
            booked > 1
            or cancelled > booked
            or (state == CONFIRMED and (booked, cancelled) != (1, 0))
            or (state == CANCELLED and booked != cancelled)
        ):
            yield saga_id, f"{state}; {booked} shipments booked, {cancelled} cancelled"


def _stock(final: FinalState) -> Findings:
    reserved: Counter[str] = Counter()
    quantities: dict[str, dict[str, int]] = {}
    for row in final.rows["reservations"]:
        quantities[row["saga_id"]] = dict(zip(row["skus"], row["quantities"], strict=True))
        reserved.update(quantities[row["saga_id"]])
    restocked: Counter[str] = Counter()
    for row in final.rows["restocks"]:
        restocked[row["sku"]] += row["units"]
    for row in final.rows["stock"]:
        if row["received"] + restocked[row["sku"]] != row["on_hand"] + reserved[row["sku"]]:
            yield "", f"{row}, {reserved[row['sku']]} reserved, {restocked[row['sku']]} put back"
    for saga_id, state in final.order_states.items():
        lines = {line.sku: line.quantity for line in final.orders[saga_id].lines}
        expected = {CONFIRMED: lines, CANCELLED: None}.get(state, quantities.get(saga_id))
        if quantities.get(saga_id) != expected:
            yield saga_id, f"{state} for {lines}, reserved is {quantities.get(saga_id)}"


def _points(final: FinalState) -> Findings:
    burned: Counter[str] = Counter()
    points: dict[str, int] = {}
    for row in final.rows["burns"]:
        burned[row["customer_id"]] += row["points"]
        points[row["saga_id"]] = row["points"]
    credited: Counter[str] = Counter()
    for row in final.rows["credits"]:
        credited[row["customer_id"]] += row["points"]
    for row in final.rows["accounts"]:
        if row["granted"] + credited[row["customer_id"]] != row["balance"] + burned[row["customer_id"]]:
            yield "", f"{row}, {burned[row['customer_id']]} burned, {credited[row['customer_id']]} given back"
    for saga_id, state in final.order_states.items():
        expected = final.orders[saga_id].points_to_burn if state == CONFIRMED else 0
        if state in (CONFIRMED, CANCELLED) and points.get(saga_id, 0) != expected:
            yield saga_id, f"{state}; {points.get(saga_id, 0)} points burned instead of {expected}"


def _ledger(final: FinalState) -> Findings:
    posted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in final.rows["entries"]:
        posted[row["saga_id"]][row["account"]] += row["debit_minor"] - row["credit_minor"]
    for saga_id, state in final.order_states.items():
        net = posted[saga_id]
        payable = final.orders[saga_id].payable_minor if state == CONFIRMED else 0
        if sum(net.values()):
            yield saga_id, f"debits and credits differ: {dict(net)}"
        if state in (CONFIRMED, CANCELLED) and net["gateway_receivable"] != payable:
            yield saga_id, f"{state}; the ledger has {net['gateway_receivable']} instead of {payable}"
        total = final.orders[saga_id].total_minor if state == CONFIRMED else 0
        if state in (CONFIRMED, CANCELLED) and -net["sales"] != total:
            yield saga_id, f"{state}; the ledger has sales of {-net['sales']} instead of {total}"


def messages(final: AtRest) -> Findings:
    """The last event is published once (by id) and last; every compensation is reported once, in reverse order."""
    ends: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    undone: defaultdict[str, dict[str, tuple[datetime, str]]] = defaultdict(dict)
    for record in final.broker.all():
        if record.raw.topic.endswith(".events"):
            message = final.codec.decode(record.raw.value)
            if record.raw.topic == "saga.events":
                ends[message.saga_id][message.message_id] = message.occurred_at
            elif getattr(message, "undone", False):
                undone[message.saga_id][message.message_id] = (message.occurred_at, str(getattr(message, "step", "")))
    for saga_id, state in final.states.items():
        if len(ends[saga_id]) != (1 if state in (CONFIRMED, CANCELLED) else 0):
            yield saga_id, f"{state}, with {len(ends[saga_id])} last events"
        if saga_id in final.with_late_calls:
            continue
        replies = sorted(undone[saga_id].values())
        steps = [step.name for step in final.steps(saga_id)]
        order = [steps.index(step) for _, step in replies]
        if order != sorted(set(order), reverse=True):
            yield saga_id, f"compensated in the order {', '.join(step for _, step in replies)}"
        if replies and ends[saga_id] and replies[-1][0] > min(ends[saga_id].values()):
            yield saga_id, f"{replies[-1][1]} was undone after the saga's last event"


def leftovers(final: AtRest) -> Findings:
    """Only a second copy of an unprocessable message may stay parked, with what waits behind it.

    Its saga went on, and its dead letter is open until an operator redrives it.
    """
    for row in final.rows["outbox"]:
        yield row["saga_id"], f"{row['service']} has left {row['type']} in its outbox"
    with_letter = {(row["saga_id"], row["service"]) for row in final.rows["letters"]}
    unprocessable = {
        (row["saga_id"], row["service"]) for row in final.rows["deferred"] if row["handler"] == UNPROCESSABLE
    }
    for row in final.rows["deferred"]:
        if final.states.get(row["saga_id"]) == REVIEW:
            continue
        place = (row["saga_id"], row["service"])
        is_owned = place in with_letter & unprocessable and (row["handler"] == UNPROCESSABLE or row["behind"])
        if not is_owned:
            yield row["saga_id"], f"{row['service']} keeps {row['handler']} parked for ever: {row['reason']}"


def _undeliverable(final: FinalState) -> Findings:
    """Each is a dead letter of every service that reads it, and has no effect.

    Where its key names a saga it stays parked, until a fence discards it: the tracker may follow such a saga from its
    dead letter on, and compensate it.
    """
    letters = {
        (record.raw.topic, record.raw.key, record.raw.value)
        for record in final.broker.all()
        if record.raw.topic.endswith(".dlq")
    }
    parked = {(row["service"], row["saga_id"]) for row in final.strangers["deferred"]}
    fenced = {(SERVICE_OF[row["step"]], row["saga_id"]) for row in final.strangers["effects"]}
    for each in final.undeliverable.published:
        for service in each.readers:
            is_kept = service in SERVICES and ID.fullmatch(each.key) and (service, each.key) not in fenced
            if (f"{service}.dlq", each.key.encode(), each.payload) not in letters:
                yield each.key, f"{service} has no dead letter of {each.kind} on {each.topic}"
            if is_kept and (service, each.key) not in parked:
                yield each.key, f"{service} has not parked {each.kind} on {each.topic}"
    for row in final.strangers["effects"]:
        if row["state"] != "FENCED":
            yield row["saga_id"], f"{row['step']} is {row['state']}, but no customer started the saga"
    if final.states_before is not None and final.states != final.states_before:
        yield "", f"undeliverable messages changed the sagas from {final.states_before} to {final.states}"


def timeouts(final: AtRest) -> Findings:
    """A step times out only when its service could have had the trigger for the whole timeout: a delay is no loss.

    The tracker's last observation may be OBSERVE_EVERY old, so an outage that began since then may be unknown to it.
    """
    for timer in final.rows["timeouts"]:
        if timer["topic"] is None:
            continue  # A dead letter began the saga, and no service has ever had a trigger.
        step = next(each for each in final.steps(timer["saga_id"]) if each.name == timer["step"])
        until = datetime.fromisoformat(timer["recorded_at"])
        since = until - timedelta(seconds=step.timeout_s * final.timeout_factor)
        had_at = final.services[step.service].consumed_at((timer["topic"], timer["partition"]), timer["offset"])
        if had_at is None or had_at > since:
            yield timer["saga_id"], f"{step.name} timed out at {until}; {step.service} had its trigger at {had_at}"
        elif outage := final.outages.disturbed(step.service, since, until - OBSERVE_EVERY):
            yield timer["saga_id"], f"{step.name} timed out at {until}, during or just after {outage}"


INVARIANTS: Mapping[str, Callable[[FinalState], Findings]] = {
    "every saga ends or is parked with a reason": _ends,
    "a redrive leads to an end": redriven,
    "a confirmed saga has every effect, a cancelled one none": _effects,
    "no customer is charged for an order that failed": _money,
    "one shipment per confirmed order, none per cancelled": _shipments,
    "stock is conserved": _stock,
    "points are conserved": _points,
    "debits equal credits and what was captured": _ledger,
    "one last event, compensations in reverse before it": messages,
    "no step times out before its service could have run it": timeouts,
    "nothing is left over": leftovers,
    "what must not be handled is a dead letter and does no harm": _undeliverable,
}
