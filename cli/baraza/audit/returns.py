"""What must be true of the return saga alone: what comes back, what it is worth, and that nothing else is given back.

A return is judged by the courier's and the gateway's own records, not by what the services say of each other.
"""

from __future__ import annotations

from baraza.audit.invariant import Invariant

RETURNS = """
    SELECT return_id, order_id, state, decided_at IS NOT NULL, currency, refund_minor, points_minor, points,
           (SELECT md5(string_agg(line ->> 'sku' || ' ' || (line ->> 'quantity'), ','
                                  ORDER BY line ->> 'sku' COLLATE "C"))
            FROM jsonb_array_elements(lines) AS line)
    FROM returns
"""

RETURN_LINES = """
    SELECT return_id, line ->> 'sku', sum((line ->> 'quantity')::bigint)::bigint,
           max((line ->> 'unit_price_minor')::bigint)
    FROM returns, jsonb_array_elements(lines) AS line
    GROUP BY return_id, line ->> 'sku'
"""

BOUGHT = """
    SELECT order_id, line ->> 'sku', sum((line ->> 'quantity')::bigint)::bigint,
           max((line ->> 'unit_price_minor')::bigint)
    FROM orders, jsonb_array_elements(lines) AS line
    WHERE order_id IN (SELECT order_id FROM returns)
    GROUP BY order_id, line ->> 'sku'
"""
"""The lines of orders that have returns, and of no others."""

COLLECTIONS = "SELECT saga_id, state, collection_id, refund_minor FROM collections"

COLLECTED = """
    SELECT saga_id, line ->> 'sku', sum((line ->> 'good')::bigint)::bigint, sum((line ->> 'damaged')::bigint)::bigint
    FROM collections, jsonb_array_elements(received) AS line
    GROUP BY saga_id, line ->> 'sku'
"""

CONTRADICTIONS = "SELECT DISTINCT saga_id FROM attempts WHERE is_contradicted"
"""Of which the courier has reported two ends; people settle what the customer gets."""

SETTLED_SURPLUS = """
    SELECT saga_id, line ->> 'sku', sum((line ->> 'good')::bigint)::bigint, sum((line ->> 'damaged')::bigint)::bigint,
           settled_by, reason
    FROM surplus_settlements JOIN collections USING (saga_id, step), jsonb_array_elements(surplus) AS line
    GROUP BY saga_id, line ->> 'sku', settled_by, reason
"""
"""The pieces that a parcel had besides those of its return, and about which staff have recorded what they did."""

RESTOCKS = "SELECT saga_id, sku, units FROM restocks"
REFUNDS = "SELECT saga_id, order_id, amount_minor, currency, refund_id FROM refunds"
CREDITS = "SELECT saga_id, order_id, customer_id, points FROM credits"

TABLES = (
    ("checkout", "returns", RETURNS, "returns"),
    ("checkout", "return_lines", RETURN_LINES, "returns"),
    ("checkout", "bought", BOUGHT, "returns"),
    ("shipping", "collections", COLLECTIONS, "collections"),
    ("shipping", "collected", COLLECTED, "collections"),
    ("shipping", "contradictions", CONTRADICTIONS, "attempts"),
    ("shipping", "settled_surplus", SETTLED_SURPLUS, "surplus_settlements"),
    ("inventory", "restocks", RESTOCKS, "restocks"),
    ("payment", "return_refunds", REFUNDS, "refunds"),
    ("loyalty", "credits", CREDITS, "credits"),
)
"""By service, each with the table that it reads; a database of a release before returns does not have it."""

