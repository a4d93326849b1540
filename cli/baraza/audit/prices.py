"""The invariants of an order's price: how it is made, and that every amount of the order is this one."""

from __future__ import annotations

from baraza.audit.invariant import Invariant

PRICED_RIGHT = Invariant(
    name="priced-right",
    rule="An order costs the sum of its lines; the card pays it less what the points pay at the rate kept with it.",
    checked="SELECT count(*) FROM orders",
    offenders="""
        SELECT order_id, lines_minor || ' of lines, ' || total_minor || ' in total, ' || points_to_burn
               || ' points (' || rate_points || ' pay ' || rate_minor || '), ' || payable_minor || ' payable'
        FROM orders
        WHERE lines_minor IS NOT total_minor OR payable_minor < 1 OR points_to_burn % rate_points <> 0
           OR payable_minor IS NOT total_minor - points_to_burn / rate_points * rate_minor
    """,
)

CHARGED_THE_PRICE = Invariant(
    name="charged-the-price",
    rule="Every amount recorded, authorized, captured, refunded or posted for a whole order is its price and currency.",
    checked="SELECT count(*) FROM charges",
    offenders="""
        SELECT saga_id, what || ' ' || charges.amount_minor || ' ' || coalesce(charges.currency, orders.currency)
               || ', the order is ' || payable_minor || ' ' || orders.currency
        FROM charges JOIN orders ON order_id = saga_id
        WHERE charges.amount_minor IS NOT payable_minor
           OR coalesce(charges.currency, orders.currency) IS NOT orders.currency
        UNION ALL
        SELECT saga_id, 'the ledger has ' || currencies || ' currencies' FROM ledger WHERE currencies <> 1
    """,
)
