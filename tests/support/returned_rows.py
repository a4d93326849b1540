"""What the audit reads of a confirmed order with returns: two completed, one on its way, one cancelled, one refused.

Of four mugs and a cup, at 200 each, the card paid 900 and points 100. A parcel of three pieces arrived, one of them
damaged; the courier lost one with a mug; the last mug is on its way.
"""

from __future__ import annotations

RETURNED = """
    INSERT INTO sagas VALUES ('sold', 'order', 1, 'CONFIRMED', NULL, 40, 0),
        ('back', 'return_order', 1, 'CONFIRMED', NULL, 9, 0), ('lost', 'return_order', 1, 'CONFIRMED', NULL, 9, 0),
        ('way', 'return_order', 1, 'PENDING', NULL, 1, 1),
        ('kept', 'return_order', 1, 'CANCELLED_COMPENSATED', 'not_collected', 9, 0),
        ('late', 'return_order', 1, 'CANCELLED_COMPENSATED', 'outside_window', 9, 0);
    INSERT INTO orders VALUES
        ('sold', 'CONFIRMED', 'eve', 900, 100, 'mugs', 'USD', 1000, 1000, 1, 1, 'north');
    INSERT INTO bought VALUES ('sold', 'mug', 4, 200), ('sold', 'cup', 1, 200);
    INSERT INTO effects SELECT 'sold', step, service, 'DONE' FROM steps WHERE saga_type = 'order';
    INSERT INTO effects SELECT saga_id, step, service, 'DONE' FROM steps JOIN sagas USING (saga_type)
        WHERE saga_type = 'return_order' AND saga_id IN ('back', 'lost');
    INSERT INTO effects VALUES ('way', 'approve_return', 'checkout', 'DONE'),
        ('way', 'collect_parcel', 'shipping', 'SENT'), ('kept', 'approve_return', 'checkout', 'UNDONE'),
        ('kept', 'collect_parcel', 'shipping', 'REJECTED'), ('late', 'approve_return', 'checkout', 'REJECTED');
    INSERT INTO replies VALUES ('kept', 'approve_return');
    INSERT INTO payments VALUES ('sold', 'authorize_payment', 'CAPTURED', 900, 'USD');
    INSERT INTO authorizations VALUES ('auth-s', 'sold', 'captured', 900, 'USD');
    INSERT INTO captures VALUES ('cap-s', 'sold', 900, 'USD');
    INSERT INTO refunds VALUES ('ref-b', 'sold', 540, 'USD'), ('ref-l', 'sold', 180, 'USD');
    INSERT INTO return_refunds VALUES ('back', 'sold', 540, 'USD', 'ref-b'), ('lost', 'sold', 180, 'USD', 'ref-l');
    INSERT INTO reservations VALUES ('sold', 'reserve_inventory', 'RESERVED', 'mugs');
    INSERT INTO stock VALUES ('mug', 10, 7, 4, 10), ('cup', 5, 5, 1, 5);
    INSERT INTO restocks VALUES ('back', 'mug', 1), ('back', 'cup', 1);
    INSERT INTO burns VALUES ('sold', 'burn_loyalty_points', 'eve', 100, 'BURNED');
    INSERT INTO accounts VALUES ('eve', 150, 130, 100, 150);
    INSERT INTO credits VALUES ('back', 'sold', 'eve', 60), ('lost', 'sold', 'eve', 20);
    INSERT INTO shipments VALUES ('sold', 'book_shipment', 'BOOKED', 'box-s');
    INSERT INTO parcels VALUES ('box-s', 'sold', 'live', 'mugs', 'north');
    INSERT INTO ledger VALUES ('sold', 'post_ledger', 1000, 1000, 900, 900, 100, 1, 0, 'USD', 1),
        ('back', 'post_ledger', 600, 600, -540, -540, -60, 1, 0, 'USD', 1),
        ('lost', 'post_ledger', 200, 200, -180, -180, -20, 1, 0, 'USD', 1);
    INSERT INTO returns VALUES ('back', 'sold', 'COMPLETED', 1, 'USD', 540, 60, 60, 'three'),
        ('lost', 'sold', 'COMPLETED', 1, 'USD', 180, 20, 20, 'a mug'),
        ('way', 'sold', 'APPROVED', 0, 'USD', 180, 20, 20, 'a mug'),
        ('kept', 'sold', 'FAILED', 1, 'USD', 0, 0, 0, 'a mug'),
        ('late', 'sold', 'FAILED', 1, 'USD', 0, 0, 0, 'a mug');
    INSERT INTO return_lines VALUES ('back', 'mug', 2, 200), ('back', 'cup', 1, 200), ('lost', 'mug', 1, 200),
        ('way', 'mug', 1, 200), ('kept', 'mug', 1, 200), ('late', 'mug', 1, 200);
    INSERT INTO collections VALUES ('back', 'ARRIVED', 'col-b', 540), ('lost', 'LOST', 'col-l', 180),
        ('kept', 'NOT_COLLECTED', 'col-k', 0);
    INSERT INTO collected VALUES ('back', 'mug', 1, 1), ('back', 'cup', 1, 0);
    INSERT INTO pickups VALUES ('col-b', 'back', 'arrived', 'three'), ('col-l', 'lost', 'lost', 'a mug'),
        ('col-w', 'way', 'accepted', 'a mug'), ('col-k', 'kept', 'called_off', 'a mug');
    INSERT INTO pieces VALUES ('col-b', 'mug', 1, 1), ('col-b', 'cup', 1, 0);
"""