SCHEMA = """
    CREATE TABLE returns (
        return_id PRIMARY KEY, order_id, state, is_decided, currency, refund_minor, points_minor, points, lines
    ) WITHOUT ROWID;
    CREATE TABLE return_lines (return_id, sku, units, unit_price_minor, PRIMARY KEY (return_id, sku)) WITHOUT ROWID;
    CREATE TABLE bought (order_id, sku, units, unit_price_minor, PRIMARY KEY (order_id, sku)) WITHOUT ROWID;
    CREATE TABLE collections (saga_id PRIMARY KEY, state, collection_id, refund_minor) WITHOUT ROWID;
    CREATE TABLE collected (saga_id, sku, good, damaged, PRIMARY KEY (saga_id, sku)) WITHOUT ROWID;
    CREATE TABLE contradictions (saga_id PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE settled_surplus (
        saga_id, sku, good, damaged, settled_by, reason, PRIMARY KEY (saga_id, sku)
    ) WITHOUT ROWID;
    CREATE TABLE restocks (saga_id, sku, units, PRIMARY KEY (saga_id, sku)) WITHOUT ROWID;
    CREATE TABLE return_refunds (saga_id PRIMARY KEY, order_id, amount_minor, currency, refund_id) WITHOUT ROWID;
    CREATE TABLE credits (saga_id PRIMARY KEY, order_id, customer_id, points) WITHOUT ROWID;
    CREATE TABLE pickups (collection_id PRIMARY KEY, saga_id, state, lines) WITHOUT ROWID;
    CREATE TABLE pieces (collection_id, sku, good, damaged, PRIMARY KEY (collection_id, sku)) WITHOUT ROWID;
"""

VIEWS = """
    -- refunding: orders with returns of which payment does not know whether the card has its money back.
    -- given_back: what payment has refunded for the returns of an order. restocked, credited: what returns put back.
    -- arrived: the pieces that arrived, by the courier's records, without a surplus that staff have settled.
    -- counted: the pieces of approved returns that count:
    -- those that arrived, all where the courier lost them, and all that are still on their way. worth: their price.
    -- given: what the returns of an order are worth together.
    CREATE INDEX returns_by_order ON returns (order_id);
    CREATE INDEX pickups_by_saga ON pickups (saga_id);
    CREATE TABLE refunding (order_id PRIMARY KEY, returns) WITHOUT ROWID;
    INSERT INTO refunding
    SELECT order_id, count(*) FROM returns WHERE (return_id, 'payment') IN unsettled GROUP BY order_id;
    CREATE TABLE given_back (order_id PRIMARY KEY, refunds, refunded_minor) WITHOUT ROWID;
    INSERT INTO given_back
    SELECT order_id, sum(refund_id IS NOT NULL), sum(amount_minor) FROM return_refunds GROUP BY order_id;
    CREATE TABLE restocked (sku PRIMARY KEY, units) WITHOUT ROWID;
    INSERT INTO restocked SELECT sku, sum(units) FROM restocks GROUP BY sku;
    CREATE TABLE credited (customer_id PRIMARY KEY, points) WITHOUT ROWID;
    INSERT INTO credited SELECT customer_id, sum(points) FROM credits GROUP BY customer_id;
    CREATE TABLE arrived (saga_id, sku, good, damaged, PRIMARY KEY (saga_id, sku)) WITHOUT ROWID;
    INSERT INTO arrived
    SELECT saga_id, sku, sum(good), sum(damaged)
    FROM (SELECT saga_id, sku, good, damaged FROM pickups JOIN pieces USING (collection_id) WHERE state = 'arrived'
          UNION ALL SELECT saga_id, sku, -good, -damaged FROM settled_surplus)
    GROUP BY saga_id, sku HAVING sum(good) <> 0 OR sum(damaged) <> 0;
    CREATE TABLE counted (return_id, sku, units, PRIMARY KEY (return_id, sku)) WITHOUT ROWID;
    INSERT INTO counted
    SELECT return_id, sku, iif(collections.state IS 'ARRIVED', coalesce(good + damaged, 0), units)
    FROM returns JOIN return_lines USING (return_id) LEFT JOIN collections ON collections.saga_id = return_id
         LEFT JOIN collected USING (saga_id, sku)
    WHERE returns.state IN ('APPROVED', 'ARRIVED', 'COMPLETED');
    CREATE TABLE worth (return_id PRIMARY KEY, gross_minor) WITHOUT ROWID;
    INSERT INTO worth
    SELECT return_id, sum(counted.units * unit_price_minor)
    FROM counted JOIN return_lines USING (return_id, sku) GROUP BY return_id;
    CREATE TABLE given (order_id PRIMARY KEY, returns, gross_minor, refund_minor, points_minor, points) WITHOUT ROWID;
    INSERT INTO given
    SELECT order_id, count(*), sum(gross_minor), sum(iif(gross_minor IS NULL, 0, refund_minor)),
           sum(iif(gross_minor IS NULL, 0, points_minor)), sum(iif(gross_minor IS NULL, 0, points))
    FROM returns LEFT JOIN worth USING (return_id) GROUP BY order_id;
"""
"""They need ``unsettled``, and the order's tables need them."""

