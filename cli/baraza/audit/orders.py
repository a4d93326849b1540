"""What must be true of the order saga alone: an order is one payment, one reservation, one burn and one parcel."""

from __future__ import annotations

from baraza.audit.invariant import Invariant

CONFIRMED = """
    SELECT count(*) FROM sagas WHERE state = 'CONFIRMED' AND saga_type = 'order'
"""

ORDERS_HAVE_SAGAS = Invariant(
    name="orders-have-sagas",
    rule="Every accepted order has its saga, and checkout and the tracker agree on its state.",
    checked="SELECT count(*) FROM orders",
    offenders="""
        SELECT order_id, 'checkout has ' || orders.state || ', the tracker ' || coalesce(sagas.state, 'has no saga')
        FROM orders LEFT JOIN sagas ON saga_id = order_id
        WHERE iif(sagas.state IN ('NEEDS_REVIEW', 'IN_DOUBT', 'INCIDENT'), 'PENDING', sagas.state) IS NOT orders.state
        UNION ALL
        SELECT saga_id, 'a saga (' || sagas.state || ') without an order'
        FROM sagas LEFT JOIN orders ON order_id = saga_id
        WHERE order_id IS NULL AND saga_type = 'order'
    """,
)

CAPTURED_ONCE = Invariant(
    name="captured-once",
    rule="According to the gateway, a confirmed order is captured once at its price and refunded only for returns.",
    checked=CONFIRMED,
    offenders="""
        SELECT saga_id, 'payable ' || payable_minor || '; the gateway has ' || coalesce(captures, 0) || ' captures of '
               || coalesce(captured_minor, 0) || ', ' || coalesce(settled.refunded_minor, 0) || ' refunded, '
               || coalesce(open, 0) || ' open authorizations'
        FROM sagas JOIN orders ON order_id = saga_id LEFT JOIN settled USING (saga_id)
             LEFT JOIN given_back USING (order_id) LEFT JOIN refunding USING (order_id)
        WHERE sagas.state = 'CONFIRMED'
          AND (captures IS NOT 1 OR captured_minor IS NOT payable_minor OR open <> 0
               OR settled.refunded_minor <> coalesce(given_back.refunded_minor, 0) AND returns IS NULL)
    """,
)

CHARGED_ONCE = Invariant(
    name="charged-once",
    rule="No order has two authorizations, captures or refunds at the gateway; one refund more for each return.",
    checked="SELECT count(*) FROM settled JOIN orders ON order_id = saga_id",
    offenders="""
        SELECT saga_id, authorizations || ' authorizations, ' || captures || ' captures, ' || settled.refunds
               || ' refunds'
        FROM settled JOIN orders ON order_id = saga_id LEFT JOIN given_back USING (order_id)
             LEFT JOIN refunding USING (order_id)
        WHERE authorizations > 1 OR captures > 1
           OR settled.refunds > 1 + coalesce(given_back.refunds, 0) + coalesce(refunding.returns, 0)
    """,
)

RESERVED_FOR_ORDERS = Invariant(
    name="reserved-for-orders",
    rule="A confirmed order holds a reservation of exactly its lines.",
    checked=CONFIRMED,
    offenders="""
        SELECT saga_id, 'confirmed; its reservation ' || CASE WHEN reservations.state IS NULL THEN 'is missing'
                        WHEN reservations.state <> 'RESERVED' THEN 'is ' || reservations.state
                        ELSE 'is for other lines' END
        FROM sagas JOIN orders ON order_id = saga_id LEFT JOIN reservations USING (saga_id)
        WHERE sagas.state = 'CONFIRMED'
          AND (reservations.state IS NOT 'RESERVED' OR reservations.lines IS NOT orders.lines)
    """,
)

BURNED_FOR_ORDERS = Invariant(
    name="burned-for-orders",
    rule="A confirmed order burned exactly its points, of its own customer.",
    checked=CONFIRMED,
    offenders="""
        SELECT saga_id, 'confirmed with ' || points_to_burn || ' points to burn; '
               || coalesce(points || ' of ' || burns.customer_id || ' ' || burns.state, 'none burned')
        FROM sagas JOIN orders ON order_id = saga_id LEFT JOIN burns USING (saga_id)
        WHERE sagas.state = 'CONFIRMED' AND coalesce(iif(burns.state = 'BURNED', points, 0), 0) <> points_to_burn
           OR sagas.state = 'CONFIRMED' AND points_to_burn > 0 AND burns.customer_id IS NOT orders.customer_id
    """,
)

SHIPPED_ONCE = Invariant(
    name="shipped-once",
    rule="According to the courier, a confirmed order has exactly one live shipment and a cancelled one none.",
    checked="SELECT count(*) FROM parcels",
    offenders="""
        SELECT saga_id, sagas.state || ' with ' || coalesce(live, 0) || ' live shipments'
        FROM sagas LEFT JOIN delivered USING (saga_id)
        WHERE saga_type = 'order'
          AND coalesce(live, 0) <> CASE sagas.state WHEN 'CONFIRMED' THEN 1 WHEN 'CANCELLED_COMPENSATED' THEN 0
                                                   ELSE coalesce(live, 0) END
        UNION ALL
        SELECT saga_id, parcels || ' shipments were booked for one order'
        FROM delivered JOIN orders ON order_id = saga_id
        WHERE parcels > 1
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