SHORT = """
    UPDATE collected SET good = 0 WHERE sku = 'mug';
    UPDATE pieces SET good = 0 WHERE sku = 'mug';
    DELETE FROM restocks WHERE sku = 'mug';
    UPDATE stock SET on_hand = 6 WHERE sku = 'mug';
    UPDATE returns SET refund_minor = 360, points_minor = 40, points = 40 WHERE return_id = 'back';
    UPDATE collections SET refund_minor = 360 WHERE saga_id = 'back';
    UPDATE refunds SET amount_minor = 360 WHERE id = 'ref-b';
    UPDATE return_refunds SET amount_minor = 360 WHERE saga_id = 'back';
    UPDATE credits SET points = 40 WHERE saga_id = 'back';
    UPDATE accounts SET balance = 110 WHERE customer_id = 'eve';
    UPDATE ledger SET debit_minor = 400, credit_minor = 400, receivable_minor = -360, posted_minor = -360,
        points_minor = -40 WHERE saga_id = 'back';
"""
"""The parcel held one mug fewer than announced."""

PARKED_RETURN = """
    UPDATE sagas SET state = 'NEEDS_REVIEW', reason = 'odd', idle_days = 1 WHERE saga_id = 'lost';
    UPDATE returns SET state = 'ARRIVED', is_decided = 0 WHERE return_id = 'lost';
    DELETE FROM ledger WHERE saga_id = 'lost';
    DELETE FROM effects WHERE saga_id = 'lost' AND service = 'ledger';
"""
"""The card has its money back, and the ledger does not have it yet."""

REFUND_UNKNOWN = """
    DELETE FROM return_refunds WHERE saga_id = 'lost';
    DELETE FROM credits WHERE saga_id = 'lost';
    UPDATE accounts SET balance = 110 WHERE customer_id = 'eve';
    DELETE FROM effects WHERE saga_id = 'lost' AND service = 'loyalty';
    UPDATE effects SET state = 'STARTED' WHERE saga_id = 'lost' AND service = 'payment';
"""
"""After PARKED_RETURN: the gateway has refunded the card, and payment does not know it."""

CONTRADICTED = """
    UPDATE pickups SET state = 'arrived' WHERE saga_id = 'kept';
    INSERT INTO pieces VALUES ('col-k', 'mug', 1, 0);
    INSERT INTO contradictions VALUES ('kept');
"""
"""The courier said that it could not collect the parcel, which arrived after all."""

SURPLUS = """
    INSERT INTO pieces VALUES ('col-b', 'hat', 1, 0), ('col-k', 'hat', 0, 2);
    UPDATE pieces SET damaged = 3 WHERE collection_id = 'col-b' AND sku = 'mug';
    UPDATE pickups SET state = 'arrived' WHERE saga_id = 'kept';
"""
"""A completed return's parcel had a hat besides, and two mugs too many; a cancelled one had hats only."""

SETTLED = """
    INSERT INTO settled_surplus VALUES ('back', 'hat', 1, 0, 'ann', 'sent back'), ('back', 'mug', 0, 2, 'ann', 'paid'),
        ('kept', 'hat', 0, 2, 'ben', 'sent back');
"""
"""After SURPLUS: staff have settled all of it."""

