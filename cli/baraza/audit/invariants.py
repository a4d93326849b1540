"""What must be true when nothing moves any more. Each invariant is one query that finds its offenders.

A query returns (id, problem) for each offender, and runs on the tables of ``scratch``. The steps, their services and
which step undoes which come from the sagas' definitions, so a new saga over the same services is audited unchanged.
"""

from __future__ import annotations

from baraza.audit.bookings import LEDGER_BALANCES, LEDGER_IS_THE_GATEWAYS, POSTED_BY_TWO
from baraza.audit.invariant import Invariant
from baraza.audit.ledger import LEDGER_INVARIANTS, SAGA_INVARIANTS
from baraza.audit.prices import CHARGED_THE_PRICE, PRICED_RIGHT

PARKED_DAYS_MAX = 7
"""An authorization of a card expires after about as long: then even a redrive cannot complete the order."""

EVERY_SAGA = "SELECT count(*) FROM sagas"
CONFIRMED = "SELECT count(*) FROM sagas WHERE state = 'CONFIRMED'"
CANCELLED = "SELECT count(*) FROM sagas WHERE state = 'CANCELLED_COMPENSATED'"
EVERY_EFFECT = "SELECT count(*) FROM effects"

ORDERS_HAVE_SAGAS = Invariant(
    name="orders-have-sagas",
    rule="Every accepted order has its saga, and checkout and the tracker agree on its state.",
    checked="SELECT count(*) FROM orders",
    offenders="""
        SELECT order_id, 'checkout has ' || orders.state || ', the tracker ' || coalesce(sagas.state, 'has no saga')
        FROM orders LEFT JOIN sagas ON saga_id = order_id
        WHERE iif(sagas.state = 'NEEDS_REVIEW', 'PENDING', sagas.state) IS NOT orders.state
        UNION ALL
        SELECT saga_id, 'a saga (' || sagas.state || ') without an order'
        FROM sagas LEFT JOIN orders ON order_id = saga_id
        WHERE order_id IS NULL AND saga_type = 'order'
    """,
)

SAGAS_END = Invariant(
    name="sagas-end",
    rule="Every saga is confirmed, or cancelled and compensated, or parked with a reason.",
    checked=EVERY_SAGA,
    offenders="""
        SELECT saga_id, iif(state = 'NEEDS_REVIEW', 'parked without a reason', 'still ' || state)
        FROM sagas
        WHERE state NOT IN ('CONFIRMED', 'CANCELLED_COMPENSATED', 'NEEDS_REVIEW')
           OR (state = 'NEEDS_REVIEW' AND coalesce(reason, '') = '')
        UNION ALL
        SELECT saga_id, 'follows ' || saga_type || ' version ' || saga_version || ', which has no definition'
        FROM sagas
        WHERE (saga_type, saga_version) NOT IN (SELECT saga_type, saga_version FROM steps)
    """,
)

CONFIRMED_RAN = Invariant(
    name="confirmed-ran",
    rule="Every step of a confirmed saga is done.",
    checked=CONFIRMED,
    offenders="""
        SELECT saga_id, step || ' is ' || coalesce(effects.state, 'unknown to ' || steps.service)
        FROM sagas JOIN steps USING (saga_type, saga_version) LEFT JOIN effects USING (saga_id, step, service)
        WHERE sagas.state = 'CONFIRMED' AND effects.state IS NOT 'DONE'
    """,
)

CANCELLED_UNDONE = Invariant(
    name="cancelled-undone",
    rule="No step of a cancelled saga is still done.",
    checked=CANCELLED,
    offenders="""
        SELECT saga_id, step || ' is still DONE'
        FROM sagas JOIN effects USING (saga_id)
        WHERE sagas.state = 'CANCELLED_COMPENSATED' AND effects.state = 'DONE'
    """,
)

