"""What must be true when nothing moves any more. Each invariant is one query that finds its offenders.

A query returns (id, problem) for each offender, and runs on the tables of ``scratch``. The steps, their services and
what each of them holds come from the sagas' definitions, so a new saga over the same services is audited unchanged.
What must be true of one saga alone stands in a module of its own.
"""

from __future__ import annotations

from baraza.audit import orders
from baraza.audit.bookings import LEDGER_BALANCES, LEDGER_IS_THE_GATEWAYS, POSTED_BY_TWO
from baraza.audit.invariant import Invariant
from baraza.audit.ledger import LEDGER_INVARIANTS, SAGA_INVARIANTS
from baraza.audit.payments import PAYMENT_INVARIANTS
from baraza.audit.prices import CHARGED_THE_PRICE, PRICED_RIGHT
from baraza.audit.returns import RETURN_INVARIANTS
from baraza.audit.sacco import SACCO_INVARIANTS

PARKED_DAYS_MAX = 7
"""An authorization of a card expires after about as long: then even a redrive cannot complete the order."""

EVERY_SAGA = "SELECT count(*) FROM sagas"
CONFIRMED = "SELECT count(*) FROM sagas WHERE state = 'CONFIRMED'"
CANCELLED = "SELECT count(*) FROM sagas WHERE state = 'CANCELLED_COMPENSATED'"
EVERY_EFFECT = "SELECT count(*) FROM effects"