RETURN_DAMAGE = [
    ("returns-have-sagas", "UPDATE returns SET state = 'ARRIVED' WHERE return_id = 'back'"),
    ("returns-have-sagas", "UPDATE returns SET is_decided = 0 WHERE return_id = 'kept'"),
    ("returns-have-sagas", "UPDATE returns SET state = 'APPROVED' WHERE return_id = 'kept'"),
    ("returns-have-sagas", "UPDATE returns SET state = 'COMPLETED' WHERE return_id = 'way'"),
    ("returns-have-sagas", "DELETE FROM sagas WHERE saga_id = 'late'"),
    ("returns-have-sagas", "UPDATE sagas SET saga_type = 'order' WHERE saga_id = 'late'"),
    ("returns-have-sagas", "DELETE FROM returns WHERE return_id = 'way'"),
    ("held-is-done", "UPDATE returns SET state = 'REFUSED' WHERE return_id = 'way'"),
    ("held-is-done", "UPDATE effects SET state = 'UNDONE' WHERE saga_id = 'way' AND service = 'checkout'"),
    ("held-is-done", "UPDATE effects SET state = 'UNDONE' WHERE saga_id = 'back' AND service = 'ledger'"),
    ("returned-within-bought", "UPDATE bought SET units = 3 WHERE sku = 'mug'"),
    ("returned-within-bought", "UPDATE return_lines SET sku = 'hat' WHERE return_id = 'way'"),
    ("returned-within-bought", "UPDATE return_lines SET units = 2 WHERE return_id = 'lost'"),
    ("returned-within-bought", "UPDATE return_lines SET unit_price_minor = 201 WHERE return_id = 'way'"),
    ("returned-within-bought", "UPDATE orders SET state = 'PENDING' WHERE order_id = 'sold'"),
    ("returned-within-bought", "UPDATE returns SET order_id = 'refused' WHERE return_id = 'way'"),
    ("refunded-within-captured", "INSERT INTO refunds VALUES ('ref-9', 'sold', 181, 'USD')"),
    ("refunded-within-captured", "UPDATE return_refunds SET amount_minor = 361 WHERE saga_id = 'lost'"),
    ("refunded-within-captured", "UPDATE credits SET points = 41 WHERE saga_id = 'lost'"),
    ("captured-once", "INSERT INTO refunds VALUES ('ref-9', 'sold', 1, 'USD')"),
    ("captured-once", "DELETE FROM refunds WHERE id = 'ref-l'"),
    ("charged-once", "INSERT INTO refunds VALUES ('ref-8', 'sold', 1, 'USD'), ('ref-9', 'sold', 1, 'USD')"),
    ("charged-the-price", "UPDATE return_refunds SET refund_id = 'ref-9' WHERE saga_id = 'lost'"),
    ("payments-agree", "INSERT INTO refunds VALUES ('ref-9', 'sold', 1, 'USD')"),
    ("payments-agree", "DELETE FROM return_refunds WHERE saga_id = 'lost'"),
    ("returns-priced-right", "UPDATE returns SET refund_minor = 300, points_minor = 300 WHERE return_id = 'back'"),
    ("returns-priced-right", "UPDATE returns SET points = 31 WHERE return_id = 'lost'"),
    ("returns-priced-right", "UPDATE returns SET points_minor = 31 WHERE return_id = 'lost'"),
    ("returns-priced-right", "UPDATE returns SET points_minor = -1 WHERE return_id = 'lost'"),
    ("returns-priced-right", "UPDATE returns SET currency = 'KWD' WHERE return_id = 'way'"),
    ("returns-priced-right", "UPDATE returns SET refund_minor = 181 WHERE return_id = 'way'"),
    ("returns-priced-right", "UPDATE returns SET points = 19 WHERE return_id = 'way'"),
    ("returns-priced-right", "UPDATE returns SET points_minor = 19 WHERE return_id = 'way'"),
    ("refunded-as-returned", "DELETE FROM return_refunds WHERE saga_id = 'back'"),
    ("refunded-as-returned", "UPDATE return_refunds SET amount_minor = 539 WHERE saga_id = 'back'"),
    ("refunded-as-returned", "UPDATE refunds SET amount_minor = 539 WHERE id = 'ref-b'"),
    ("refunded-as-returned", "UPDATE refunds SET currency = 'KWD' WHERE id = 'ref-b'"),
    ("refunded-as-returned", "UPDATE refunds SET saga_id = 'confirmed' WHERE id = 'ref-b'"),
    ("refunded-as-returned", "UPDATE return_refunds SET refund_id = NULL WHERE saga_id = 'back'"),
    ("refunded-as-returned", "UPDATE return_refunds SET refund_id = 'ref-b'"),
    ("refunded-as-returned", "UPDATE return_refunds SET order_id = 'confirmed' WHERE saga_id = 'back'"),
    ("refunded-as-returned", "INSERT INTO return_refunds VALUES ('kept', 'sold', 0, 'USD', NULL)"),
    ("refunded-as-returned", "INSERT INTO return_refunds VALUES ('way', 'sold', 179, 'USD', 'ref-w')"),
    ("refunded-as-returned", "INSERT INTO return_refunds VALUES ('nobody', 'sold', 0, 'USD', NULL)"),
    ("refunded-as-returned", "UPDATE collections SET refund_minor = 539 WHERE saga_id = 'back'"),
    ("credited-as-returned", "DELETE FROM credits WHERE saga_id = 'back'"),
    ("credited-as-returned", "UPDATE credits SET points = 59 WHERE saga_id = 'back'"),
    ("credited-as-returned", "UPDATE credits SET customer_id = 'ann' WHERE saga_id = 'back'"),
    ("credited-as-returned", "INSERT INTO credits VALUES ('kept', 'sold', 'eve', 20)"),
    ("credited-as-returned", "INSERT INTO credits VALUES ('way', 'sold', 'eve', 19)"),
    ("credited-as-returned", "INSERT INTO credits VALUES ('nobody', 'sold', 'eve', 1)"),
    ("points-conserved", "UPDATE credits SET points = 61 WHERE saga_id = 'back'"),
    ("points-conserved", "INSERT INTO credits VALUES ('nobody', 'sold', 'stranger', 1)"),
    ("restocked-as-arrived", "DELETE FROM restocks WHERE sku = 'cup'"),
    ("restocked-as-arrived", "UPDATE restocks SET units = 2 WHERE sku = 'mug'"),
    ("restocked-as-arrived", "INSERT INTO restocks VALUES ('lost', 'mug', 1)"),
    ("restocked-as-arrived", "INSERT INTO restocks VALUES ('kept', 'mug', 1)"),
    ("restocked-as-arrived", "INSERT INTO restocks VALUES ('way', 'mug', 1)"),
    ("restocked-as-arrived", "INSERT INTO restocks VALUES ('nobody', 'mug', 1)"),
    ("stock-conserved", "UPDATE restocks SET units = 2 WHERE sku = 'mug'"),
    ("stock-conserved", "INSERT INTO restocks VALUES ('back', 'hat', 1)"),
    ("parcels-are-the-returns", "DELETE FROM collections WHERE saga_id = 'back'"),
    ("parcels-are-the-returns", "UPDATE collections SET state = 'NOT_COLLECTED' WHERE saga_id = 'back'"),
    ("parcels-are-the-returns", "UPDATE collections SET state = 'ARRIVED' WHERE saga_id = 'lost'"),
    ("parcels-are-the-returns", "UPDATE pickups SET state = 'accepted' WHERE saga_id = 'back'"),
    ("parcels-are-the-returns", "UPDATE pickups SET saga_id = 'way' WHERE saga_id = 'back'"),
    ("parcels-are-the-returns", "UPDATE pickups SET lines = 'another' WHERE saga_id = 'back'"),
    ("parcels-are-the-returns", "UPDATE pickups SET state = 'lost' WHERE saga_id = 'kept'"),
    ("parcels-are-the-returns", "UPDATE pickups SET state = 'accepted' WHERE saga_id = 'kept'"),
    ("parcels-are-the-returns", "UPDATE pickups SET state = 'collected' WHERE saga_id = 'kept'"),
    (
        "parcels-are-the-returns",
        "UPDATE pickups SET state = 'arrived' WHERE saga_id = 'kept'; INSERT INTO pieces VALUES ('col-k', 'mug', 0, 1)",
    ),
    ("parcels-are-the-returns", "INSERT INTO pickups VALUES ('col-9', 'sold', 'accepted', 'mugs')"),
    ("parcels-are-the-returns", "INSERT INTO pickups VALUES ('col-9', 'lost', 'arrived', 'a mug')"),
    ("parcels-are-the-returns", "INSERT INTO pieces VALUES ('col-b', 'hat', 1, 0)"),
    ("parcels-are-the-returns", "UPDATE collected SET damaged = 0 WHERE sku = 'mug'"),
    ("parcels-are-the-returns", "DELETE FROM collected WHERE sku = 'cup'"),
    ("posted-as-returned", "DELETE FROM ledger WHERE saga_id = 'back'"),
    ("posted-as-returned", "UPDATE ledger SET receivable_minor = -539 WHERE saga_id = 'back'"),
    ("posted-as-returned", "UPDATE ledger SET points_minor = -59 WHERE saga_id = 'back'"),
    ("posted-as-returned", "UPDATE ledger SET debit_minor = 601, credit_minor = 601 WHERE saga_id = 'back'"),
    ("posted-as-returned", "UPDATE ledger SET currency = 'KWD' WHERE saga_id = 'back'"),
    ("posted-as-returned", "UPDATE ledger SET saga_id = 'kept' WHERE saga_id = 'back'"),
    ("posted-as-returned", "UPDATE ledger SET saga_id = 'way' WHERE saga_id = 'back'"),
    ("ledger-is-the-gateways", "UPDATE ledger SET receivable_minor = -539 WHERE saga_id = 'back'"),
    ("ledger-is-the-gateways", "DELETE FROM ledger WHERE saga_id = 'back'"),
]
