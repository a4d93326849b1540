"""What people see of a dead letter: its form, ids and amounts, and nothing that may be personal."""

from __future__ import annotations

import json

from chassis.wire.envelope import new_id
from messages import checkout
from saga_tracker.model.masking import HEADERS_MAX, LENGTH_MAX, MASK, masked, shown_headers
from support.tracker_peers import message


def test_names_addresses_telephones_and_customers_are_masked_and_ids_and_amounts_are_not() -> None:
    saga_id = new_id()
    address = checkout.Address(
        name="Wanjiru Kamau", street="Moi Avenue 1", city="Nairobi", postal_code="00100", country="KE", street_2=None,
        region=None, phone="+254700000001",
    )  # fmt: skip
    order = message(
        checkout.OrderSubmitted, saga_id, customer_id="wanjiru@example.com", ship_to=address, payment_token="tok_1",
        total_minor=12_345_678, currency="KES",
    )  # fmt: skip
    text = masked(order)
    assert text is not None
    for personal in ("Wanjiru", "Moi", "Nairobi", "254", "example.com", "tok_1"):
        assert personal not in text
    shown = json.loads(text)
    assert (shown["saga_id"], shown["total_minor"], shown["currency"]) == (saga_id, 12_345_678, "KES")
    assert shown["ship_to"]["name"] == MASK
    assert shown["ship_to"]["street_2"] is None, "that a field is missing is shown"
    assert shown["lines"][0]["quantity"] == 1


def test_a_message_too_long_to_read_is_left_out_and_headers_are_limited() -> None:
    lines = tuple(checkout.OrderLine(sku=f"sku-{n}", quantity=1, unit_price_minor=1) for n in range(LENGTH_MAX // 20))
    assert masked(message(checkout.OrderSubmitted, new_id(), lines=lines)) is None
    shown = json.loads(shown_headers([("traceparent", b"00"), *[(f"h{n}", b"\xff\x00") for n in range(99)]]))
    assert len(shown) == HEADERS_MAX
    assert shown[0] == ["h0", "\\xff"], "no byte that PostgreSQL refuses, and no trace"