EVERY_RETURN = "SELECT count(*) FROM returns"

RETURNS_HAVE_SAGAS = Invariant(
    name="returns-have-sagas",
    rule="Every return that was requested has its saga, and checkout and the tracker agree on its end.",
    checked=EVERY_RETURN,
    offenders="""
        SELECT return_id, 'checkout has ' || returns.state || iif(is_decided, ', decided', '') || ', the tracker '
               || coalesce(sagas.state, 'has no saga')
        FROM returns LEFT JOIN sagas ON saga_id = return_id
        WHERE sagas.saga_type IS NOT 'return_order'
           OR CASE sagas.state WHEN 'CONFIRMED' THEN returns.state <> 'COMPLETED' OR NOT is_decided
                   WHEN 'CANCELLED_COMPENSATED' THEN returns.state NOT IN ('REFUSED', 'WITHDRAWN', 'FAILED')
                                                     OR NOT is_decided
                   ELSE returns.state IN ('COMPLETED', 'FAILED') END
        UNION ALL
        SELECT saga_id, 'a saga (' || sagas.state || ') without a return'
        FROM sagas LEFT JOIN returns ON return_id = saga_id
        WHERE return_id IS NULL AND saga_type = 'return_order'
    """,
)

RETURNED_WITHIN_BOUGHT = Invariant(
    name="returned-within-bought",
    rule="Of no product are more pieces returned than were bought, at another price, or from an unconfirmed order.",
    checked="SELECT count(*) FROM return_lines",
    offenders="""
        SELECT order_id, sum(counted.units) || ' pieces of ' || sku || ' are returned, ' || coalesce(bought.units, 0)
               || ' were bought'
        FROM counted JOIN returns USING (return_id) LEFT JOIN bought USING (order_id, sku)
        GROUP BY order_id, sku
        HAVING sum(counted.units) > coalesce(bought.units, 0)
        UNION ALL
        SELECT return_id, sku || ' is returned at ' || return_lines.unit_price_minor || ', it was bought at '
               || coalesce(bought.unit_price_minor, 'no price')
        FROM return_lines JOIN returns USING (return_id) LEFT JOIN bought USING (order_id, sku)
        WHERE return_lines.unit_price_minor IS NOT bought.unit_price_minor
        UNION ALL
        SELECT return_id, 'is ' || returns.state || ', its order ' || coalesce(orders.state, 'unknown')
        FROM returns LEFT JOIN orders USING (order_id)
        WHERE returns.state IN ('APPROVED', 'ARRIVED', 'COMPLETED') AND orders.state IS NOT 'CONFIRMED'
    """,
)

REFUNDED_WITHIN_CAPTURED = Invariant(
    name="refunded-within-captured",
    rule="No order has more refunded than was captured, by the gateway or by payment, or more points than it burned.",
    checked="SELECT count(*) FROM settled",
    offenders="""
        SELECT saga_id, 'the gateway has ' || captured_minor || ' captured and ' || refunded_minor || ' refunded'
        FROM settled
        WHERE refunded_minor > captured_minor
        UNION ALL
        SELECT order_id, 'payment has ' || given_back.refunded_minor || ' refunded for its returns, the gateway '
               || coalesce(captured_minor, 0) || ' captured'
        FROM given_back LEFT JOIN settled ON saga_id = order_id
        WHERE given_back.refunded_minor > coalesce(captured_minor, 0)
        UNION ALL
        SELECT order_id, sum(credits.points) || ' points were credited, ' || coalesce(points_to_burn, 0) || ' burned'
        FROM credits LEFT JOIN orders USING (order_id)
        GROUP BY order_id
        HAVING sum(credits.points) > coalesce(points_to_burn, 0)
    """,
)