EFFECTS_SETTLED = Invariant(
    name="effects-settled",
    rule="Every effect belongs to a step of its saga and is settled; only a parked saga may wait for a call's outcome.",
    checked=EVERY_EFFECT,
    offenders="""
        SELECT saga_id, step || ' is ' || effects.state
        FROM effects LEFT JOIN sagas USING (saga_id)
        WHERE effects.state NOT IN ('DONE', 'REJECTED', 'FENCED', 'UNDONE')
          AND NOT (effects.state = 'STARTED' AND sagas.state IS 'NEEDS_REVIEW')
        UNION ALL
        SELECT saga_id, step || ' of ' || effects.service || ' is not a step of a known saga'
        FROM effects LEFT JOIN sagas USING (saga_id) LEFT JOIN steps USING (saga_type, saga_version, step, service)
        WHERE steps.step IS NULL
    """,
)

CAPTURED_ONCE = Invariant(
    name="captured-once",
    rule="According to the gateway, a confirmed order is captured once at its price, and no authorization stays open.",
    checked=CONFIRMED,
    offenders="""
        SELECT saga_id, 'payable ' || payable_minor || '; the gateway has ' || coalesce(captures, 0) || ' captures of '
               || coalesce(captured_minor, 0) || ', ' || coalesce(refunded_minor, 0) || ' refunded, '
               || coalesce(open, 0) || ' open authorizations'
        FROM sagas JOIN orders ON order_id = saga_id LEFT JOIN settled USING (saga_id)
        WHERE sagas.state = 'CONFIRMED'
          AND (captures IS NOT 1 OR captured_minor IS NOT payable_minor OR refunded_minor <> 0 OR open <> 0)
    """,
)

NOTHING_KEPT = Invariant(
    name="nothing-kept",
    rule="According to the gateway, a cancelled order has no open authorization and its charges are net zero.",
    checked=CANCELLED,
    offenders="""
        SELECT saga_id, open || ' open authorizations, ' || (captured_minor - refunded_minor) || ' kept'
        FROM sagas JOIN settled USING (saga_id)
        WHERE sagas.state = 'CANCELLED_COMPENSATED' AND (open <> 0 OR captured_minor <> refunded_minor)
    """,
)

CHARGED_ONCE = Invariant(
    name="charged-once",
    rule="No order has two authorizations, captures or refunds at the gateway, and the tracker knows each.",
    checked="SELECT count(*) FROM settled",
    offenders="""
        SELECT saga_id, authorizations || ' authorizations, ' || captures || ' captures, ' || refunds || ' refunds'
        FROM settled
        WHERE authorizations > 1 OR captures > 1 OR refunds > 1
        UNION ALL
        SELECT saga_id, 'the gateway charged for it, but the tracker has no such saga'
        FROM settled LEFT JOIN sagas USING (saga_id)
        WHERE sagas.saga_id IS NULL
    """,
)

PAYMENTS_AGREE = Invariant(
    name="payments-agree",
    rule="Payment's own record of every order agrees with the gateway's; one may differ that is parked and unsettled.",
    checked="SELECT count(*) FROM payments",
    offenders="""
        SELECT saga_id, 'payment has ' || coalesce(payments.state, 'nothing') || ', the gateway ' || gateway
        FROM (
            SELECT saga_id, CASE WHEN refunds > 0 THEN 'REFUNDED' WHEN captures > 0 THEN 'CAPTURED'
                                 WHEN open > 0 THEN 'AUTHORIZED' ELSE 'VOIDED' END AS gateway
            FROM settled
            UNION ALL
            SELECT saga_id, 'nothing' FROM payments WHERE saga_id NOT IN (SELECT saga_id FROM settled)
        ) LEFT JOIN payments USING (saga_id) LEFT JOIN sagas USING (saga_id)
        WHERE (sagas.state IS NOT 'NEEDS_REVIEW' OR (saga_id, 'payment') NOT IN unsettled)
          AND gateway <> CASE payments.state WHEN 'DECLINED' THEN 'nothing' WHEN 'CAPTURE_FAILED' THEN 'AUTHORIZED'
                                             ELSE coalesce(payments.state, '') END
    """,
)