SAGAS_END = Invariant(
    name="sagas-end",
    rule="Every saga has ended, or is parked or frozen with a reason, or waits for an outcome that comes later.",
    checked=EVERY_SAGA,
    offenders="""
        SELECT saga_id, iif(state IN ('NEEDS_REVIEW', 'INCIDENT'), state || ' without a reason', 'still ' || state)
        FROM sagas
        WHERE NOT (state IN ('CONFIRMED', 'CANCELLED_COMPENSATED') OR state IN ('PENDING', 'IN_DOUBT') AND is_awaiting
                   OR state IN ('NEEDS_REVIEW', 'INCIDENT') AND coalesce(reason, '') <> '')
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
    rule="Every effect belongs to a step of its saga and is settled, unless its saga is parked or waits for evidence.",
    checked=EVERY_EFFECT,
    offenders="""
        SELECT saga_id, step || ' is ' || effects.state
        FROM effects LEFT JOIN sagas USING (saga_id)
        WHERE effects.state NOT IN ('DONE', 'REJECTED', 'FENCED', 'UNDONE')
          AND NOT (effects.state = 'STARTED' AND sagas.state IS 'NEEDS_REVIEW')
          AND NOT (effects.state IN ('SENT', 'UNSURE', 'PAUSED', 'STARTED') AND coalesce(is_awaiting, 0))
        UNION ALL
        SELECT saga_id, step || ' of ' || effects.service || ' is not a step of a known saga'
        FROM effects LEFT JOIN sagas USING (saga_id) LEFT JOIN steps USING (saga_type, saga_version, step, service)
        WHERE steps.step IS NULL
    """,
)

STRAYS_UNDONE = Invariant(
    name="strays-undone",
    rule="What a provider did that belongs to no step is undone there.",
    checked="SELECT count(*) FROM strays",
    offenders="""
        SELECT saga_id, step || ' of ' || service || ' is ' || state || ', so the provider may keep it'
        FROM strays
        WHERE state <> 'DONE'
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

PAYMENTS_AGREE = Invariant(
    name="payments-agree",
    rule="Payment's own record of every saga agrees with the gateway's; one may differ that is parked and unsettled.",
    checked="SELECT count(*) FROM payments",
    offenders="""
        SELECT saga_id, 'payment has ' || coalesce(charged.authorizations, 0) || ' authorizations, '
               || coalesce(charged.open, 0) || ' of them open, ' || coalesce(charged.captures, 0) || ' captures and '
               || coalesce(charged.refunds, 0) || ' refunds, the gateway ' || coalesce(settled.authorizations, 0)
               || ', ' || coalesce(settled.open, 0) || ', ' || coalesce(settled.captures, 0) || ' and '
               || coalesce(settled.refunds, 0)
        FROM (SELECT saga_id FROM charged UNION SELECT saga_id FROM settled)
             LEFT JOIN charged USING (saga_id) LEFT JOIN settled USING (saga_id) LEFT JOIN sagas USING (saga_id)
        WHERE (sagas.state IS NOT 'NEEDS_REVIEW' OR (saga_id, 'payment') NOT IN unsettled)
          AND saga_id NOT IN (SELECT order_id FROM refunding)
          AND (coalesce(charged.authorizations, 0), coalesce(charged.open, 0), coalesce(charged.captures, 0),
               coalesce(charged.refunds, 0))
           <> (coalesce(settled.authorizations, 0), coalesce(settled.open, 0), coalesce(settled.captures, 0),
               coalesce(settled.refunds, 0))
    """,
)

PROVIDERS_KNOW_SAGAS = Invariant(
    name="providers-know-sagas",
    rule="The gateway and the courier did nothing for a saga that the tracker does not have.",
    checked="SELECT (SELECT count(*) FROM settled) + (SELECT count(*) FROM delivered)",
    offenders="""
        SELECT saga_id, 'the gateway charged for it, but the tracker has no such saga'
        FROM settled LEFT JOIN sagas USING (saga_id)
        WHERE sagas.saga_id IS NULL
        UNION ALL
        SELECT saga_id, 'the courier ships it, but the tracker has no such saga'
        FROM delivered LEFT JOIN sagas USING (saga_id)
        WHERE sagas.saga_id IS NULL
    """,
)

HELD_FOR_A_SAGA = Invariant(
    name="held-for-a-saga",
    rule="Stock is reserved and points are burned only for sagas that are confirmed, parked, frozen or waiting.",
    checked="SELECT (SELECT count(*) FROM reservations) + (SELECT count(*) FROM burns)",
    offenders="""
        SELECT saga_id, 'reserved for a saga that is ' || coalesce(sagas.state, 'unknown')
        FROM reservations LEFT JOIN sagas USING (saga_id)
        WHERE reservations.state = 'RESERVED' AND NOT coalesce(is_awaiting, 0)
          AND coalesce(sagas.state, '') NOT IN ('CONFIRMED', 'NEEDS_REVIEW', 'INCIDENT')
        UNION ALL
        SELECT saga_id, points || ' points burned for a saga that is ' || coalesce(sagas.state, 'unknown')
        FROM burns LEFT JOIN sagas USING (saga_id)
        WHERE burns.state = 'BURNED' AND points > 0 AND NOT coalesce(is_awaiting, 0)
          AND coalesce(sagas.state, '') NOT IN ('CONFIRMED', 'NEEDS_REVIEW', 'INCIDENT')
    """,
)

STOCK_CONSERVED = Invariant(
    name="stock-conserved",
    rule="For every product, movements sum to the pieces received; with those returned they are on hand or reserved.",
    checked="SELECT count(*) FROM stock",
    offenders="""
        SELECT sku, moved || ' by movements, ' || coalesce(received, 0) || ' received, ' || coalesce(units, 0)
               || ' restocked, ' || coalesce(on_hand, 0) || ' on hand, ' || reserved || ' reserved'
        FROM stock LEFT JOIN restocked USING (sku)
        WHERE coalesce(received, 0) + coalesce(units, 0) <> coalesce(on_hand, 0) + reserved OR on_hand < 0
           OR moved <> coalesce(received, 0)
        UNION ALL
        SELECT sku, units || ' restocked, and it is not in stock'
        FROM restocked WHERE sku NOT IN (SELECT sku FROM stock)
    """,
)

POINTS_CONSERVED = Invariant(
    name="points-conserved",
    rule="For every account, its movements sum to the points granted; with those credited they are on it or burned.",
    checked="SELECT count(*) FROM accounts",
    offenders="""
        SELECT customer_id, moved || ' by movements, ' || coalesce(granted, 0) || ' granted, '
               || coalesce(points, 0) || ' credited, ' || coalesce(balance, 0) || ' left, ' || burned || ' burned'
        FROM accounts LEFT JOIN credited USING (customer_id)
        WHERE coalesce(granted, 0) + coalesce(points, 0) <> coalesce(balance, 0) + burned OR balance < 0
           OR moved <> coalesce(granted, 0)
        UNION ALL
        SELECT customer_id, points || ' points credited without an account'
        FROM credited WHERE points > 0 AND customer_id NOT IN (SELECT customer_id FROM accounts)
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
    rule="A service holds something for a saga, parked or not, exactly where its step is done; an order's is its own.",
    checked="SELECT count(*) FROM held",
    offenders="""
        SELECT saga_id, held.service || ' holds something for ' || step || ', which is ' || coalesce(state, 'unknown')
        FROM held LEFT JOIN effects USING (saga_id, step, service)
        WHERE state IS NOT 'DONE'
        UNION ALL
        SELECT saga_id, service || ' holds it for other lines, other points or another customer'
        FROM held
        WHERE NOT is_own
        UNION ALL
        SELECT saga_id, service || ' has done ' || step || ', but holds no ' || holds
        FROM effects JOIN sagas USING (saga_id) JOIN holding USING (saga_type, saga_version, step, service)
             LEFT JOIN held USING (saga_id, step, service)
        WHERE effects.state = 'DONE' AND held.saga_id IS NULL
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
    rule="No message waits for a retry; an undated one belongs to a saga that waits, or to a letter without a redrive.",
    checked="SELECT count(DISTINCT service) FROM steps",
    offenders="""
        SELECT deferred.saga_id, id || ' waits in ' || service
        FROM deferred LEFT JOIN sagas USING (saga_id)
        WHERE NOT (is_undated AND (sagas.state IS 'NEEDS_REVIEW' OR coalesce(is_awaiting, 0) OR EXISTS (
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
    orders.ORDERS_HAVE_SAGAS,
    SAGAS_END,
    PARKED_IN_TIME,
    PRICED_RIGHT,
    CONFIRMED_RAN,
    CANCELLED_UNDONE,
    EFFECTS_SETTLED,
    STRAYS_UNDONE,
    COMPENSATED_ONCE,
    HELD_IS_DONE,
    orders.CAPTURED_ONCE,
    NOTHING_KEPT,
    orders.CHARGED_ONCE,
    PROVIDERS_KNOW_SAGAS,
    PAYMENTS_AGREE,
    CHARGED_THE_PRICE,
    STOCK_CONSERVED,
    orders.RESERVED_FOR_ORDERS,
    POINTS_CONSERVED,
    orders.BURNED_FOR_ORDERS,
    HELD_FOR_A_SAGA,
    orders.SHIPPED_ONCE,
    SHIPMENTS_AGREE,
    orders.PARCELS_ARE_THE_ORDERS,
    LEDGER_BALANCES,
    LEDGER_IS_THE_GATEWAYS,
    *LEDGER_INVARIANTS,
    *SAGA_INVARIANTS,
    POSTED_BY_TWO,
    *RETURN_INVARIANTS,
    *PAYMENT_INVARIANTS,
    *SACCO_INVARIANTS,
    OUTBOXES_DRAINED,
    DEFERRED_DRAINED,
    DEAD_LETTERS_KNOWN,
    RESOLVED_BY_TWO,
)