RETURNS_PRICED_RIGHT = Invariant(
    name="returns-priced-right",
    rule="A return gives back its part of what was paid, to a unit for each return; all pieces give back all of it.",
    checked="SELECT count(*) FROM worth",
    offenders="""
        SELECT return_id, gross_minor || ' of ' || total_minor || ' come back; ' || refund_minor || ' of '
               || payable_minor || ', ' || points || ' of ' || points_to_burn || ' points, which paid ' || points_minor
        FROM worth JOIN returns USING (return_id) JOIN orders USING (order_id)
             JOIN (SELECT order_id, returns AS number FROM given) USING (order_id)
        WHERE abs(refund_minor * total_minor - payable_minor * gross_minor) > total_minor * (1 + number)
           OR abs(points * total_minor - points_to_burn * gross_minor) > total_minor * (1 + number)
           OR abs(refund_minor + points_minor - gross_minor) > 2 * number
           OR refund_minor < 0 OR points_minor < 0 OR points < 0
           OR returns.currency IS NOT orders.currency
        UNION ALL
        SELECT order_id, 'all of it is returned, for ' || refund_minor || ' of ' || payable_minor || ' and '
               || points || ' of ' || points_to_burn || ' points, which paid ' || points_minor
        FROM given JOIN orders USING (order_id)
        WHERE gross_minor = total_minor
          AND (refund_minor, points_minor, points) <> (payable_minor, total_minor - payable_minor, points_to_burn)
    """,
)

REFUNDED_AS_RETURNED = Invariant(
    name="refunded-as-returned",
    rule="A completed return is refunded exactly its amount, by the gateway's records too; a cancelled one nothing.",
    checked=EVERY_RETURN,
    offenders="""
        SELECT return_id, sagas.state || ' with ' || refund_minor || ' to refund, payment has '
               || coalesce(amount_minor, 'nothing')
        FROM returns JOIN sagas ON saga_id = return_id LEFT JOIN return_refunds USING (saga_id)
        WHERE CASE sagas.state WHEN 'CONFIRMED' THEN amount_minor IS NOT refund_minor
                   WHEN 'CANCELLED_COMPENSATED' THEN amount_minor IS NOT NULL
                   ELSE coalesce(amount_minor <> refund_minor, 0) END
        UNION ALL
        SELECT return_refunds.saga_id, 'payment refunded order ' || return_refunds.order_id || ' '
               || return_refunds.amount_minor || ' ' || return_refunds.currency || ', the gateway has '
               || coalesce(refunds.amount_minor || ' of ' || refunds.saga_id, 'nothing') || ' as '
               || coalesce(refund_id, 'no refund') || iif(returns.return_id IS NULL, ', for no return', '')
        FROM return_refunds LEFT JOIN refunds ON refunds.id = refund_id
             LEFT JOIN returns ON return_id = return_refunds.saga_id
        WHERE returns.order_id IS NOT return_refunds.order_id OR returns.currency IS NOT return_refunds.currency
           OR iif(return_refunds.amount_minor = 0, refund_id IS NOT NULL,
                  refunds.saga_id IS NOT return_refunds.order_id
                  OR refunds.amount_minor IS NOT return_refunds.amount_minor
                  OR coalesce(refunds.currency, returns.currency) IS NOT returns.currency)
        UNION ALL
        SELECT min(saga_id), 'shares its refund ' || refund_id || ' with ' || (count(*) - 1) || ' others'
        FROM return_refunds WHERE refund_id IS NOT NULL GROUP BY refund_id HAVING count(*) > 1
        UNION ALL
        SELECT return_id, 'shipping has ' || collections.refund_minor || ' for what arrived, checkout '
               || returns.refund_minor
        FROM returns JOIN collections ON saga_id = return_id
        WHERE returns.state = 'COMPLETED' AND collections.refund_minor IS NOT returns.refund_minor
    """,
)

