"""A timeline as a tree: every entry once, each under its cause, whatever the entries are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from baraza import timeline

START = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


def entry(name: str, after_s: float, cause: str | None = None, **more: Any) -> dict[str, Any]:
    """Return an entry as the tracker's API does."""
    return {
        "message_id": name,
        "causation_id": cause,
        "occurred_at": (START + timedelta(seconds=after_s)).isoformat(),
        "kind": "event",
        "type": name,
        "service": "payment",
        **more,
    }


def drawn(*entries: dict[str, Any]) -> list[str]:
    """Return the titles with their branches."""
    return [line.title for line in timeline.lines(entries)]


def test_a_chain_has_no_branches_and_a_fork_has() -> None:
    assert drawn(
        entry("InventoryReleased", 5, "ReleaseInventory", kind="reply"),
        entry("OrderSubmitted", 0),
        entry("PaymentAuthorized", 1, "OrderSubmitted"),
        entry("ShipmentRejected", 2, "PaymentAuthorized"),
        entry("ReleaseInventory", 3, "PaymentAuthorized", kind="command"),
    ) == [
        "OrderSubmitted",
        "PaymentAuthorized",
        "├ ShipmentRejected",
        "└ → ReleaseInventory",
        "  ← InventoryReleased",
    ]


def test_an_entry_whose_cause_is_unknown_is_a_root() -> None:
    assert drawn(entry("late", 1, "never recorded"), entry("OrderSubmitted", 0)) == ["OrderSubmitted", "late"]


def test_a_line_shows_time_attempt_lateness_and_detail() -> None:
    booked = entry("ShipmentBooked", 21.5, late=True, attempt=2, step="book_shipment", detail="after its time")

    line = timeline.lines([entry("OrderSubmitted", 0), booked])[-1].render(14)

    assert line == "  +21.500  ShipmentBooked  payment book_shipment  attempt 2 · LATE · after its time"


def test_freshness_names_the_time_up_to_which_the_timeline_is_complete() -> None:
    sentence = timeline.freshness({"as_of": "2026-11-21T10:00:00.123456Z", "lag_s": 0.2})

    assert sentence == "Everything that happened before 2026-11-21T10:00:00.123Z is shown."


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.floats(0, 60)), max_size=30, unique_by=lambda e: e[0])
)
def test_every_entry_is_in_the_tree_once(edges: list[tuple[int, int, float]]) -> None:
    entries = [entry(str(name), after_s, str(cause)) for name, cause, after_s in edges]

    assert sorted(line.entry["message_id"] for line in timeline.lines(entries)) == sorted(str(n) for n, _, _ in edges)


def test_a_heading_shows_the_subject_the_reason_and_the_outcome_that_is_open() -> None:
    saga = {"type": "payout", "saga_id": "s1", "subject": "m-7", "state": "IN_DOUBT", "step": "send_payout"}
    doubt = {"cause": "CANCELLED", "reason": "support-7: asked", "awaits_since": "2026-11-29T10:02:00+00:00"}
    assert timeline.heading({**saga, **doubt}).splitlines() == [
        "payout s1 · m-7 · IN_DOUBT",
        "cancelled: support-7: asked",
        "waits for the outcome of send_payout, open since 2026-11-29T10:02:00Z",
    ]
    assert timeline.heading({**saga, "subject": None, "state": "PENDING"}) == "payout s1 · PENDING"


def test_a_heading_shows_a_contradiction_until_it_is_settled_and_then_by_whom() -> None:
    saga = {"type": "payout", "saga_id": "s1", "state": "INCIDENT", "contradicted_at": "2026-11-29T10:02:00+00:00"}
    settled = {"settled_at": "2026-11-29T11:00:00.5+00:00", "settled_by": "ops-1"}
    assert timeline.heading(saga).splitlines()[1:] == [
        "contradicted since 2026-11-29T10:02:00Z, not settled: a provider did otherwise than it had reported"
    ]
    assert timeline.heading({**saga, **settled}).splitlines()[1:] == [
        "contradicted since 2026-11-29T10:02:00Z, settled by ops-1 at 2026-11-29T11:00:00Z"
    ]


def test_a_timeline_names_the_sagas_that_refer_to_it() -> None:
    order, newer, older = (
        {"saga_id": name, "type": kind, "state": state, "started_at": START.isoformat()}
        for name, kind, state in (
            ("an order", "order", "CONFIRMED"),
            ("return 2", "return_order", "PENDING"),
            ("return 1", "return_order", "CONFIRMED"),
        )
    )
    written: list[str] = []
    found = {"saga": order, "entries": [entry("OrderSubmitted", 0)], "freshness": {"as_of": START.isoformat()}}
    timeline.write(found, written.append, [newer, older])
    assert written[-3:-1] == [
        "refers to it: return_order return 1 · CONFIRMED",
        "refers to it: return_order return 2 · PENDING",
    ]