STOCK_CONSERVED = Invariant(
    name="stock-conserved",
    rule="For every product, its movements sum to the pieces received, and these are either on hand or reserved.",
    checked="SELECT count(*) FROM stock",
    offenders="""
        SELECT sku, moved || ' by movements, ' || coalesce(received, 0) || ' received, ' || coalesce(on_hand, 0)
               || ' on hand, ' || reserved || ' reserved'
        FROM stock
        WHERE coalesce(received, 0) <> coalesce(on_hand, 0) + reserved OR on_hand < 0
           OR moved <> coalesce(received, 0)
    """,
)

RESERVED_FOR_ORDERS = Invariant(
    name="reserved-for-orders",
    rule="A confirmed order holds a reservation of exactly its lines; no cancelled order holds any.",
    checked="SELECT count(*) FROM reservations",
    offenders="""
        SELECT saga_id, 'confirmed; its reservation ' || CASE WHEN reservations.state IS NULL THEN 'is missing'
                        WHEN reservations.state <> 'RESERVED' THEN 'is ' || reservations.state
                        ELSE 'is for other lines' END
        FROM sagas JOIN orders ON order_id = saga_id LEFT JOIN reservations USING (saga_id)
        WHERE sagas.state = 'CONFIRMED'
          AND (reservations.state IS NOT 'RESERVED' OR reservations.lines IS NOT orders.lines)
        UNION ALL
        SELECT saga_id, 'reserved for a saga that is ' || coalesce(sagas.state, 'unknown')
        FROM reservations LEFT JOIN sagas USING (saga_id)
        WHERE reservations.state = 'RESERVED' AND coalesce(sagas.state, '') NOT IN ('CONFIRMED', 'NEEDS_REVIEW')
    """,
)

POINTS_CONSERVED = Invariant(
    name="points-conserved",
    rule="For every account, its movements sum to the points granted, and these are either on it or burned.",
    checked="SELECT count(*) FROM accounts",
    offenders="""
        SELECT customer_id, moved || ' by movements, ' || coalesce(granted, 0) || ' granted, ' || coalesce(balance, 0)
               || ' left, ' || burned || ' burned'
        FROM accounts
        WHERE coalesce(granted, 0) <> coalesce(balance, 0) + burned OR balance < 0 OR moved <> coalesce(granted, 0)
    """,
)

BURNED_FOR_ORDERS = Invariant(
    name="burned-for-orders",
    rule="A confirmed order burned exactly its points, of its own customer; no cancelled order holds any.",
    checked="SELECT count(*) FROM burns",
    offenders="""
        SELECT saga_id, 'confirmed with ' || points_to_burn || ' points to burn; '
               || coalesce(points || ' of ' || burns.customer_id || ' ' || burns.state, 'none burned')
        FROM sagas JOIN orders ON order_id = saga_id LEFT JOIN burns USING (saga_id)
        WHERE sagas.state = 'CONFIRMED' AND coalesce(iif(burns.state = 'BURNED', points, 0), 0) <> points_to_burn
           OR sagas.state = 'CONFIRMED' AND points_to_burn > 0 AND burns.customer_id IS NOT orders.customer_id
        UNION ALL
        SELECT saga_id, points || ' points burned for a saga that is ' || coalesce(sagas.state, 'unknown')
        FROM burns LEFT JOIN sagas USING (saga_id)
        WHERE burns.state = 'BURNED' AND points > 0 AND coalesce(sagas.state, '') NOT IN ('CONFIRMED', 'NEEDS_REVIEW')
    """,
)

SHIPPED_ONCE = Invariant(
    name="shipped-once",
    rule="According to the courier, a confirmed order has exactly one live shipment and a cancelled one none.",
    checked="SELECT count(*) FROM parcels",
    offenders="""
        SELECT saga_id, sagas.state || ' with ' || coalesce(live, 0) || ' live shipments'
        FROM sagas JOIN orders ON order_id = saga_id LEFT JOIN delivered USING (saga_id)
        WHERE coalesce(live, 0) <> CASE sagas.state WHEN 'CONFIRMED' THEN 1 WHEN 'CANCELLED_COMPENSATED' THEN 0
                                                   ELSE coalesce(live, 0) END
        UNION ALL
        SELECT saga_id, parcels || ' shipments were booked for one order' FROM delivered WHERE parcels > 1
        UNION ALL
        SELECT saga_id, 'the courier ships it, but the tracker has no such saga'
        FROM delivered LEFT JOIN sagas USING (saga_id)
        WHERE sagas.saga_id IS NULL
    """,
)

