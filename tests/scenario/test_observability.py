"""What operators see: one trace for each order, and metrics that agree with the orders."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from support.collector import Collector, RecordedSpan
from support.shop import Shop
from support.waiting import until

COMPENSATED = {
    "POST /v1/orders", "OrderSubmitted", "call authorize_payment", "PaymentAuthorized", "InventoryReserved",
    "LoyaltyPointsBurned", "call book_shipment", "ShipmentRejected", "RestoreLoyaltyPoints", "LoyaltyPointsRestored",
    "ReleaseInventory", "InventoryReleased", "RefundPayment", "PaymentRefunded", "OrderFailed",
}  # fmt: skip


def test_a_compensated_order_is_one_trace_from_the_request_to_the_last_event(shop: Shop, collector: Collector) -> None:
    order = shop.place(postal_code="UNDELIVERABLE", points=3)
    shop.outcome(order.order_id)

    spans = until(
        lambda: collector.of_saga(order.order_id),
        "every span of the order arrives",
        holds=lambda found: {span.name for span in found} >= COMPENSATED,
    )

    assert len({span.trace_id for span in spans}) == 1
    by_id = {span.span_id: span for span in spans}
    roots = [span.name for span in spans if span.parent_id not in by_id]
    assert roots == ["POST /v1/orders"]
    assert {span.service for span in spans} == {
        "checkout", "payment", "inventory", "loyalty", "shipping", "saga-tracker",
    }  # fmt: skip
    assert _parents(by_id, spans, "PaymentAuthorized") == {"OrderSubmitted"}
    assert _parents(by_id, spans, "LoyaltyPointsRestored") == {"RestoreLoyaltyPoints"}


def test_a_repeated_call_links_to_the_one_before_it(shop: Shop, collector: Collector) -> None:
    token = "tok_repeated_once"
    shop.fault("gateway", operation="authorize", kind="error", times=1, match=token)
    order = shop.place(token=token)
    shop.outcome(order.order_id)

    calls = until(
        lambda: [span for span in collector.of_saga(order.order_id) if span.name == "call authorize_payment"],
        "both calls arrive",
        holds=lambda found: len(found) >= 2,
    )

    first, second = sorted(calls, key=lambda span: int(span.attributes["baraza.attempt"]))
    assert first.failed
    assert not second.failed
    assert second.links == (first.span_id,)


def test_the_metrics_agree_with_the_orders(shop: Shop) -> None:
    before = ended(shop)
    orders = [shop.place(), shop.place(token="tok_declined")]
    for order in orders:
        shop.outcome(order.order_id)

    counted = sum(before.values()) + len(orders)
    after = until(
        lambda: ended(shop), "both ended orders are counted", holds=lambda found: sum(found.values()) >= counted
    )

    assert after["CONFIRMED"] == before["CONFIRMED"] + 1
    assert after["CANCELLED_COMPENSATED"] == before["CANCELLED_COMPENSATED"] + 1
    assert ("authorize_payment", "PaymentDeclined") in answered(shop, "payment")
    assert ("post_ledger", "LedgerPosted") in answered(shop, "ledger")
    assert {value for _, value in samples(shop, "ledger", "baraza_ledger_imbalance_minor")} <= {0.0}
    routes = {labels["route"] for labels, _ in samples(shop, "checkout", "baraza_http_request_seconds_count")}
    assert "/v1/orders" in routes
    assert not [route for route in routes if orders[0].order_id in route]
    for service in ("payment", "inventory", "shipping", "ledger", "saga-tracker"):
        assert [value for _, value in samples(shop, service, "baraza_outbox_age_seconds")] != []


def ended(shop: Shop) -> dict[str, float]:
    """Return the tracker's count of ended orders, by state."""
    found = {"CONFIRMED": 0.0, "CANCELLED_COMPENSATED": 0.0}
    for labels, value in samples(shop, "saga-tracker", "baraza_sagas_ended_total"):
        found[labels["state"]] += value
    return found


def answered(shop: Shop, service: str) -> set[tuple[str, str]]:
    """Return the step results that a service has counted at least once, by step and type."""
    found = samples(shop, service, "baraza_step_answers_total")
    return {(labels["step"], labels["type"]) for labels, value in found if value}


def samples(shop: Shop, service: str, name: str) -> list[tuple[dict[str, str], float]]:
    """Return a metric of a service as Prometheus reads it."""
    answer = shop.http.get(f"{shop.stack.endpoints.url(service)}/metrics")
    families: Any = text_string_to_metric_families(answer.text)
    return [(sample.labels, sample.value) for family in families for sample in family.samples if sample.name == name]


def _parents(by_id: dict[str, RecordedSpan], spans: list[RecordedSpan], name: str) -> set[str]:
    """Return the names of the spans that caused those of this name: several, where a command was repeated."""
    return {by_id[span.parent_id].name for span in spans if span.name == name}