CREDITED_AS_RETURNED = Invariant(
    name="credited-as-returned",
    rule="The points of a completed return are on its customer's account; a cancelled one has credited none.",
    checked=EVERY_RETURN,
    offenders="""
        SELECT return_id, sagas.state || ' with ' || returns.points || ' points to credit, loyalty has '
               || coalesce(credits.points, 'none')
        FROM returns JOIN sagas ON saga_id = return_id LEFT JOIN credits USING (saga_id)
        WHERE CASE sagas.state WHEN 'CONFIRMED' THEN coalesce(credits.points, 0) IS NOT returns.points
                   WHEN 'CANCELLED_COMPENSATED' THEN credits.points IS NOT NULL
                   ELSE coalesce(credits.points <> returns.points, 0) END
        UNION ALL
        SELECT saga_id, credits.points || ' points of order ' || credits.order_id || ' were credited to '
               || credits.customer_id || iif(return_id IS NULL, ', for no return', '')
        FROM credits LEFT JOIN returns ON return_id = saga_id LEFT JOIN orders ON orders.order_id = returns.order_id
        WHERE returns.order_id IS NOT credits.order_id OR orders.customer_id IS NOT credits.customer_id
    """,
)

RESTOCKED_AS_ARRIVED = Invariant(
    name="restocked-as-arrived",
    rule="According to the courier, exactly the good pieces of completed returns are in stock again, and no others.",
    checked="SELECT count(*) FROM restocks",
    offenders="""
        SELECT saga_id, coalesce(units, 0) || ' pieces of ' || sku || ' were restocked, ' || coalesce(good, 0)
               || ' arrived in good condition; it is ' || coalesce(sagas.state, 'no saga')
        FROM (SELECT saga_id, sku FROM arrived UNION SELECT saga_id, sku FROM restocks)
             LEFT JOIN arrived USING (saga_id, sku) LEFT JOIN restocks USING (saga_id, sku)
             LEFT JOIN sagas USING (saga_id) LEFT JOIN returns ON return_id = saga_id
        WHERE units IS NOT NULL AND return_id IS NULL
           OR CASE sagas.state WHEN 'CONFIRMED' THEN coalesce(units, 0) <> coalesce(good, 0)
                   WHEN 'CANCELLED_COMPENSATED' THEN units IS NOT NULL
                   ELSE coalesce(units, good, 0) <> coalesce(good, 0) END
    """,
)