SHIPMENTS_AGREE = Invariant(
    name="shipments-agree",
    rule="Shipping's own record of every order agrees with the courier's; one may differ that is parked and unsettled.",
    checked="SELECT count(*) FROM shipments",
    offenders="""
        SELECT saga_id, 'shipping has ' || coalesce(shipments.state || ' ' || shipments.tracking_number, 'nothing')
               || ', the courier ' || coalesce(parcels.state || ' ' || parcels.tracking_number, 'nothing')
        FROM (SELECT saga_id FROM parcels UNION SELECT saga_id FROM shipments WHERE state <> 'REJECTED')
             LEFT JOIN parcels USING (saga_id) LEFT JOIN shipments USING (saga_id) LEFT JOIN sagas USING (saga_id)
        WHERE (sagas.state IS NOT 'NEEDS_REVIEW' OR (saga_id, 'shipping') NOT IN unsettled)
          AND (shipments.tracking_number IS NOT parcels.tracking_number
               OR shipments.state IS NOT iif(parcels.state = 'live', 'BOOKED', 'CANCELLED'))
    """,
)

COMPENSATED_ONCE = Invariant(
    name="compensated-once",
    rule="No step was compensated twice, and none that had not run.",
    checked="SELECT count(*) FROM replies",
    offenders="""
        SELECT saga_id, step || ' was compensated ' || count(*) || ' times'
        FROM replies
        GROUP BY saga_id, step
        HAVING count(*) > 1
        UNION ALL
        SELECT saga_id, step || ' was compensated, but its service has ' || coalesce(effects.state, 'no effect')
        FROM (SELECT DISTINCT saga_id, step FROM replies) LEFT JOIN effects USING (saga_id, step)
        WHERE effects.state IS NOT 'UNDONE'
    """,
)

HELD_IS_DONE = Invariant(
    name="held-is-done",
    rule="A service holds something for an order, parked or not, exactly where its step is done, and for that order.",
    checked="SELECT count(*) FROM held",
    offenders="""
        SELECT saga_id, held.service || ' holds something for it, but none of its steps is DONE'
        FROM held LEFT JOIN done USING (saga_id, service)
        WHERE done.saga_id IS NULL
        UNION ALL
        SELECT saga_id, service || ' holds it for other lines, other points or another customer'
        FROM held
        WHERE NOT is_own
        UNION ALL
        SELECT saga_id, done.service || ' has done its step, but holds nothing'
        FROM done JOIN sagas USING (saga_id) JOIN single_steps USING (saga_type, saga_version, service)
             LEFT JOIN held USING (saga_id, service)
        WHERE held.saga_id IS NULL
    """,
)

PARCELS_ARE_THE_ORDERS = Invariant(
    name="parcels-are-the-orders",
    rule="According to the courier, every parcel holds its order's lines and goes to its order's address.",
    checked="SELECT count(*) FROM parcels WHERE lines IS NOT NULL",
    offenders="""
        SELECT saga_id, 'parcel ' || tracking_number || iif(parcels.lines IS orders.lines, ' goes elsewhere',
                                                            ' holds other lines')
        FROM parcels JOIN orders ON order_id = saga_id
        WHERE parcels.lines IS NOT NULL AND parcels.lines IS NOT orders.lines
           OR parcels.destination IS NOT NULL AND orders.destination IS NOT NULL
              AND parcels.destination IS NOT orders.destination
    """,
)

