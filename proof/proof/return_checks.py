"""The invariants of returns at rest, and all others: what came back with the courier, and what was paid for it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from proof.checks import CANCELLED, CONFIRMED, REVIEW, FinalState, Findings, Violation, broken
from proof.checks import violations as of_all_sagas
from proof.parcels import ACCEPTED, COLLECTED, Parcel
from shipping.parcels import ParcelEnd


def violations(final: FinalState) -> list[Violation]:
    """Return every broken invariant."""
    return [*of_all_sagas(final), *broken(RETURN_INVARIANTS, final)]


def _parcels(final: FinalState) -> Findings:
    """What the courier had is what is recorded of it; nothing is collected twice, or for a return that failed."""
    parcels: defaultdict[str, list[Parcel]] = defaultdict(list)
    for parcel in final.pickups.parcels.values():
        parcels[parcel.reference].append(parcel)
    recorded = {row["saga_id"]: row for row in final.rows["collections"]}
    for saga_id, state in final.return_states.items():
        taken = [each for each in parcels[saga_id] if each.state != ParcelEnd.CALLED_OFF]
        has_come = any(each.state == ParcelEnd.LOST or each.pieces for each in taken)
        is_under_way = any(each.state in (ACCEPTED, COLLECTED) for each in taken)
        row = recorded.get(saga_id)
        if is_under_way or (state in (CONFIRMED, CANCELLED) and has_come is not (state == CONFIRMED)):
            yield saga_id, f"{state}, but the courier has {taken}"
        if state == CONFIRMED and (row is None or row["received"] != _received(taken)):
            yield saga_id, f"the courier has {taken}; recorded is {row}"
        if state == CANCELLED and row is not None and row["state"] != "NOT_COLLECTED":
            yield saga_id, f"{state}, but recorded is {row}"


def _received(taken: list[Parcel]) -> list[dict[str, Any]]:
    good, damaged = Counter[str](), Counter[str]()
    for piece in (piece for parcel in taken for piece in parcel.pieces):
        (good if piece["condition"] == "good" else damaged)[str(piece["sku"])] += int(str(piece["quantity"]))
    skus = [line.sku for parcel in taken for line in parcel.lines if good[line.sku] or damaged[line.sku]]
    return [{"sku": sku, "good": good[sku], "damaged": damaged[sku]} for sku in skus]


def _given_back(final: FinalState) -> Findings:
    """A return that completed has given back its pieces' part, once and in every service; any other one nothing."""
    rows = {what: _by_saga(final, what) for what in ("refunds", "credits", "restocks", "entries")}
    recorded = {row["saga_id"]: row for row in final.rows["collections"]}
    for saga_id, state in final.return_states.items():
        refunds, credited, restocks, entries = (rows[what][saga_id] for what in rows)
        counts = {what: len(found[saga_id]) for what, found in rows.items()}
        if state == CANCELLED and any(counts.values()):
            yield saga_id, f"{state}, but has {counts}"
        if state != CONFIRMED:
            continue
        row = recorded.get(saga_id, {"refund_minor": None, "received": ()})
        good = {line["sku"]: line["good"] for line in row["received"] if line["good"]}
        if (len(refunds), len(credited)) != (1, 1) or refunds[0]["amount_minor"] != row["refund_minor"]:
            yield saga_id, f"{state} with {row}; refunded is {refunds}, credited {credited}"
            continue
        if {each["sku"]: each["units"] for each in restocks} != good:
            yield saga_id, f"{good} arrived in good condition, {restocks} were put back"
        net: Counter[str] = Counter()
        for entry in entries:
            net[entry["account"]] += entry["debit_minor"] - entry["credit_minor"]
        refund_minor = refunds[0]["amount_minor"]
        paid_by_points = net["sales"] - refund_minor
        if net["gateway_receivable"] != -refund_minor or sum(net.values()) or paid_by_points < 0:
            yield saga_id, f"{refund_minor} were refunded; the ledger has {dict(net)}"
        if final.gateway.amounts[(saga_id, "refunded in part")] != refund_minor:
            yield saga_id, f"{refund_minor} are recorded; the gateway has another amount"


def _by_saga(final: FinalState, what: str) -> Mapping[str, list[Mapping[str, Any]]]:
    found: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in final.rows[what]:
        found[row["saga_id"]].append(row)
    return found


def _orders(final: FinalState) -> Findings:
    """No order gives back more than was bought and paid; all its pieces give back exactly that."""
    refunded, credited = Counter[str](), Counter[str]()
    pieces: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in final.rows["refunds"]:
        refunded[row["order_id"]] += row["amount_minor"]
    for row in final.rows["credits"]:
        credited[row["order_id"]] += row["points"]
    is_lost = {row["saga_id"] for row in final.rows["collections"] if row["state"] == "LOST"}
    for row in final.rows["returns"]:
        if final.return_states.get(row["saga_id"]) == CONFIRMED:
            lost = {line["sku"]: line["quantity"] for line in row["lines"]} if row["saga_id"] in is_lost else {}
            received = {line["sku"]: line["good"] + line["damaged"] for line in row["received"] or ()}
            pieces[row["order_id"]].update(lost or received)
    for order_id, order in final.orders.items():
        bought = {line.sku: line.quantity for line in order.lines}
        found, payable, points = dict(pieces[order_id]), order.payable_minor, order.points_to_burn
        if any(quantity > bought.get(sku, 0) for sku, quantity in found.items()):
            yield order_id, f"{bought} were bought, {found} returned"
        if refunded[order_id] > payable or credited[order_id] > points:
            yield (
                order_id,
                f"{payable} and {points} points were paid; {refunded[order_id]} and {credited[order_id]} back",
            )
        if found == bought and (refunded[order_id], credited[order_id]) != (payable, points):
            yield (
                order_id,
                f"all is returned; {refunded[order_id]} of {payable} and {credited[order_id]} of {points} points back",
            )
    for order_id, before in (final.order_states_before or {}).items():
        if before in (CONFIRMED, CANCELLED) and final.order_states[order_id] != before:
            yield order_id, f"it was {before} before its returns, and is {final.order_states[order_id]}"


def _evidence(final: FinalState) -> Findings:
    """Every callback was decided about, and no call was made before the broker had what announces it."""
    for row in final.rows["evidence"]:
        if row["fate"] is None:
            yield row["saga_id"], f"nothing was decided about the evidence {row['id']}"
    for key, was_announced in final.pickups.called:
        if not was_announced:
            yield key.partition(":")[0], f"the courier was called under {key} before its StepAwaited was published"
    for row in final.rows["sagas"]:
        if row["awaits_since"] is not None and row["state"] != REVIEW:
            yield row["saga_id"], f"{row['state']}, and waits since {row['awaits_since']}"


RETURN_INVARIANTS: Mapping[str, Callable[[FinalState], Findings]] = {
    "a return has what the courier brought": _parcels,
    "a return gives back what arrived, once": _given_back,
    "an order gives back no more than was paid": _orders,
    "evidence is decided about, and no call is made before it is announced": _evidence,
}