PARCELS_ARE_THE_RETURNS = Invariant(
    name="parcels-are-the-returns",
    rule="According to the courier, a completed return's parcel has ended and is its own; of cancelled ones none came.",
    checked="SELECT count(*) FROM pickups",
    offenders="""
        SELECT return_id, sagas.state || '; shipping has ' || coalesce(collections.state || ' ' || collection_id,
               'no parcel') || ', the courier ' || coalesce(pickups.state || ' of ' || pickups.saga_id, 'nothing')
        FROM returns JOIN sagas ON sagas.saga_id = return_id
             LEFT JOIN collections ON collections.saga_id = return_id LEFT JOIN pickups USING (collection_id)
        WHERE sagas.state = 'CONFIRMED'
          AND (collections.state NOT IN ('ARRIVED', 'LOST') OR pickups.saga_id IS NOT return_id
               OR pickups.state IS NOT lower(collections.state))
        UNION ALL
        SELECT pickups.saga_id, 'the courier has ' || collection_id || ' as ' || pickups.state || ', of '
               || CASE WHEN return_id IS NULL THEN 'no return' WHEN sagas.state = 'CANCELLED_COMPENSATED'
                       THEN 'a cancelled return' ELSE 'other pieces than the return' END
        FROM pickups LEFT JOIN returns ON return_id = pickups.saga_id LEFT JOIN sagas ON sagas.saga_id = return_id
        WHERE return_id IS NULL OR pickups.lines IS NOT returns.lines
           OR sagas.state = 'CANCELLED_COMPENSATED'
              AND pickups.saga_id NOT IN (SELECT saga_id FROM contradictions)
              AND (pickups.state IN ('accepted', 'collected', 'lost')
                   OR pickups.state = 'arrived' AND pickups.saga_id IN (SELECT saga_id FROM arrived))
        UNION ALL
        SELECT saga_id, count(*) || ' parcels have ended for one return'
        FROM pickups WHERE state IN ('arrived', 'lost') GROUP BY saga_id HAVING count(*) > 1
        UNION ALL
        SELECT saga_id, (good + damaged) || ' pieces of ' || arrived.sku || ' arrived, ' || coalesce(units, 0)
               || ' were announced'
        FROM arrived LEFT JOIN return_lines ON return_id = saga_id AND return_lines.sku = arrived.sku
        WHERE good + damaged > coalesce(units, 0)
        UNION ALL
        SELECT saga_id, 'of ' || sku || ' shipping has ' || coalesce(collected.good || ' good and ' || collected.damaged
               || ' damaged', 'none') || ', the courier '
               || coalesce(arrived.good || ' good and ' || arrived.damaged || ' damaged', 'none')
        FROM (SELECT saga_id, sku FROM collected UNION SELECT saga_id, sku FROM arrived)
             JOIN collections USING (saga_id) LEFT JOIN collected USING (saga_id, sku)
             LEFT JOIN arrived USING (saga_id, sku)
        WHERE collections.state = 'ARRIVED'
          AND (coalesce(collected.good, 0), coalesce(collected.damaged, 0))
           <> (coalesce(arrived.good, 0), coalesce(arrived.damaged, 0))
    """,
    settled="""
        SELECT saga_id, (good + damaged) || ' pieces of ' || sku || ' came besides; settled by ' || settled_by || ': '
               || reason
        FROM settled_surplus ORDER BY saga_id, sku
    """,
)

POSTED_AS_RETURNED = Invariant(
    name="posted-as-returned",
    rule="The ledger takes a completed return from sales, to the card and to points by its amounts; others not.",
    checked=EVERY_RETURN,
    offenders="""
        SELECT return_id, sagas.state || ' for ' || refund_minor || ' and ' || returns.points_minor
               || ' in points; the ledger has ' || coalesce(-receivable_minor, 'nothing') || ' and '
               || coalesce(-ledger.points_minor, 'nothing') || ' of ' || coalesce(debit_minor, 'nothing')
        FROM returns JOIN sagas ON saga_id = return_id LEFT JOIN ledger USING (saga_id)
        WHERE CASE sagas.state WHEN 'CANCELLED_COMPENSATED' THEN posts IS NOT NULL
                   WHEN 'CONFIRMED' THEN (coalesce(-receivable_minor, 0), coalesce(-ledger.points_minor, 0),
                                          coalesce(debit_minor, 0))
                                      <> (refund_minor, returns.points_minor, refund_minor + returns.points_minor)
                   ELSE posts IS NOT NULL AND (-receivable_minor, -ledger.points_minor)
                                           <> (refund_minor, returns.points_minor) END
           OR ledger.currency <> returns.currency
    """,
)

RETURN_INVARIANTS = (
    RETURNS_HAVE_SAGAS,
    RETURNED_WITHIN_BOUGHT,
    REFUNDED_WITHIN_CAPTURED,
    RETURNS_PRICED_RIGHT,
    REFUNDED_AS_RETURNED,
    CREDITED_AS_RETURNED,
    RESTOCKED_AS_ARRIVED,
    PARCELS_ARE_THE_RETURNS,
    POSTED_AS_RETURNED,
)