PARKED_IN_TIME = Invariant(
    name="parked-in-time",
    rule=f"No saga is parked for {PARKED_DAYS_MAX} days without anything being done about it.",
    checked="SELECT count(*) FROM sagas WHERE state = 'NEEDS_REVIEW'",
    offenders=f"""
        SELECT saga_id, 'parked, and untouched for ' || idle_days || ' days'
        FROM sagas
        WHERE state = 'NEEDS_REVIEW' AND idle_days >= {PARKED_DAYS_MAX}
    """,  # noqa: S608 - a constant of our own
)

OUTBOXES_DRAINED = Invariant(
    name="outboxes-drained",
    rule="Every outbox is empty: its messages are published.",
    checked="SELECT count(DISTINCT service) FROM steps",
    offenders="SELECT saga_id, id || ' is still in the outbox of ' || service FROM outbox",
)

DEFERRED_DRAINED = Invariant(
    name="deferred-drained",
    rule="No message waits for a retry; an undated one belongs to a parked saga or to a letter without a redrive.",
    checked="SELECT count(DISTINCT service) FROM steps",
    offenders="""
        SELECT deferred.saga_id, id || ' waits in ' || service
        FROM deferred LEFT JOIN sagas USING (saga_id)
        WHERE NOT (is_undated AND (sagas.state IS 'NEEDS_REVIEW' OR EXISTS (
            SELECT 1 FROM letters WHERE (letters.saga_id, letters.service) = (deferred.saga_id, deferred.service)
            AND resolution IS NOT 'REDRIVEN')))
    """,
)

DEAD_LETTERS_KNOWN = Invariant(
    name="dead-letters-known",
    rule="The tracker has read every dead letter, and its saga, a redrive or an operator accounts for it.",
    checked="SELECT count(*) FROM dead_letters",
    offenders="""
        SELECT dead_letters.saga_id, topic || ' ' || dead_letters.partition || '/' || message_offset || ': '
               || iif(coalesce(next_offset, 0) <= message_offset, 'not read by the tracker',
                      'its saga is ' || coalesce(state, 'unknown') || ', and the letter is not closed')
        FROM dead_letters LEFT JOIN consumed USING (topic, partition)
             LEFT JOIN letters USING (topic, partition, message_offset)
             LEFT JOIN sagas ON sagas.saga_id = dead_letters.saga_id
        WHERE coalesce(next_offset, 0) <= message_offset
           OR (resolution IS NULL AND (coalesce(open, 0) OR coalesce(state, 'PENDING') = 'PENDING'))
    """,
)

RESOLVED_BY_TWO = Invariant(
    name="resolved-by-two",
    rule="Contradictory facts are resolved by two operators: one proposes, another approves.",
    checked="SELECT count(*) FROM resolutions",
    offenders="""
        SELECT saga_id,
               'was resolved by ' || approved_by || iif(proposed_by IS NULL, ' without a proposal', ' alone')
        FROM resolutions
        WHERE proposed_by IS NULL OR proposed_by = approved_by
    """,
)

INVARIANTS = (
    ORDERS_HAVE_SAGAS,
    SAGAS_END,
    PARKED_IN_TIME,
    PRICED_RIGHT,
    CONFIRMED_RAN,
    CANCELLED_UNDONE,
    EFFECTS_SETTLED,
    COMPENSATED_ONCE,
    HELD_IS_DONE,
    CAPTURED_ONCE,
    NOTHING_KEPT,
    CHARGED_ONCE,
    PAYMENTS_AGREE,
    CHARGED_THE_PRICE,
    STOCK_CONSERVED,
    RESERVED_FOR_ORDERS,
    POINTS_CONSERVED,
    BURNED_FOR_ORDERS,
    SHIPPED_ONCE,
    SHIPMENTS_AGREE,
    PARCELS_ARE_THE_ORDERS,
    LEDGER_BALANCES,
    LEDGER_IS_THE_GATEWAYS,
    *LEDGER_INVARIANTS,
    *SAGA_INVARIANTS,
    POSTED_BY_TWO,
    OUTBOXES_DRAINED,
    DEFERRED_DRAINED,
    DEAD_LETTERS_KNOWN,
    RESOLVED_BY_TWO,
)
